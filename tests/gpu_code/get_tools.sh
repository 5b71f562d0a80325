#!/usr/bin/env bash
# Brings the two programs that read GPU code, which come in no package of the toolkit's: wheels of PyPI (NVIDIA's licence), unpacked
# into a folder that git ignores and the tests look into. Needs python3 with pip, and a network.
#   get_tools.sh [FOLDER]      default: build/gpu_tools
# Exit status: 0 they are there, 3 they could not be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-build/gpu_tools} version=13.5.37
if [ -x "$folder/nvidia/cu13/bin/cuobjdump" ] && [ -x "$folder/nvidia/cu13/bin/nvdisasm" ]; then
  echo "$folder has them"
  exit 0
fi
refuse() {
  echo "fourmi: error: $folder: $1, cuobjdump and nvdisasm $version from PyPI were expected. Try again with a network, or put them on PATH." >&2
  exit 3
}
command -v python3 >/dev/null || refuse "no python3"
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$wheels" \
  "nvidia-cuda-cuobjdump==$version" "nvidia-cuda-nvdisasm==$version" >&2 || refuse "pip failed"
mkdir -p "$folder" || refuse "a folder that cannot be made"
for wheel in "$wheels"/*.whl; do python3 -m zipfile -e "$wheel" "$folder" || refuse "a wheel that does not open"; done
chmod +x "$folder"/nvidia/cu13/bin/*  # zipfile forgets it
"$folder/nvidia/cu13/bin/cuobjdump" --version | tail -n 2
