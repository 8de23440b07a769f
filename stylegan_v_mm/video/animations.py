"""Write animated GIFs and WebPs that viewers play at the right speed."""

import functools
import math
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from mmengine.logging import MMLogger
from PIL import Image

from ..errors import InputError

# In milliseconds: the unit of a format, the shortest and the longest duration
# of a frame. Viewers show a frame of a shorter duration for 100 ms.
_DURATIONS = {'gif': (10, 20, 655_350), 'webp': (1, 11, 2**24 - 1)}


@functools.cache
def frame_duration(fps: float, format: str) -> int:
    """Choose the duration of each frame of an animation.

    Of the rates that viewers can play, it is the one nearest to ``fps``. If
    the two differ, a warning is logged once.

    Args:
        fps (float): Wanted frames per second.
        format (str): 'gif' or 'webp'.

    Returns:
        int: Milliseconds.
    """
    unit, least, most = _DURATIONS[format]
    wanted = min(max(1000 / fps, least), most) / unit
    duration = unit * min(
        (math.floor(wanted), math.ceil(wanted)),
        key=lambda units: abs(1000 / (unit * units) - fps),
    )
    rate = 1000 / duration
    if not math.isclose(rate, fps, rel_tol=1e-3):
        MMLogger.get_current_instance().warning(
            f'{format}: {rate:.4g} frames a second instead of {fps:.4g}, the '
            f'nearest rate that viewers play ({duration} ms a frame)'
        )
    return duration


def write_animation(
    images: Iterator[Image.Image],
    file: str | os.PathLike | BinaryIO,
    format: str,
    fps: float,
) -> None:
    """Write an animation that repeats for ever; a WebP is lossless.

    Args:
        images (iterator): RGB images of one size, at least one.
        file (str, Path or file): File to write.
        format (str): 'gif' or 'webp'.
        fps (float): See :func:`frame_duration`.

    Raises:
        InputError: An image is repeated for longer than a frame of the format
            can last.
    """
    duration = frame_duration(fps, format)
    try:
        next(images).save(
            file,
            format,
            save_all=True,
            append_images=images,
            duration=duration,
            loop=0,
            # The GIF encoder ignores this option.
            lossless=True,
        )
    except (struct.error, OverflowError) as error:
        # Pillow merges equal consecutive images into one frame.
        raise InputError(
            f'a {format} cannot show a frame for so long, at {fps:.4g} frames '
            'a second: write .mp4 or .webp'
        ) from error
