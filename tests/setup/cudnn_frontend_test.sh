#!/usr/bin/env bash
# launch/cudnn_frontend in a tree of its own, with a Python that plays pip: brings headers once, and says what is missing.
set -uo pipefail
cd "$(dirname "$0")/../.."
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir "$tree/launch" "$tree/bin"
cp launch/cudnn_frontend "$tree/launch/"
cat >"$tree/bin/python3" <<'PYTHON'
#!/usr/bin/env bash
case "$2 $3" in
  "pip --version") [ "${pip:-there}" = there ] ;;
  "pip download")
    [ "${index:-there}" = there ] || { echo "no index"; exit 1; }
    while [ "$1" != --dest ]; do shift; done
    touch "$2/frontend.whl"
    echo "download" >>"$calls" ;;
  "zipfile -e") mkdir -p "$5/include" && touch "$5/include/${header:-cudnn_frontend.h}" ;;
esac
PYTHON
chmod +x "$tree/bin/python3"
export calls=$tree/calls

failures=0
run() {  # STATUS TEXT [VARIABLE=VALUE...]
  local expected=$1 text=$2 said status
  shift 2
  said=$(env PATH="$tree/bin:$PATH" "$@" "$tree/launch/cudnn_frontend" 2>&1)
  status=$?
  [ $status = "$expected" ] || { echo "FAILED: exit status $status, $expected was expected: $said"; failures=$((failures + 1)); }
  grep -q -- "$text" <<<"$said" || { echo "FAILED: '$text' was expected in: $said"; failures=$((failures + 1)); }
}
run 3 "error: cuDNN's frontend: no pip was found" pip=missing
run 3 "error: cuDNN's frontend: pip brought nothing" index=missing
run 3 "a wheel without include/cudnn_frontend.h was found" header=other.h
[ ! -e "$tree/build/cudnn_frontend" ] || { echo "FAILED: something was left"; failures=$((failures + 1)); }
run 0 "was brought to build/cudnn_frontend"
[ -e "$tree/build/cudnn_frontend/include/cudnn_frontend.h" ] || { echo "FAILED: no header"; failures=$((failures + 1)); }
run 0 "is there" index=missing
[ "$(wc -l <"$calls")" = 2 ] || { echo "FAILED: it was brought twice"; failures=$((failures + 1)); }
[ "$(ls "$tree/build")" = cudnn_frontend ] || { echo "FAILED: left in build: $(ls "$tree/build")"; failures=$((failures + 1)); }
exit $((failures > 0))
