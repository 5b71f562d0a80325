# From the lines of functions.awk, with names as c++filt writes them: one line for all forms of a kernel (element types, widths), for
# kernels.txt.
BEGIN { FS = "\t" }
{
  name = $2
  sub(/^void /, "", name); gsub(/\(anonymous namespace\)::/, "", name); gsub(/fourmi::cuda::/, "", name); sub(/^hopper::/, "", name); sub(/[<(].*/, "", name)
  key = sprintf("%-24s %-24s", $1, name)
  if (!(key in forms)) order[++n] = key
  forms[key]++
  if (forms[key] == 1 || $3 < fewest[key]) fewest[key] = $3
  if ($3 > most[key]) most[key] = $3
  if ($4 > shared[key]) shared[key] = $4
  loads[key] += $7 > 0; stores[key] += $8 > 0
}
END {
  for (i = 1; i <= n; i++) {
    k = order[i]
    printf "%s %5d %6d %6d %7d %6d %6d\n", k, forms[k], fewest[k], most[k], shared[k], loads[k], stores[k]
  }
}
