#!/usr/bin/env bash
# Make or update .venv (the Makefile calls this; it can be repeated):
#   lint    only codespell, mypy and ruff, in seconds
#   docs    only mkdocs, in seconds
#   quick   mmcv-lite, with our PyTorch version of its ops; needs no compiler
#   full    mmcv with compiled ops, mmagic with its dependencies, test tools
# PYTHON chooses the interpreter of a new .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3.11}
VENV_PYTHON=.venv/bin/python

say() { echo "== $*"; }
die() {
  echo "error: $*" >&2
  exit 1
}
pip() {
  PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 \
    "$VENV_PYTHON" -m pip "$@"
}
pip_install() { pip install -q -c requirements/constraints.txt "$@"; }

make_venv() {
  if [ -x .venv/bin/pip ]; then return; fi
  "$PYTHON" -c 'import sys; assert (3, 10) <= sys.version_info < (3, 13)' \
    2>/dev/null ||
    die "PYTHON=$PYTHON is not a Python 3.10, 3.11 or 3.12:" \
      "name one that is installed, e.g. make demo PYTHON=python3.12"
  say "making .venv with $("$PYTHON" --version)"
  "$PYTHON" -m venv --clear .venv
}

install_base() {
  say 'installing PyTorch (3 GB to download: 1 to 10 minutes)'
  pip_install 'setuptools>=77' wheel torch torchvision \
    -r requirements/runtime.txt
}

install_ourselves() {
  pip install -q --no-deps --no-build-isolation -e .
}

# Prints the folder of mmcv's wheel. PyPI has only the source, and pip's own cache
# does not know which torch a wheel was compiled for.
mmcv_wheel_folder() {
  "$VENV_PYTHON" - <<'END'
import os
import sys
from pathlib import Path

import torch

gpu = torch.cuda.is_available() or os.environ.get('FORCE_CUDA') == '1'
cache = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
print(
    Path(cache, 'stylegan_v_mm', 'wheels')
    / f'torch-{torch.__version__}'
    / f'cp{sys.version_info.major}{sys.version_info.minor}'
    / ('cuda' if gpu else 'cpu')
)
END
}

check_compilers() {
  local include
  command -v "${CXX:-c++}" >/dev/null ||
    die "mmcv's ops need a C++ compiler: install g++, or run 'make demo'," \
      'which needs none'
  include=$("$VENV_PYTHON" -c \
    'import sysconfig; print(sysconfig.get_path("include"))')
  [ -f "$include/Python.h" ] ||
    die "mmcv's ops need Python's headers, and $include/Python.h is missing:" \
      'install the -dev (or -devel) package of your Python'
  if [ "$1" = cuda ]; then
    "$VENV_PYTHON" -c \
      'from torch.utils import cpp_extension as c; assert c.CUDA_HOME' \
      2>/dev/null ||
      die 'there is a GPU but no nvcc: install the CUDA toolkit of the' \
        'version that torch was built for, or hide the GPU to compile for' \
        'the CPU only (CUDA_VISIBLE_DEVICES= make test)'
  fi
}

build_mmcv() {
  local folder=$1 part=$1.part.$$
  check_compilers "$(basename "$folder")"
  pip_install ninja psutil
  say 'compiling mmcv 2.1.0 (2 to 4 minutes on 2 cores, once)'
  mkdir -p "$part"
  local log=$part/build.log
  requirements/build_mmcv.sh "$VENV_PYTHON" "$part" \
    2>&1 | tee "$log" |
    { grep --line-buffered -oE '^ *\[[0-9]+/[0-9]+\]' || true; } ||
    die "mmcv did not compile; the compiler's output is in $log"
  rm -rf "$folder"
  mv "$part" "$folder"
}

install_lint() {
  make_venv
  pip_install codespell mypy ruff
}

install_docs() {
  make_venv
  pip_install -r requirements/docs.txt
}

install_quick() {
  make_venv
  install_base
  say 'installing mmcv-lite and mmagic (without the dependencies of its models)'
  pip uninstall -qq -y mmcv
  pip_install mmcv-lite
  pip_install --no-deps mmagic
  install_ourselves
}

install_full() {
  make_venv
  install_base
  local folder
  folder=$(mmcv_wheel_folder)
  compgen -G "$folder/mmcv-*.whl" >/dev/null || build_mmcv "$folder"
  # mmcv-lite and mmcv are two packages with the same import name.
  rm -f .venv/.quick
  pip uninstall -qq -y mmcv-lite
  pip install -q --no-deps --force-reinstall "$folder"/mmcv-*.whl
  say 'installing mmagic with the dependencies of its models (1 to 5 minutes)'
  pip_install -r requirements/mminstall.txt -r requirements/optional.txt \
    -r requirements/tests.txt ruff
  install_ourselves
}

case ${1:-} in
  lint | docs | quick | full) ;;
  *) die "usage: [PYTHON=python3.11] $0 lint|docs|quick|full" ;;
esac
"install_$1"
touch ".venv/.$1"
say "$1 install ready in .venv"
