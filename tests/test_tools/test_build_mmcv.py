"""The script that compiles mmcv: which C++ it asks for, what it gathers.

The interpreter is real but for pip, which hands out a source with mmcv's
flags and folders and, instead of building a wheel, copies the source that it
was to build. torch is a stub.
"""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / 'requirements/build_mmcv.sh'
FILES = [
    'pytorch/nms.cpp',
    'pytorch/pybind.cpp',
    'pytorch/roi_align.cpp',
    'pytorch/cpu/nms.cpp',
    'pytorch/cpu/psamask.cpp',
    'pytorch/cpu/roi_align.cpp',
    'pytorch/cpu/roi_align_rotated.cpp',
    'pytorch/cpu/rotated_feature_align.cpp',
    'pytorch/cpu/zzz.cpp',
]
SETUP = "cxx = ['-std=c++17']\nnvcc = ['-std=c++17']\nhip = ['-std=c++14']\n"


@pytest.fixture
def build(tmp_path):
    source = tmp_path / 'mmcv-2.1.0'
    source.mkdir()
    (source / 'setup.py').write_text(SETUP)
    for name in FILES:
        file = source / 'mmcv/ops/csrc' / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'int {file.stem}_is_here;\n')
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
        f'  "-m pip wheel") rm -rf {tmp_path}/built; '
        f'cp -r "$last" {tmp_path}/built; '
        f'echo >>{tmp_path}/tries; [ ! -e {tmp_path}/fail ] || '
        f'[ ! -e {tmp_path}/built/mmcv/ops/csrc/pytorch/all.cpp ] ;;\n'
        f'  *) exec {sys.executable} -S "$@" ;;\n'
        'esac\n'
    )
    python.chmod(0o755)

    def build(torch_version, gpu=False, **environ):
        if torch_version:
            (tmp_path / 'torch.py').write_text(
                f'__version__ = {torch_version!r}\n'
                'class cuda:\n'
                f'    is_available = lambda: {gpu}\n'
            )
        return subprocess.run(
            [SCRIPT, python, tmp_path],
            env={**os.environ, 'PYTHONPATH': str(tmp_path), **environ},
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
    assert (tmp_path / 'built/setup.py').read_text() == wanted


def test_without_torch_nothing_is_built(build, tmp_path):
    result = build(None)
    assert result.returncode == 2
    assert 'cannot import torch: install it first' in result.stderr
    assert not (tmp_path / 'built').exists()


def compiled(tmp_path):
    """Preprocess what mmcv's setup.py would compile: unit -> its text."""
    csrc = tmp_path / 'built/mmcv/ops/csrc'
    units = [*csrc.glob('pytorch/*.cpp'), *csrc.glob('pytorch/cpu/*.cpp')]
    return {
        unit.relative_to(csrc).as_posix(): subprocess.run(
            ['c++', '-E', '-P', unit],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split('\n')
        for unit in units
    }


def test_files_are_compiled_together(build, tmp_path):
    assert build('2.11.0').returncode == 0
    units = compiled(tmp_path)
    alone = {
        'pytorch/pybind.cpp',
        'pytorch/cpu/roi_align.cpp',
        'pytorch/cpu/roi_align_rotated.cpp',
        'pytorch/cpu/rotated_feature_align.cpp',
    }
    assert units.keys() == {
        'pytorch/all.cpp',
        'pytorch/cpu/all_cpu.cpp',
        *alone,
    }
    lines = [line for unit in units.values() for line in unit if line]
    wanted = [f'int {Path(name).stem}_is_here;' for name in FILES]
    assert sorted(lines) == sorted(wanted)
    assert 'psamask' in units['pytorch/cpu/all_cpu.cpp'][-2]


@pytest.mark.parametrize(
    'settings', [{'gpu': True}, {'FORCE_CUDA': '1'}], ids=str
)
def test_for_a_gpu_each_file_is_compiled(build, tmp_path, settings):
    assert build('2.11.0', **settings).returncode == 0
    assert compiled(tmp_path).keys() == set(FILES)


def test_files_that_do_not_fit_together_are_compiled_alone(build, tmp_path):
    (tmp_path / 'fail').touch()
    result = build('2.11.0')
    assert result.returncode == 0, result.stderr
    assert 'one by one' in result.stdout
    assert compiled(tmp_path).keys() == set(FILES)
    assert len((tmp_path / 'tries').read_text()) == 2
