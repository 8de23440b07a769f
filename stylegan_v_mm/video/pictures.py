"""Convert frames to images, and write folders of them."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..errors import InputError
from ..files import atomic_write


def pictures(chunks: Iterable[Tensor]) -> Iterator[Image.Image]:
    """Yield the frames in chunks, uint8 [T, 3, H, W], as images."""
    for frame in chain.from_iterable(chunks):
        yield Image.fromarray(frame.permute(1, 2, 0).numpy())


def save_frames(
    chunks: Iterable[Tensor], folder: Path, suffix: str, quality: int = 95
) -> None:
    """Write frames as images ``000000.png``, ``000001.png``, ...

    The folder appears under its name when all images are written.

    Args:
        chunks (Iterable): Chunks of frames, uint8 [T, 3, H, W].
        folder (Path): Folder to write, which must not exist yet.
        suffix (str): 'png' or 'webp', which are lossless here, or 'jpg'.
        quality (int): Of JPEG files, 1 to 95. Defaults to 95.

    Raises:
        InputError: The folder exists or cannot be written.
    """
    if folder.exists():
        raise InputError(f'{folder} exists: remove it or choose another --out')
    options: dict[str, dict] = {
        'jpg': {'quality': quality},
        'webp': {'lossless': True},
    }
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        for index, image in enumerate(pictures(chunks)):
            path = temporary / f'{index:06d}.{suffix}'
            image.save(path, **options.get(suffix, {}))
