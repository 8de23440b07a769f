"""Writing what a generator renders: videos, animations, pictures."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

from ..errors import InputError
from ..files import atomic_write
from ..video.animations import write_animation
from ..video.encoding import VideoWriter, video_grid
from ..video.pictures import pictures, save_frames

#: What a video may be written as: a file,
SINGLE_FILES = ('mp4', 'gif', 'webp')
#: or a folder of pictures.
FORMATS = (*SINGLE_FILES, 'png', 'jpg')


def video_path(folder: Path, seed: int, format: str = 'mp4') -> Path:
    """Name a video by its seed: ``000007.mp4``, or a folder ``000007``.

    Raises:
        InputError: There is no such format.
    """
    if format not in FORMATS:
        raise InputError(
            f'format={format!r}: choose one of {", ".join(FORMATS)}'
        )
    suffix = f'.{format}' if format in SINGLE_FILES else ''
    return folder / f'{seed:06d}{suffix}'


def grids(
    videos: Iterable[Tensor], num_columns: int, padding: int = 2
) -> Iterator[Tensor]:
    """Arrange videos in a grid, chunk by chunk.

    Args:
        videos (iterable): Their next frames, uint8 [N, T, 3, H, W] at a time.
        num_columns (int): Videos a row.
        padding (int): Black pixels between neighbours. Defaults to 2.

    Yields:
        Tensor: The next frames of the grid, uint8 [T, 3, H', W'].
    """
    for chunk in videos:
        yield video_grid(chunk, num_columns, padding)


def save_video(
    chunks: Iterable[Tensor],
    path: Path,
    fps: float,
    format: str = 'png',
    quality: int = 95,
) -> None:
    """Write a video as the kind of file that its name asks for.

    It appears under its name when it is complete. Memory does not grow with
    its length, but for gif and webp.

    Args:
        chunks (iterable): Frames, uint8 [T, 3, H, W] at a time.
        path (Path): Ends in .mp4, .gif or .webp; else it is a folder to make
            for pictures.
        fps (float): Frames a second; of a gif or webp, the nearest rate that
            viewers play, see
            :func:`~stylegan_v_mm.video.animations.frame_duration`.
        format (str): Of pictures, 'png' or 'jpg'. Defaults to 'png'.
        quality (int): Of jpg pictures, 1 to 95. Defaults to 95.

    Raises:
        InputError: The path cannot be written.
    """
    if path.suffix == '.mp4':
        with VideoWriter(path, fps) as writer:
            for frames in chunks:
                writer.append(frames)
    elif path.suffix in ('.gif', '.webp'):
        save_animation(chunks, path, fps)
    else:
        save_frames(chunks, path, format, quality)


def save_animation(chunks: Iterable[Tensor], path: Path, fps: float) -> None:
    """Write a gif or a lossless webp that repeats for ever.

    Args:
        chunks (iterable): Frames, uint8 [T, 3, H, W] at a time.
        path (Path): Ends in .gif or .webp.
        fps (float): See :func:`save_video`.

    Raises:
        InputError: The path cannot be written.
    """
    with atomic_write(path) as temporary:
        write_animation(pictures(chunks), temporary, path.suffix[1:], fps)
