#!/usr/bin/env bash
# Builds a preset with a sanitizer and runs the suites that it is for: run.sh TREE asan|tsan [SUITE ...].
#   asan  addresses, undefined behaviour, leaks, the library's assertions: kernels, recipe, parsers, checkpoint, schedules, dispatch and what is below them
#   tsan  data races: the pool, ranks that are threads (data, dispatch, pipelines), shared encoding, background saves, and a whole run with them
# A suite is a test program's name; several processes share its tests. Logs: build/PRESET/sanitizers. Exit status: 0 nothing was found.
set -euo pipefail
tree=$(cd "$1" && pwd) preset=$2
shift 2
cd "$tree"
build=build/$preset logs=build/$preset/sanitizers
export TMPDIR=${TMPDIR:-/tmp}

# Suites: program and filter. What is left out, and why, stands beside it.
case $preset in
  asan)
    suites=(
      "test_recipe *" "test_tokenizer *" "test_data *" "test_corpus *" "test_ledger *" "test_telemetry *" "test_run *" "test_checkpoint *"
      "test_kernels *" "test_model *" "test_schedule *" "test_dispatch -Long/*"
    )
    canaries=(heap shift cast index)
    export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1:check_initialization_order=1:detect_leaks=1
    export UBSAN_OPTIONS=print_stacktrace=1 LSAN_OPTIONS=suppressions=$tree/tests/sanitizers/leaks.supp:print_suppressions=0
    preload=
    ;;
  tsan)
    suites=(
      "test_parallel *" "test_data *" "test_corpus *"
      "test_kernels ThreadPool.*:Timeline.*:*Threads*:*Stream*"
      "test_checkpoint Background.*:RoundTrip.*:Folder.*:Fault.*Rank1:Damage.Resume*"
      "test_run Status.*:Lease.*:Signals.*"
      "test_train DataParallel.*:Families/*:Recompute.*:Offload.*:*NonFinite*"
      "test_steady *" "test_dispatch -Long/*" "test_pipeline *" "test_late *"
    )
    canaries=(race)
    export TSAN_OPTIONS="second_deadlock_stack=1 die_after_fork=0"
    preload=$tree/build/tsan/tests/sanitizers/libsanitizer_clocklock.so
    ;;
  *)
    echo "run.sh: '$preset' was found, asan or tsan was expected" >&2
    exit 2
    ;;
esac
programs=()
for suite in "${suites[@]}"; do programs+=("${suite%% *}"); done
[ "$preset" != tsan ] || programs+=(fourmi sanitizer_clocklock)

arguments=(--preset "$preset")
! command -v ccache >/dev/null || arguments+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
mkdir -p "$logs"
{ [ -e "$build/build.ninja" ] || cmake "${arguments[@]}"; } >"$logs/configure.log" 2>&1 || { tail -n 20 "$logs/configure.log"; exit 1; }
ninja -C "$build" -j "$(nproc)" sanitizer_canary "${programs[@]}" >"$logs/build.log" 2>&1 || { tail -n 40 "$logs/build.log"; exit 1; }

status=0
for fault in "${canaries[@]}"; do
  if "$build/bin/sanitizer_canary" "$fault" >"$logs/canary-$fault.log" 2>&1; then
    echo "FAILED  nobody saw a fault made on purpose: $fault"
    status=1
  fi
done

# One suite in as many processes as there are cores.
run_suite() {  # PROGRAM FILTER
  local program=$1 filter=$2 shards shard failed=0 jobs=() begun=$SECONDS
  shards=$(nproc)
  for ((shard = 0; shard < shards; ++shard)); do
    GTEST_TOTAL_SHARDS=$shards GTEST_SHARD_INDEX=$shard LD_PRELOAD=$preload "$build/bin/$program" --gtest_filter="$filter" --gtest_brief=1 \
      >"$logs/$program-$shard.log" 2>&1 9>&- &
    jobs+=($!)
  done
  for shard in "${!jobs[@]}"; do
    wait "${jobs[shard]}" || {
      failed=1
      grep -E '^SUMMARY|runtime error|^\[  FAILED' "$logs/$program-$shard.log" | sort | uniq -c || true
      tail -n 60 "$logs/$program-$shard.log"
    }
  done
  local ran
  ran=$(cat "$logs/$program"-*.log | awk '/^\[  PASSED  \]/ { n += $4 } END { print n + 0 }')
  [ "$ran" -gt 0 ] || failed=1
  printf '%-7s %-16s %5d tests passed in %4d s\n' "$([ $failed = 0 ] && echo ok || echo FAILED)" "$program" "$ran" $((SECONDS - begun))
  [ $failed = 0 ] || status=1
}
for suite in "${suites[@]}"; do
  [ $# = 0 ] || [[ " $* " = *" ${suite%% *} "* ]] || continue
  run_suite "${suite%% *}" "${suite#* }"
done

# A run as a user starts it: two threads, a save every other step that the steps do not wait for.
if [ "$preset" = tsan ] && { [ $# = 0 ] || [[ " $* " = *" fourmi "* ]]; }; then
  run=$(mktemp -d "$TMPDIR/fourmi-sanitizer-XXXXXX")
  trap 'rm -rf "$run"' EXIT
  train() { LD_PRELOAD=$preload "$build/bin/fourmi" train tests/end_to_end/small.yaml run.directory="$run" run.threads=2 checkpoint.every=2 "$@"; }
  if train run.steps=20 >"$logs/fourmi.log" 2>&1 && train run.steps=30 >>"$logs/fourmi.log" 2>&1; then
    echo "ok      fourmi           trained 20 steps, went on to 30"
  else
    tail -n 80 "$logs/fourmi.log"
    echo "FAILED  fourmi"
    status=1
  fi
fi
exit $status
