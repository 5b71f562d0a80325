#!/usr/bin/env bash
# What the compiler made of kernels/cuda, read from its machine code.
#   run.sh LIBRARY FOLDER [--write]     of a built libfourmi_cuda.a; FOLDER is where get_tools.sh puts cuobjdump and nvdisasm, if they are
#                                       not on PATH. --write: kernels.txt anew, after a kernel was changed on purpose
# - no kernel has local memory: nothing on a stack, nothing spilled;
# - the FP8 products of Hopper are 4 QGMMA of 32 a step of 128 and panel, begun and awaited once a panel; their operands come by tensor maps;
#   those of bf16 are 4 HGMMA of 16 a step of 64, whatever the width, and one step is under way while the next one is begun;
#   a math thread has 232 registers and one that copies 40 (kernels/cuda/hopper/plan.h);
# - what is bound by memory moves 16 bytes at a time, each way that it moves rows;
# - kernels that talk to other ranks' acquire and release flags of the whole system, and read slots by 16 bytes and no constant loads;
# - registers, static shared memory and 16-byte accesses are those of kernels.txt, where the compiler is the one that is named there.
# Exit status: 0 all hold, 1 some do not, 77 the tools are not here.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
library=$1 tools=$2 write=${3-}
PATH=$PATH:$tools/nvidia/cu13/bin
for tool in cuobjdump nvdisasm; do
  command -v $tool >/dev/null && continue
  # As GoogleTest says it, for launch/test.
  printf 'gpu_code: Skipped\nno %s: tests/gpu_code/get_tools.sh brings it\n[  SKIPPED ] gpu_code (0 ms)\n' $tool
  exit 77
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cuobjdump -res-usage "$library" >"$work/usage"
cuobjdump -sass "$library" >"$work/code"
awk -f "$here/functions.awk" "$work/usage" "$work/code" | c++filt | sort >"$work/functions"
[ -s "$work/functions" ] || { echo "FAILED: no kernels in $library"; exit 1; }
compiler=$(strings -a "$library" | sed -n 's/.*Cuda compilation tools, release [0-9.]*, \(V[0-9.]*\).*/\1/p' | sort -u | paste -sd ' ')
{
  echo "# What nvcc $compiler makes of kernels/cuda: file, kernel, forms of it (types, widths), fewest and most registers, static shared"
  echo "# memory (bytes), forms that load 16 bytes at a time, forms that store 16. Written by tests/gpu_code/run.sh LIBRARY FOLDER --write."
  # But for what is only there with NCCL's headers.
  grep -v '^window_addresses\.cu' "$work/functions" | awk -f "$here/table.awk"
} >"$work/table"
if [ "$write" = --write ]; then cp "$work/table" "$here/kernels.txt"; fi

status=0
awk -f "$here/rules.awk" "$here/wide.txt" "$work/functions" || status=1
if [ "$(head -n 1 "$here/kernels.txt")" = "$(head -n 1 "$work/table")" ]; then
  diff -U 0 "$here/kernels.txt" "$work/table" || { echo "FAILED: kernels.txt (-) is not what the compiler made (+)"; status=1; }
else
  echo "kernels.txt is of another compiler than $compiler: not compared"
fi
[ $status != 0 ] || echo "$(wc -l <"$work/functions") kernels are as designed"
exit $status
