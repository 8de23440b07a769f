"""Load a trained GAN, and write what it generates."""

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from ..checkpoint import load_checkpoint, load_weights
from ..config import load_config
from ..errors import InputError
from ..registry import MODELS
from ..video_io import video_grid


def load_gan(
    config: str,
    checkpoint: str,
    device: str | None = None,
    options: dict | None = None,
) -> nn.Module:
    """Build the model of a config and load its weights.

    Args:
        config (str): Config file.
        checkpoint (str): File of a training run, local path or https URL.
        device (str, optional): Defaults to the GPU if there is one.
        options (dict, optional): Config settings to override.

    Returns:
        nn.Module: A ``StyleGANV`` in eval mode.

    Raises:
        InputError: A file is missing or damaged, the device is not there, or
            the checkpoint is of another architecture.
    """
    if device is None:
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    weights = load_checkpoint(checkpoint)
    gan = MODELS.build(load_config(config, options).model)
    load_weights(gan, weights, checkpoint)
    try:
        return gan.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise InputError(f'device {device} cannot be used: {error}') from error


def sample_grid(
    videos: list[Iterator[Tensor]], num_columns: int
) -> Iterator[Tensor]:
    """Render several videos in step as one grid.

    Args:
        videos (list): Of ``StyleGANV.sample_video``, with the same times and
            chunk.
        num_columns (int): Videos a row.

    Yields:
        Tensor: The next frames of the grid, uint8 [T, 3, H', W'].
    """
    for chunks in zip(*videos, strict=True):
        yield video_grid(torch.stack(chunks), num_columns)


def save_frames(
    chunks: Iterable[Tensor], folder: Path, suffix: str, quality: int = 95
) -> None:
    """Write frames as pictures ``000000.png``, ``000001.png``, ...

    The folder appears under its name when all of them are written.

    Args:
        chunks (Iterable): Frames, uint8 [T, 3, H, W] at a time.
        folder (Path): Must not exist yet.
        suffix (str): 'png' or 'webp', which are lossless here, or 'jpg'.
        quality (int): Of JPEG files, 1 to 95. Defaults to 95.

    Raises:
        InputError: The folder exists or cannot be written.
    """
    if folder.exists():
        raise InputError(f'{folder} exists: remove it or choose another --out')
    temporary = folder.with_name(f'.{folder.name}.{os.getpid()}.tmp')
    options = {'jpg': {'quality': quality}, 'webp': {'lossless': True}}
    try:
        temporary.mkdir(parents=True)
        index = 0
        for chunk in chunks:
            for frame in chunk:
                image = Image.fromarray(frame.permute(1, 2, 0).numpy())
                path = temporary / f'{index:06d}.{suffix}'
                image.save(path, **options.get(suffix, {}))
                index += 1
        temporary.rename(folder)
    except OSError as error:
        raise InputError(f'{folder} cannot be written: {error}') from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
