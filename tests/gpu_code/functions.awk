# From what cuobjdump says of a library (-res-usage, then -sass): one line a kernel, separated by tabs.
#   file  mangled name  registers  shared bytes  local bytes (stack and local)  spilled  loads of 128 bits  stores of 128 bits
#   QGMMA  UTMALDG  WARPGROUP.ARRIVE  WARPGROUP.DEPBAR  USETMAXREG's registers, as they come, joined by commas
#   HGMMA of 128 columns  of 256  operands whose lines are contiguous: A, B, AB or -; "mixed" if not all HGMMA have the same
#   UBLKPF  acquires and releases of flags that the whole system sees  loads of 128 bits of what others write meanwhile (no cache, not constant)
/^member / { file = $2; sub(/:$/, "", file); sub(/.*:/, "", file); sub(/\.o$/, "", file) }
# -res-usage
/^ Function / { f = $2; sub(/:$/, "", f); next }
/^ +REG:/ {
  for (i = 1; i <= NF; i++) { split($i, part, ":"); value[part[1]] = part[2] }
  key = file "\t" f
  if (!(key in registers)) order[++n] = key
  registers[key] = value["REG"]; shared[key] = value["SHARED"]; memory[key] = value["STACK"] + value["LOCAL"]
  next
}
# -sass
/Function : / { key = file "\t" $3; seen[key] = 1; next }
/ (LDL|STL)[. ]/ { spilled[key]++ }
/ LDG\.E\.[A-Z0-9_.]*128/ { loads[key]++ }
/ STG\.E\.[A-Z0-9_.]*128/ { stores[key]++ }
/ QGMMA\.64x128x32\.F32\.E4M3\.E4M3 / { products[key]++ }
/ HGMMA\.64x(128|256)x16\.F32\.BF16 / {
  / HGMMA\.64x128/ ? narrow[key]++ : wide[key]++
  along = (/ gdesc\[[A-Z0-9]+\]\.tnspA/ ? "A" : "") (/tnspB/ ? "B" : "")
  if (along == "") along = "-"
  if (!(key in turned)) turned[key] = along
  if (turned[key] != along) turned[key] = "mixed"
}
/ UBLKPF\.L2 / { prefetches[key]++ }
/ LDG\.E\.64\.STRONG\.SYS / { acquires[key]++ }
/ STG\.E\.64\.STRONG\.SYS / { releases[key]++ }
/ LDG\.E\.NA\.128 / { slots[key]++ }
/ UTMALDG\./ { copies[key]++ }
/ WARPGROUP\.ARRIVE/ { arrives[key]++ }
/ WARPGROUP\.DEPBAR/ { waits[key]++ }
/ USETMAXREG\./ { match($0, /0x[0-9a-f]+/); limits[key] = (limits[key] == "" ? "" : limits[key] ",") substr($0, RSTART, RLENGTH) }
END {
  for (i = 1; i <= n; i++) {
    k = order[i]
    if (!(k in seen)) { print "no code of " k > "/dev/stderr"; bad = 1 }
    printf "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%d\t%d\t%s\t%d\t%d\t%d\t%d\n", k, registers[k], shared[k], memory[k], spilled[k], loads[k], stores[k],
      products[k], copies[k], arrives[k], waits[k], limits[k] == "" ? "-" : limits[k], narrow[k], wide[k], k in turned ? turned[k] : "-", prefetches[k],
      acquires[k], releases[k], slots[k]
  }
  exit bad
}
