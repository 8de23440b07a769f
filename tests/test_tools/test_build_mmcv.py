"""The script that compiles mmcv: which C++ it asks for, what it refuses.

The interpreter is real but for pip, which gives out a source with mmcv's
flags and, in place of a wheel, leaves the source that it was to build.
"""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / 'requirements/build_mmcv.sh'
SETUP = "cxx = ['-std=c++17']\nnvcc = ['-std=c++17']\nhip = ['-std=c++14']\n"


@pytest.fixture
def build(tmp_path):
    source = tmp_path / 'mmcv-2.1.0'
    source.mkdir()
    (source / 'setup.py').write_text(SETUP)
    archive = tmp_path / 'mmcv-2.1.0.tar.gz'
    with tarfile.open(archive, 'w:gz') as tar:
        tar.add(source, source.name)
    python = tmp_path / 'python'
    python.write_text(
        '#!/usr/bin/env bash\n'
        'for last; do :; done\n'
        'case "$1 $2 $3" in\n'
        f'  "-m pip download") [ "$last" = mmcv==2.1.0 ] && cp {archive} '
        '"${@: -2:1}" ;;\n'
        f'  "-m pip wheel") cp "$last/setup.py" {tmp_path}/built.py ;;\n'
        f'  *) exec {sys.executable} -S "$@" ;;\n'
        'esac\n'
    )
    python.chmod(0o755)

    def build(torch_version):
        if torch_version:
            text = f'__version__ = {torch_version!r}\n'
            (tmp_path / 'torch.py').write_text(text)
        return subprocess.run(
            [SCRIPT, python, tmp_path],
            env={**os.environ, 'PYTHONPATH': str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )

    return build


@pytest.mark.parametrize(
    ('version', 'wanted'),
    [
        ('2.6.0', SETUP),
        ('2.13.0+cpu', SETUP),
        ('2.14.0', SETUP.replace('17', '20')),
        ('2.15.1+cu130', SETUP.replace('17', '20')),
        ('3.0.0a0+git1', SETUP.replace('17', '20')),
    ],
)
def test_newest_torch_gets_cpp20(build, tmp_path, version, wanted):
    result = build(version)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / 'built.py').read_text() == wanted


def test_without_torch_nothing_is_built(build, tmp_path):
    result = build(None)
    assert result.returncode == 2
    assert 'cannot import torch: install it first' in result.stderr
    assert not (tmp_path / 'built.py').exists()
