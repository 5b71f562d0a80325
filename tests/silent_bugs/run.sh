#!/usr/bin/env bash
# Are the tests against silent bugs worth their names? Puts the bugs of bugs.txt into a copy of the tree, one at a time,
# and demands that the tests that are named there fail.
#   run.sh TREE [ID ...]          all bugs, or these; works in TREE/build/silent_bugs, where the logs stay
#   run.sh TREE --check PROGRAMS  builds nothing: is each text in the tree exactly once, and does each filter name tests
#                                 of the programs in the folder PROGRAMS?
# A bug is seen when its tests fail by an assertion: a program that ends otherwise proves nothing, nor one that does not
# compile. Exit status: 0 all were seen; 1 some were not, or the list does not fit the tree.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "$1" && pwd)
shift

ids=() titles=() files=() programs=() filters=() froms=() tos=()
read_list() {
  local line part='' n=0 last=-1
  while IFS= read -r line; do
    n=$((n + 1))
    case $line in
      '' | '#'*) ;;
      'bug: '*' '*)
        line=${line#bug: } last=$((last + 1)) part=''
        ids+=("${line%% *}") titles+=("${line#* }") files+=('') programs+=('') filters+=('') froms+=('') tos+=('')
        ;;
      'file: '*) files[last]=${line#file: } ;;
      'test: '*' '*) line=${line#test: } programs[last]=${line%% *} filters[last]=${line#* } ;;
      from: | to:) part=${line%:} ;;
      '|'*)
        if [ "$part" = from ]; then froms[last]+=${line#|}$'\n'; else tos[last]+=${line#|}$'\n'; fi
        ;;
      *) echo "bugs.txt:$n: '$line' was found, a line of an entry was expected" >&2; exit 1 ;;
    esac
  done <"$here/bugs.txt"
  local b
  for b in "${!ids[@]}"; do
    froms[b]=${froms[b]%$'\n'} tos[b]=${tos[b]%$'\n'}
    [ -n "${froms[b]}" ] && [ -n "${files[b]}" ] && [ -n "${filters[b]}" ] && [ "${froms[b]}" != "${tos[b]}" ] ||
      { echo "bugs.txt: entry ${ids[b]} is not complete" >&2; exit 1; }
  done
  [ ${#ids[@]} -gt 0 ]
}

occurrences() {  # TEXT PART
  local rest=${1//"$2"/}
  echo $(((${#1} - ${#rest}) / ${#2}))
}

found_once() {  # BUG: its text, in the tree
  local b=$1 n=0
  [ ! -f "$tree/${files[b]}" ] || n=$(occurrences "$(<"$tree/${files[b]}")" "${froms[b]}")
  [ "$n" = 1 ] || { echo "FAILED  ${ids[b]}: its text is $n times in ${files[b]}, once was expected"; return 1; }
}

read_list

if [ "${1-}" = --check ]; then
  status=0
  for b in "${!ids[@]}"; do
    found_once "$b" || status=1
    IFS=: read -ra parts <<<"${filters[b]}"
    for part in "${parts[@]}"; do
      tests=$("$2/${programs[b]}" --gtest_list_tests --gtest_filter="$part")
      [[ $tests = *$'\n  '* ]] ||  # names are indented below their suite
        { echo "FAILED  ${ids[b]}: ${programs[b]} has no test $part"; status=1; }
    done
  done
  [ $status != 0 ] || echo "${#ids[@]} bugs: each text is in the tree once, and each filter names tests"
  exit $status
fi

chosen=()
for b in "${!ids[@]}"; do
  [ $# -gt 0 ] && [[ " $* " != *" ${ids[b]} "* ]] || chosen+=("$b")
done
[ ${#chosen[@]} -ge $# ] && [ ${#chosen[@]} -gt 0 ] || { echo "not all of '$*' are in bugs.txt" >&2; exit 1; }

work=$tree/build/silent_bugs copy=$tree/build/silent_bugs/tree build=$tree/build/silent_bugs/tree/build/cpu
rm -rf "$work"
mkdir -p "$copy"
tar -C "$tree" -cf - CMakeLists.txt CMakePresets.json kernels parallel framework launch tests recipes | tar -C "$copy" -xf -
export CCACHE_BASEDIR=$copy CCACHE_NOHASHDIR=1  # what another copy compiled serves this one

configure() {
  local arguments=(--preset cpu -S "$copy")
  ! command -v ccache >/dev/null || arguments+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  (cd "$copy" && cmake "${arguments[@]}")
}
build() { ninja -C "$build" -j "$(nproc)" "$@"; }
run_tests() {  # BUG LOG: the status of its tests
  local status=0
  timeout 600 "$build/bin/${programs[$1]}" --gtest_filter="${filters[$1]}" --gtest_brief=1 >"$2" 2>&1 || status=$?
  return $status
}
passed() { awk '/^\[  PASSED  \] [0-9]+ test/ { n = $4 } END { print n + 0 }' "$1"; }
all_pass() {  # or ends
  local b log
  for b in "${chosen[@]}"; do
    log=$work/${ids[b]}-without.log
    run_tests "$b" "$log" && [ "$(passed "$log")" -gt 0 ] ||
      { tail -n 40 "$log"; echo "FAILED  ${ids[b]}: without the bug its tests have to pass"; exit 1; }
  done
}

needed=()
for b in "${chosen[@]}"; do
  found_once "$b" || exit 1
  [[ " ${needed[*]-} " = *" ${programs[b]} "* ]] || needed+=("${programs[b]}")
done
{ configure && build "${needed[@]}"; } >"$work/build.log" 2>&1 || { tail -n 40 "$work/build.log"; exit 1; }
all_pass
echo "without a bug all tests pass"

seen=0
for b in "${chosen[@]}"; do
  begun=$SECONDS file=$copy/${files[b]} log=$work/${ids[b]}.log
  original=$(<"$file")
  printf '%s\n' "${original/"${froms[b]}"/"${tos[b]}"}" >"$file"
  if ! build "${programs[b]}" >"$work/${ids[b]}-build.log" 2>&1; then
    result="FAILED  does not compile ($work/${ids[b]}-build.log)"
  else
    status=0
    run_tests "$b" "$log" || status=$?
    red=$(sed -n 's/^\[  FAILED  \] \([A-Za-z][^ ,]*\).*/\1/p' "$log" | sort -u | paste -sd ' ')
    assertions=$(grep -cE "^[^ ]+:[0-9]+: Failure\$" "$log" || true)  # an exception has no line
    if [ $status = 0 ]; then
      result="FAILED  nobody saw it"
    elif [ $status = 1 ] && [ -n "$red" ] && [ "$assertions" -gt 0 ]; then
      result="seen    by $red, $assertions assertions" seen=$((seen + 1))
    else
      result="FAILED  the tests ended with status $status and no failed assertion ($log)"
    fi
  fi
  printf '%s\n' "$original" >"$file"
  printf '%-3s %s: %s (%d s)\n' "${ids[b]}" "$result" "${titles[b]}" $((SECONDS - begun))
done
# Nothing of a bug stayed behind to be blamed for the next.
build "${needed[@]}" >"$work/build-again.log" 2>&1 || { tail -n 40 "$work/build-again.log"; exit 1; }
all_pass
echo "$seen of ${#chosen[@]} bugs were seen"
[ $seen = ${#chosen[@]} ]
