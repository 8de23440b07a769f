"""Write checkpoints, complete or not at all, and find the newest one."""

import re
import zipfile
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from safetensors.torch import save

from ..errors import InputError
from ..files import atomic_write


def save_checkpoint(checkpoint: dict, path: Path) -> None:
    """Write a checkpoint, which appears only when it is complete.

    Args:
        checkpoint (dict): As :func:`load_checkpoint` returns it.
        path (Path): ``NAME.pth``, or ``NAME.safetensors`` for its
            ``state_dict`` alone. The folder is created.

    Raises:
        InputError: It cannot be written.
    """
    # If they got a path, torch would write its name into the file, and
    # safetensors would create a file that only its owner can read.
    with atomic_write(path) as temporary, temporary.open('wb') as file:
        if path.suffix == '.safetensors':
            # safetensors needs contiguous tensors that share no memory.
            weights = {
                name: value.clone(memory_format=torch.contiguous_format)
                for name, value in checkpoint['state_dict'].items()
            }
            file.write(save(weights, {'format': 'pt'}))
        else:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch's error for a full disk
                raise InputError(
                    f'{path} cannot be written: {error}'
                ) from error


def numbered_checkpoints(folder: str | Path) -> list[Path]:
    """List ``iter_N.pth`` of a work dir, the newest first."""
    paths = {}
    for path in Path(folder).glob('iter_*.pth'):
        if match := re.fullmatch('iter_([0-9]+)[.]pth', path.name):
            paths[int(match[1])] = path
    return [paths[number] for number in sorted(paths, reverse=True)]


def newest_checkpoint(folder: str | Path) -> Path | None:
    """Find the newest undamaged checkpoint of a work dir.

    Args:
        folder (str or Path): The work dir.

    Returns:
        Path, optional: The file; None if there are no checkpoints.

    Raises:
        InputError: There are checkpoints, and all are damaged.
    """
    paths = numbered_checkpoints(folder)
    for path in paths:
        if _is_whole(path):
            return path
        MMLogger.get_current_instance().warning(
            f'{path} is damaged: looking for an older one'
        )
    if paths:
        raise InputError(
            f'all {len(paths)} checkpoints in {folder} are damaged: remove '
            'them to start anew, or give another --work-dir'
        )
    return None


def _is_whole(path: Path) -> bool:
    """Whether all checksums within a checkpoint file are right."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False
