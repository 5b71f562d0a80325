#!/usr/bin/env bash
# The commands of README.md run as they stand there, in order, in a folder with the tree's launch/ and recipes/ and the program.
#   readme_test.sh SOURCE PROGRAM
set -euo pipefail
source=$1 program=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
ln -s "$source/launch" "$source/recipes" .
mkdir -p build/bin
ln -s "$program" build/bin/fourmi

# The one recipe of the page, under the name that the sentence before it gives.
name=$(sed -n 's/^Save this as `\([^`]*\)`.*/\1/p' "$source/README.md")
sed -n '/^```yaml$/,/^```$/{/^```/!p}' "$source/README.md" >"$name"
[ -s "$name" ] || { echo "README.md has no recipe"; exit 1; }

count=0
while read -r command; do
  echo "+ $command"
  eval "$command" </dev/null || { echo "README.md's command ended with exit status $?: $command"; exit 1; }
  count=$((count + 1))
done < <(sed -n '/^```sh$/,/^```$/{/^```/!p}' "$source/README.md")
[ "$count" -ge 8 ] || { echo "only $count commands were found"; exit 1; }

# What the page says of them.
steps=$(wc -l <runs/licences/metrics.jsonl)
[ "$steps" = 48 ] || { echo "$steps steps, expected 48"; exit 1; }
[ "$(wc -l <runs/branch/metrics.jsonl)" = 46 ] || { echo "the branch lacks steps"; exit 1; }
# Up to its step the branch is the run, and then not the same program on other ranks but the same mathematics.
cmp <(head -n 44 runs/licences/metrics.jsonl) <(head -n 44 runs/branch/metrics.jsonl)

# Every page that it names is there, and every command that the program has is known to be named or not.
grep -o '](docs/[^)]*)' "$source/README.md" | tr -d ']()' | while read -r page; do
  [ -f "$source/$page" ] || { echo "README.md names $page, which is absent"; exit 1; }
done
echo "$count commands of README.md ran"
