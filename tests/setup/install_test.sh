#!/usr/bin/env bash
# launch/install: on a machine that lacks everything it names all of it at once and changes nothing.
set -uo pipefail
cd "$(dirname "$0")/../.."
bare=$(mktemp -d)
trap 'rm -rf "$bare"' EXIT
for tool in dirname bash sort head awk id uname env; do ln -s "$(command -v "$tool")" "$bare/$tool"; done

failures=0
check() {
  if ! grep -q -- "$1" <<<"$said"; then
    echo "FAILED: '$1' was expected in: $said"
    failures=$((failures + 1))
  fi
}
said=$(PATH=$bare launch/install --tests --no-install 2>&1)
status=$?
[ $status = 3 ] || { echo "FAILED: exit status $status, 3 was expected"; failures=$((failures + 1)); }
for what in "CMake" "Ninja" "Open MPI" "HDF5" "yaml-cpp" "OpenSSL" "GoogleTest" \
  "apt-get install -y --no-install-recommends g++ cmake ninja-build .*libopenmpi-dev openmpi-bin .*libhdf5-dev .*libgtest-dev"; do
  check "$what"
done
[ "$(wc -l <<<"$said")" = 1 ] || { echo "FAILED: one line was expected: $said"; failures=$((failures + 1)); }

# Here, where this very test was built, nothing is missing and nothing is asked for.
said=$(launch/install --tests --no-install 2>&1) || failures=$((failures + 1))
check "nothing is missing"
said=$(launch/install --wrong 2>&1)
[ $? = 2 ] || { echo "FAILED: a wrong argument is exit 2"; failures=$((failures + 1)); }
check "^fourmi: error: launch/install: '--wrong' was found"

[ $failures = 0 ] && echo "all passed"
exit $failures
