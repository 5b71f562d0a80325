#!/usr/bin/env bash
# What kernels/cuda carries for other cards than Hopper's: PTX of compute_80 beside the machine code.
#   ptx.sh LIBRARY FOLDER PTXAS     of a built libfourmi_cuda.a; FOLDER as in run.sh; PTXAS: the toolkit's assembler
# - every file of kernels has it but Hopper's own, and each once;
# - it assembles for sm_80: nothing in it needs a later card. nvcc itself does not look at PTX that it only stores.
# Exit status: 0 all hold, 1 some do not, 77 the tools are not here.
set -euo pipefail
export LC_ALL=C
library=$(realpath "$1") ptxas=$3
PATH=$PATH:$(realpath -m "$2")/nvidia/cu13/bin
for tool in cuobjdump "$ptxas"; do
  command -v "$tool" >/dev/null && continue
  printf 'gpu_code: Skipped\nno %s: tests/gpu_code/get_tools.sh brings cuobjdump, the toolkit has ptxas\n[  SKIPPED ] gpu_code.ptx (0 ms)\n' "$tool"
  exit 77
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
# "file n target" of each image that the library has of a kind: elf, ptx.
images() {
  cuobjdump "-l$1" "$library" | awk '/^member / { file = $2; sub(/:$/, "", file); sub(/.*:/, "", file); sub(/\.o$/, "", file) }
    /^(ELF|PTX) file/ { match($NF, /sm_[0-9]+a?/); print file, substr($NF, RSTART, RLENGTH) }' | sort
}
status=0
images elf >code
images ptx >ptx
[ -s code ] || { echo "FAILED: no kernels in $library"; exit 1; }
sed -E 's/ sm_90a$/ sm_80/; /^((fp8|bf16)_(gemm|wgrad)|linear_hopper)\.cu /d' code >expected
diff -U 0 expected ptx || { echo "FAILED: files that carry PTX (+) are not those that should (-)"; status=1; }

cuobjdump -xptx all "$library" >extracted
n=0
for image in *.ptx; do
  "$ptxas" -arch=sm_80 -O0 "$image" -o /dev/null 2>errors || {
    echo "FAILED: does not assemble for sm_80: $(grep -B 1 -F " $image " extracted | sed -n 's/.*:\(.*\.cu\)\.o:$/\1/p')"
    head -n 3 errors
    status=1
  }
  n=$((n + 1))
done
[ $n = "$(wc -l <ptx)" ] || { echo "FAILED: $n of $(wc -l <ptx) images were read"; status=1; }
[ $status != 0 ] || echo "$n files carry PTX for compute capability 8.0 and later"
exit $status
