#!/bin/sh
# Several tests' files as one: together.sh OUTPUT FILE... (together.cmake). All of such a file lies in one nameless namespace; here
# each gets another one around it, so that no file sees what another has named. Lines stay those of the file.
set -eu
output=$1
shift
number=0
for file; do
  number=$((number + 1))
  printf '#line 1 "%s"\n' "$file"
  sed -e "s|^namespace {\$|namespace file_$number { namespace {|" -e 's|^}  // namespace$|}}|' "$file"
done >"$output"
