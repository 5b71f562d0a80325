#!/usr/bin/env bash
# Fuzzes one target: run.sh TREE NAME SECONDS. Begins from the corpus in the tree, works in a folder of its own in memory; an input that
# breaks the target is kept in build/fuzz/broken and named.
set -euo pipefail
tree=$1 name=$2 seconds=$3
program=$tree/build/fuzz/bin/fuzz_$name
[ -x "$program" ] || { echo "$program is absent, a fuzz target was expected: cmake --preset fuzz && cmake --build --preset fuzz"; exit 1; }
work=$(mktemp -d /dev/shm/fourmi-fuzz-run-XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/found" "$tree/build/fuzz/broken"
cd "$work"
TMPDIR=$work "$program" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=16384 -print_final_stats=1 \
  -artifact_prefix="$tree/build/fuzz/broken/$name-" found "$tree/tests/fuzz/corpus/$name" >log 2>&1 9>&- ||
  { tail -n 60 log; echo "broken by an input in $tree/build/fuzz/broken"; exit 1; }
grep -E 'stat::number_of_executed_units|stat::new_units_added' log
