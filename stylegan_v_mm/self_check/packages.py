"""The packages that ours needs: which are there, and of which kind."""

import importlib
import platform
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import torch

from .finding import Finding


def check_versions(root: Path) -> Iterable[Finding]:
    """Import what the package needs; compare with the tried versions."""
    yield Finding('python', 'ok', f'{platform.python_version()}, {sys.prefix}')
    tried = tried_versions(root)
    modules = {
        'torch': 'torch',
        'mmengine': 'mmengine',
        'mmagic': 'mmagic.registry',
        'numpy': 'numpy',
        'av': 'av',
        'opencv-python': 'cv2',
    }
    for distribution, module in modules.items():
        version = version_of(distribution)
        try:
            importlib.import_module(module)
        except ImportError as error:
            yield Finding(
                distribution,
                'fail',
                f'{version}: {error}',
                f'pip install -c requirements/constraints.txt {distribution}',
            )
            continue
        wanted = tried.get(distribution, version)
        if version == wanted:
            yield Finding(distribution, 'ok', f'{version}')
        else:
            yield Finding(
                distribution,
                'warn',
                f'{version}, tried with {wanted}',
                'where it misbehaves: '
                f'pip install {distribution}=={wanted} (see docs/install.md)',
            )


def version_of(distribution: str) -> str | None:
    """Return the version of a distribution, None if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def tried_versions(root: Path) -> dict[str, str]:
    """Read the exact pins of our constraints file.

    Args:
        root (Path): Our repository; an installed package has no such file.

    Returns:
        dict: Versions by distribution, empty without the file.
    """
    path = root / 'requirements/constraints.txt'
    text = path.read_text() if path.exists() else ''
    return dict(re.findall(r'^([\w.-]+)==(\S+)$', text, re.MULTILINE))


def check_install_kind() -> Iterable[Finding]:
    """Check whether the install is the quick or the full one."""
    lite, full = version_of('mmcv-lite'), version_of('mmcv')
    if lite and full:
        yield Finding(
            'install',
            'fail',
            f'mmcv {full} and mmcv-lite {lite} overwrite each other',
            'pip uninstall -y mmcv mmcv-lite; then make .venv/.quick or '
            'make .venv/.full',
        )
    elif lite:
        text = f'quick (mmcv-lite {lite}: PyTorch formula)'
        if torch.cuda.is_available():
            yield Finding(
                'install',
                'warn',
                f'{text}: the GPU runs slower than it could',
                'make .venv/.full compiles the ops for the GPU',
            )
        else:
            yield Finding('install', 'ok', text)
    elif full:
        yield from check_compiled(full)
    else:
        yield Finding(
            'install',
            'fail',
            'neither mmcv nor mmcv-lite is installed',
            'pip install mmcv-lite==2.1.0, or make .venv/.full',
        )


def check_compiled(version: str) -> Iterable[Finding]:
    """Load the compiled ops of the full install."""
    try:
        cuda = mmcv_compiled_for_cuda()
    except ImportError as error:
        yield Finding(
            'install',
            'fail',
            f'mmcv {version} was compiled for another torch: {error}',
            'pip uninstall -y mmcv; rm -rf .venv/.full '
            '~/.cache/stylegan_v_mm/wheels; make .venv/.full',
        )
        return
    text = (
        f'full (mmcv {version}, ops compiled: CPU yes, '
        f'CUDA {"yes" if cuda else "no"})'
    )
    if torch.cuda.is_available() and not cuda:
        yield Finding(
            'install',
            'warn',
            f'{text}: the GPU runs the slower PyTorch formula',
            'rm .venv/.full; make .venv/.full with nvcc in PATH compiles '
            'the ops for the GPU',
        )
    else:
        yield Finding('install', 'ok', text)


def mmcv_compiled_for_cuda() -> bool:
    """Return whether mmcv has its CUDA kernels."""
    import mmcv.ops

    return mmcv.ops.get_compiling_cuda_version() != 'not available'
