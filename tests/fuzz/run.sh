#!/usr/bin/env bash
# Fuzzes one target: run.sh TREE NAME SECONDS [FOUND]. Begins from the corpus in the tree, works in a folder of its own in memory; an
# input that breaks the target is kept in build/fuzz/broken and named. FOUND: a folder that keeps what was found and that the next run
# begins from too (without it what was found is forgotten).
set -euo pipefail
tree=$1 name=$2 seconds=$3 found=${4:-}
program=$tree/build/fuzz/bin/fuzz_$name
[ -x "$program" ] || { echo "$program is absent, a fuzz target was expected: cmake --preset fuzz && cmake --build --preset fuzz"; exit 1; }
work=$(mktemp -d /dev/shm/fourmi-fuzz-run-XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir -p "${found:=$work/found}" "$tree/build/fuzz/broken"
seeds=("$tree/tests/fuzz/corpus/$name")
options=()
if [ "$name" = recipe ]; then  # what is shipped are seeds too; the fuzzer cannot guess a key's name
  seeds+=("$tree/recipes")
  sed -n 's/.*"\([a-z0-9_]*\)": {.*/"\1:"/p' "$tree/docs/recipe.schema.json" | sort -u >"$work/keys"
  options+=("-dict=$work/keys")
fi
if [ "$name" = tokenizer ]; then
  sed -n 's/[^"]*"\([A-Za-z_]*\)"[^"]*/"\1"\n/gp' "$tree"/framework/tokenizer/read_*.cpp | grep -x '"[A-Za-z_]*"' | grep -v '""' | sort -u >"$work/keys"
  options+=("-dict=$work/keys")
fi
cd "$work"
TMPDIR=$work "$program" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=16384 -print_final_stats=1 \
  "${options[@]}" -artifact_prefix="$tree/build/fuzz/broken/$name-" "$found" "${seeds[@]}" >log 2>&1 9>&- ||
  { tail -n 60 log; echo "broken by an input in $tree/build/fuzz/broken"; exit 1; }
grep -E '	DONE |stat::number_of_executed_units|stat::new_units_added|stat::peak_rss_mb' log
