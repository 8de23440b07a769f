"""Reading checkpoints without executing anything in them."""

import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MMLogger
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from .errors import InputError
from .files import local_file


def _history_method(owner: type, name: str) -> Callable:
    """Stand in for ``getattr``, by which a log history names its methods."""
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(owner, name)
    raise pickle.UnpicklingError(f'it asks for {owner}.{name}')


# What mmengine's own checkpoints hold besides tensors and plain containers:
# the log history. Everything else is refused by ``weights_only``.
_LOG_HISTORY = [
    HistoryBuffer,
    (_history_method, 'builtins.getattr'),
    np.core.multiarray._reconstruct,
    np.core.multiarray.scalar,
    np.ndarray,
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.float32)),
    type(np.dtype(np.int64)),
]


def load_checkpoint(path: str, map_location: str = 'cpu') -> dict:
    """Read a checkpoint file of a training run.

    Args:
        path (str): A local file or a URL (kept in the user's cache).
        map_location (str): Device for its tensors. Defaults to 'cpu'.

    Returns:
        dict: ``state_dict``, and what else mmengine saved.

    Raises:
        InputError: The file is missing, damaged, holds more than weights and
            plain data, or is no checkpoint.
    """
    file = local_file(path, 'training writes iter_*.pth into its work dir')
    try:
        with torch.serialization.safe_globals(_LOG_HISTORY):
            checkpoint = torch.load(
                file, map_location=map_location, weights_only=True
            )
    except Exception as error:
        # torch raises a dozen types here, from EOFError to UnpicklingError.
        reason = str(error).split('\n')[0]
        raise InputError(
            f'{path} is not a checkpoint that can be read safely '
            f'({type(error).__name__}: {reason})'
        ) from error
    if not isinstance(checkpoint, dict):
        raise InputError(f'{path} is not a checkpoint of this library')
    return checkpoint


def numbered_checkpoints(folder: str | Path) -> list[Path]:
    """List ``iter_N.pth`` of a work dir, the newest first."""
    paths = {}
    for path in Path(folder).glob('iter_*.pth'):
        if match := re.fullmatch('iter_([0-9]+)[.]pth', path.name):
            paths[int(match[1])] = path
    return [paths[number] for number in sorted(paths, reverse=True)]


def newest_checkpoint(folder: str | Path) -> Path | None:
    """Find the newest checkpoint of a work dir that is whole.

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
    """Whether all check sums within a checkpoint file are right."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def load_weights(model: nn.Module, checkpoint: dict, path: str) -> None:
    """Load a checkpoint's weights, all of them or none.

    Args:
        model (nn.Module): Whose names and shapes are wanted.
        checkpoint (dict): From :func:`load_checkpoint`.
        path (str): Of the file, for messages.

    Raises:
        InputError: Names or shapes differ: another architecture.
    """
    theirs = checkpoint.get('state_dict', {})
    ours = model.state_dict()
    problems = [f'lacks {name}' for name in ours if name not in theirs]
    problems += [
        f'{name} is {list(theirs[name].shape)}, the config wants '
        f'{list(value.shape)}'
        for name, value in ours.items()
        if name in theirs and theirs[name].shape != value.shape
    ]
    problems += [f'has extra {name}' for name in theirs if name not in ours]
    if problems:
        shown = '; '.join(problems[:3])
        raise InputError(
            f'{path} is of another architecture than the config: '
            f'{len(problems)} differences, such as: {shown}. Use the config '
            'that it was trained with'
        )
    load_state_dict(model, theirs, strict=True)
