#!/usr/bin/env bash
# launch/bundle: what it makes runs in a root that has nothing but it, read-only, /proc, /dev and /tmp.
#   bundle_test.sh TREE BUILD
# Exit status 77: no such root can be made here (it takes root, or user namespaces).
set -uo pipefail
tree=$1 build=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0
failed() { echo "FAILED: $*"; failures=$((failures + 1)); }

space=(unshare --mount)
[ "$(id -u)" = 0 ] || space=(unshare --mount --map-root-user)
if ! "${space[@]}" true 2>/dev/null; then
  echo "no mount namespace can be made here"
  exit 77
fi

"$tree/launch/bundle" --folder --build "$build" --output "$scratch/made" || { echo "FAILED: launch/bundle"; exit 1; }
# Moved: where it was made is gone.
mkdir -p "$scratch"/root/{proc,dev,tmp,moved}
mv "$scratch"/made/fourmi-*-linux-x86_64 "$scratch/root/moved/bundle"

inside() {  # EXIT-STATUS COMMAND...: in the root; what it says is in $said
  local wanted=$1 got
  shift
  said=$("${space[@]}" bash -c '
    root=$1; shift
    mount --rbind /proc "$root/proc" && mount --rbind /dev "$root/dev" &&
      mount --bind "$root/moved" "$root/moved" && mount -o remount,ro,bind "$root/moved" || exit 99
    exec timeout 60 chroot "$root" "$@"' - "$scratch/root" "$@" 2>&1)
  got=$?
  [ $got = "$wanted" ] || failed "exit status $got, $wanted was expected of $*: $said"
}
expect() { grep -q -- "$1" <<<"$said" || failed "'$1' was expected in: $said"; }

bin=/moved/bundle/bin
inside 0 $bin/fourmi --version
expect "^fourmi $(sed -n 's/^project(fourmi VERSION \([0-9.]*\).*/\1/p' "$tree/CMakeLists.txt")"
inside 0 $bin/fourmi --help
inside 0 $bin/fourmi doctor
expect "nothing that training needs is missing"
inside 2 $bin/fourmi frobnicate

# A recipe and a text of the bundle; two ranks by its own mpirun; the second launch goes on where the first ended.
train=(train /moved/bundle/recipes/tiny.yaml data.train.gcide.path=/moved/bundle/corpus/gcide.dict.dz run.directory=/tmp/run
  model.num_hidden_layers=2 data.global_batch_size=4 evaluation.every=1000 evaluation.at_end=false)
inside 0 $bin/fourmi "${train[@]}" run.steps=1
inside 0 $bin/mpirun -n 2 $bin/fourmi "${train[@]}" run.steps=2
[ "$(wc -l <"$scratch/root/tmp/run/metrics.jsonl")" = 2 ] || failed "two steps were expected in metrics.jsonl"
[ "$(sed -n 2p "$scratch/root/tmp/run/metrics.jsonl" | grep -c '"launch":2')" = 1 ] || failed "step 2 of launch 2 was expected"

inside 3 $bin/fourmi gpu-check
expect "^fourmi: error: .*GPU"

# Every file is listed, and as it is listed; every licence that the list promises is there.
(cd "$scratch/root/moved/bundle" && sed -n '/^Files:/,$s/^  //p' CONTENTS | sha256sum --quiet -c) || failed "CONTENTS"
listed=$(sed -n '/^Files:/,$s/^  //p' "$scratch/root/moved/bundle/CONTENTS" | wc -l)
[ "$listed" = "$(cd "$scratch/root/moved/bundle" && find . -type f ! -name CONTENTS | wc -l)" ] || failed "$listed files are listed"
while read -r _ package _; do
  [ -s "$scratch/root/moved/bundle/licences/$package" ] || failed "no licence of $package"
done < <(sed -n '/^Libraries/,/^Files/s/^  //p' "$scratch/root/moved/bundle/CONTENTS")

# A part that is gone is an error that says so.
rm "$scratch/root/moved/bundle/lib/system/ld-linux-x86-64.so.2"
inside 3 $bin/fourmi --version
expect "the bundle's loader was expected"
"$tree/launch/bundle" --build /nowhere >/dev/null 2>&1
[ $? = 3 ] || failed "a build that is not there is exit 3"
"$tree/launch/bundle" --wrong >/dev/null 2>&1
[ $? = 2 ] || failed "a wrong argument is exit 2"

[ $failures = 0 ] && echo "all passed"
exit $failures
