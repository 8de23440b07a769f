#!/usr/bin/env bash
# Compile mmcv with its ops for the PyTorch of an environment:
#   requirements/build_mmcv.sh PYTHON FOLDER
# PYTHON is the environment's interpreter; it needs setuptools<81, wheel, ninja,
# psutil and torch. The wheel appears in FOLDER. MAX_JOBS is the number of files
# to compile at a time; FORCE_CUDA=1 compiles for GPUs on a machine without one.
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
# No constraints file here: the environment's torch need not be the pinned one.
MMCV=$(grep '^mmcv==' "$(dirname "${BASH_SOURCE[0]}")/constraints.txt")

# Without torch, mmcv would silently build without its ops.
needs_cpp20=$("$PYTHON" -c '
import torch
print(tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 14))
') || die "$PYTHON cannot import torch: install it first"
# This is the condition in mmcv's setup.py.
cuda=$("$PYTHON" -c '
import os
import torch
print(torch.cuda.is_available() or os.environ.get("FORCE_CUDA") == "1")
')

source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT

unpack() {
  rm -rf "$source"/mmcv-*/
  tar -xzf "$source"/mmcv-*.tar.gz -C "$source"
  # From 2.14 on, torch's headers need C++20, but mmcv requests C++17.
  if [ "$needs_cpp20" = True ]; then
    sed -i 's/-std=c++17/-std=c++20/' "$source"/mmcv-*/setup.py
  fi
}

# Each of mmcv's 77 C++ files includes torch's headers, which take longer to
# compile than its own code. Merged into six units, they compile in a sixth of the
# time.
gather() {
  local folder=$1 unit=$2 file
  shift 2
  mkdir -p "$folder/parts"
  for file; do
    mv "$folder/$file" "$folder/parts/"
    echo "#include \"parts/$file\""
  done >"$folder/$unit"
}
gather_all() {
  local ops file
  ops=$(echo "$source"/mmcv-*/mmcv/ops/csrc/pytorch)
  # pybind.cpp redeclares what the others define.
  gather "$ops" all.cpp \
    $(cd "$ops" && ls -- *.cpp | grep -vx 'pybind.cpp')
  # The first three define helpers with the same name; psamask.cpp has macros that
  # break the code after it.
  gather "$ops/cpu" all_cpu.cpp \
    $(cd "$ops/cpu" && ls -- *.cpp | grep -vxE \
      '(roi_align|roi_align_rotated|rotated_feature_align|psamask).cpp') \
    psamask.cpp
}

wheel() {
  # -v lets ninja's "[3/6] c++ ..." through. pip's own cache does not know
  # which torch a wheel was compiled for.
  pip wheel -v --no-deps --no-cache-dir --no-build-isolation -w "$FOLDER" \
    "$source"/mmcv-*/
}

pip download -q --no-deps --no-build-isolation --no-binary mmcv \
  -d "$source" "$MMCV"
unpack
if [ "$cuda" = True ]; then
  wheel
else
  gather_all
  wheel || {
    echo 'the merged files do not compile here; compiling them one by one'
    unpack
    wheel
  }
fi
