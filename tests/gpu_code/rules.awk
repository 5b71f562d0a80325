# What must hold of the lines of functions.awk, whatever the compiler. First file: wide.txt.
BEGIN { FS = "\t" }
function fail(text) { print "FAILED  " $1 ": " text ": " $2; bad = 1 }
NR == FNR {
  if ($0 !~ /^#/ && split($0, word, " ") == 4) { must[word[1] " " word[2]] = 1; loads[word[1] " " word[2]] = word[3]; stores[word[1] " " word[2]] = word[4] }
  next
}
{
  name = $2
  sub(/^void /, "", name); gsub(/\(anonymous namespace\)::/, "", name); gsub(/fourmi::cuda::/, "", name); sub(/^hopper::/, "", name)
  template = name
  sub(/[<(].*/, "", name)
  if ($5 > 0) fail($5 " bytes of local memory")
  if ($6 > 0) fail($6 " accesses to local memory")
  # Narrow forms (of rows that are not multiples of 16 bytes) have none.
  key = $1 " " name
  if (key in must) { seen[key]++; wide_loads[key] += $7 > 0; wide_stores[key] += $8 > 0 }
  # Flags between ranks, and slots that are read by loads that see what was acquired. Forms of one column have no wide loads.
  if ($1 ~ /^(to_experts|from_experts|counts)\.cu$/) {
    exchanges++
    if (name != "count_tokens" && $18 == 0) fail("no LDG.E.64.STRONG.SYS, flags are acquired")
    if (name != "hear_counts" && $19 == 0) fail("no STG.E.64.STRONG.SYS, flags are released")
    if ($1 != "counts.cu" && template !~ /, 1>/ && $20 < 4) fail($20 " LDG.E.NA.128, slots were to be read by at least 4 at a time")
  }
  if ($1 ~ /^fp8_(gemm|wgrad)\.cu$/) {
    panels = 0
    if (match(template, /(Product|Gradient)<[12]/)) panels = substr(template, RSTART + RLENGTH - 1, 1)
    if (panels == 0) { fail("tiles of unknown width"); next }
    products[panels]++
    if ($9 != 4 * panels) fail($9 " QGMMA, 4 a step and panel were expected")
    if ($11 != panels || $12 != panels) fail($11 " WARPGROUP.ARRIVE and " $12 " WARPGROUP.DEPBAR, one a panel was expected")
    if ($10 < 2 * panels) fail($10 " UTMALDG, rows, panels and scales were expected")
    if ($13 != "0xe8,0x28") fail("USETMAXREG " $13 ", 0xe8 (232) and 0x28 (40) were expected")
  }
  # Each width that a tile may have: four in the loop, one behind it for what is less than a step; awaited when the next step's are
  # begun, at the loop's end, and behind it. More waits are ptxas's, which then has found no way to let steps overlap.
  if ($1 ~ /^bf16_(gemm|wgrad)\.cu$/) {
    panels = 0
    if (match(template, /(Product|Gradient)<[12]/)) panels = substr(template, RSTART + RLENGTH - 1, 1)
    if (panels == 0) { fail("tiles of unknown width"); next }
    along = template ~ /Gradient</ ? "AB" : template ~ /Along\)1/ ? "B" : "-"
    bf16[panels, along]++
    if ($14 != 5 || $15 != (panels == 2 ? 5 : 0)) fail($14 " and " $15 " HGMMA of 128 and 256 columns, 5 of each width were expected")
    if ($16 != along) fail("HGMMA read lines of " $16 ", " along " was expected")
    if ($11 != 2 * panels || $12 != 3 * panels) fail($11 " WARPGROUP.ARRIVE and " $12 " WARPGROUP.DEPBAR, 2 and 3 a width were expected")
    if (along == "AB" && $17 == 0) fail("no UBLKPF, what is added to was to be asked for")
    copies = along == "AB" ? 2 + 2 * panels : along == "B" ? 1 + 2 * panels : 1 + panels
    if ($10 < copies) fail($10 " UTMALDG, " copies " were expected")
    if ($13 != "0xe8,0x28") fail("USETMAXREG " $13 ", 0xe8 (232) and 0x28 (40) were expected")
  }
}
END {
  if (exchanges != 9) { print "FAILED  " exchanges " kernels of exchange/, 9 were expected"; bad = 1 }
  for (p = 1; p <= 2; p++)
    if (!bf16[p, "AB"] || !bf16[p, "B"] || !bf16[p, "-"]) { print "FAILED  not all bf16 products of " p " panels in hopper/"; bad = 1 }
  if (!products[1] || !products[2]) { print "FAILED  no products of one and of two panels in hopper/"; bad = 1 }
  for (key in must) {
    if (!seen[key]) { print "FAILED  " key " of wide.txt is no kernel"; bad = 1; continue }
    if (wide_loads[key] < loads[key] * seen[key]) { print "FAILED  " key ": " wide_loads[key] " of " seen[key] " forms load 16 bytes at a time, " loads[key] " of them were expected"; bad = 1 }
    if (wide_stores[key] < stores[key] * seen[key]) { print "FAILED  " key ": " wide_stores[key] " of " seen[key] " forms store 16 bytes at a time, " stores[key] " of them were expected"; bad = 1 }
  }
  exit bad
}
