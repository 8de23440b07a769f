#!/usr/bin/env bash
# Compile mmcv with its ops for the PyTorch of an environment:
#   requirements/build_mmcv.sh PYTHON FOLDER
# PYTHON is the environment's interpreter; it needs setuptools<81, wheel, ninja,
# psutil and torch. The wheel appears in FOLDER. MAX_JOBS is how many files to
# compile at a time; FORCE_CUDA=1 compiles for GPUs where none is.
set -euo pipefail

die() {
  echo "error: $*" >&2
  exit 2
}
[ $# = 2 ] || die "usage: [MAX_JOBS=2] $0 PYTHON FOLDER"
PYTHON=$1 FOLDER=$2
export MAX_JOBS=${MAX_JOBS:-$(nproc)}

pip() {
  PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 "$PYTHON" -m pip "$@"
}
# No constraints file: the environment's torch need not be the pinned one.
MMCV=$(grep '^mmcv==' "$(dirname "${BASH_SOURCE[0]}")/constraints.txt")

# Without torch, mmcv would build without its ops, and not say so.
needs_cpp20=$("$PYTHON" -c '
import torch
print(tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 14))
') || die "$PYTHON cannot import torch: install it first"

source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
pip download -q --no-deps --no-build-isolation --no-binary mmcv \
  -d "$source" "$MMCV"
tar -xzf "$source"/mmcv-*.tar.gz -C "$source"
# From 2.14 on, torch's headers demand C++20, and mmcv asks for C++17.
if [ "$needs_cpp20" = True ]; then
  sed -i 's/-std=c++17/-std=c++20/' "$source"/mmcv-*/setup.py
fi
# -v lets ninja's "[12/77] c++ ..." through. pip's own cache does not know
# which torch a wheel was compiled for.
pip wheel -v --no-deps --no-cache-dir --no-build-isolation -w "$FOLDER" \
  "$source"/mmcv-*/
