"""What detectors share: checked input, weight files, precision, resizing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ...checkpoints.downloads import local_file
from ...errors import InputError
from ...files import sha256_of


def check_video(video: Tensor, least: int, most: int | None = None) -> None:
    """Check that a batch has clips of ``least`` to ``most`` frames.

    Raises:
        InputError: It has other clips or is not a batch of clips.
    """
    shape = list(video.shape)
    if video.dtype != torch.uint8 or len(shape) != 5 or shape[2] != 3:
        raise InputError(
            f'a detector takes uint8 [N, T, 3, H, W], got {video.dtype} '
            f'{shape}'
        )
    if shape[1] < least or (most and shape[1] > most):
        raise InputError(
            f'the detector takes clips of {"just" if most else "at least"} '
            f'{least} frames, got {shape[1]}: set num_frames'
        )


def checked_file(path: str, sha256: str | None) -> tuple[Path, str]:
    """Find or download a detector's file; return it and its checksum.

    Raises:
        InputError: The file is missing, cannot be downloaded or has another
            checksum.
    """
    file = local_file(
        path,
        'docs/metrics.md says where to get this detector; '
        "detector=dict(type='RandomI3D') needs none, for smoke tests",
        sha256,
    )
    digest = sha256_of(file)
    if sha256 is not None and digest != sha256.lower():
        raise InputError(
            f'{file} has the SHA-256 checksum {digest} instead of {sha256}: '
            'delete the file and get it again'
        )
    return file, digest


def load_network(network: nn.Module, file: Path, what: str) -> None:
    """Load a file of weights into a network.

    Args:
        network (nn.Module): The network, whose names and shapes must match.
        file (Path): ``.safetensors``, or a plain state dict by ``torch.save``.
        what (str): Name of the network, for messages.

    Raises:
        InputError: The file cannot be read safely or holds other weights.
    """
    try:
        if file.suffix == '.safetensors':
            weights = load_file(file)
        else:
            weights = torch.load(file, map_location='cpu', weights_only=True)
    except Exception as error:
        # torch raises about a dozen types here, EOFError, UnpicklingError...
        reason = str(error).split('\n')[0]
        raise InputError(
            f'{file} is not a file of weights that can be read safely '
            f'({type(error).__name__}: {reason}); '
            "type='I3DTorchScript' and 'InceptionTorchScript' read TorchScript"
        ) from error
    try:
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = ' '.join(str(error).split())[:300]
        raise InputError(
            f'{file} holds no weights of {what}: {reason}'
        ) from error


def _precision_settings() -> Iterator[tuple[Callable, Callable, Any]]:
    """Yield getter, setter and exact value of each setting that rounds."""
    # Unlike `allow_tf32` of matrices, this has three levels.
    level = torch.get_float32_matmul_precision
    yield level, torch.set_float32_matmul_precision, 'highest'
    cuda, cudnn, cpu = (
        getattr(torch.backends, name) for name in ('cuda', 'cudnn', 'mkldnn')
    )
    # Without benchmarks, cuDNN always chooses the same algorithm.
    named: list[tuple[Any, str, Any]]
    named = [(cudnn, 'allow_tf32', False), (cudnn, 'benchmark', False)]
    if hasattr(cuda.matmul, 'fp32_precision'):
        # PyTorch 2.9 and later have separate settings for each kind.
        kinds = cuda.matmul, cudnn.conv, cudnn.rnn
        kinds = *kinds, cpu.matmul, cpu.conv, cpu.rnn
        named += [(kind, 'fp32_precision', 'ieee') for kind in kinds]
    for owner, name, value in named:
        yield (
            partial(getattr, owner, name),
            partial(setattr, owner, name),
            value,
        )


@contextmanager
def full_precision() -> Iterator[None]:
    """Switch off TensorFloat-32, which would change the distances.

    The factors of float32 products are rounded neither in convolutions nor in
    matrix products. All settings are restored afterwards.
    """
    changes = []
    for get, put, value in _precision_settings():
        # A setting from before PyTorch 2.9 that contradicts the later ones
        # cannot be read and has no effect.
        with suppress(RuntimeError):
            changes.append((put, value, get()))
    try:
        for put, value, _ in changes:
            put(value)
        yield
    finally:
        for put, _, before in changes:
            put(before)


def resize(x: Tensor, size: int, antialias: bool = False) -> Tensor:
    """Resize bilinearly: [N, T, 3, H, W] -> [N, 3, T, size, size].

    Pixels are interpolated between their centres.
    """
    frames = F.interpolate(
        x.flatten(0, 1),
        size=(size, size),
        mode='bilinear',
        antialias=antialias,
    )
    return frames.unflatten(0, x.shape[:2]).transpose(1, 2).contiguous()
