"""Read the frames of videos for conversions, and write them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.logging import MMLogger

from ...video.encoding import VideoWriter
from ...video.index import name_damaged
from ...video.pictures import save_frames
from ...video.reader import MAX_FRAME_PIXELS, DamagedVideoError
from ..sources.finding import VideoSource, find_damage, frame_rate, read_each
from ..sources.frame_folders import MovingPicture
from ..sources.video_files import VideoFile
from ..transforms import ResizeCrop

#: Frame rate of videos whose own rate is unknown.
DEFAULT_FPS = 25


def problem_of(source: VideoSource, keep_damaged: bool) -> str:
    """Return why a video cannot be used, '' if it can."""
    return '' if keep_damaged and len(source) else source.problem


def intact_frames(source: VideoSource, frame_inds: np.ndarray) -> np.ndarray:
    """Keep the frames of one undamaged stretch of a video.

    The whole video is decoded, and the frames that are left out are logged.

    Args:
        source: From ``find_videos``.
        frame_inds: Indices of frames, [T], ascending.

    Returns:
        The ``frame_inds`` in the stretch that holds most of them, [T'].

    Raises:
        DamagedVideoError: No frame is intact.
    """
    damaged = find_damage(source)
    stretches = np.searchsorted(damaged, frame_inds)
    stretches[np.isin(frame_inds, damaged)] = len(damaged) + 1
    sizes = np.bincount(stretches, minlength=len(damaged) + 2)[:-1]
    if not sizes.any():
        raise DamagedVideoError(f'{source.name}: no frame is intact')
    kept = frame_inds[stretches == sizes.argmax()]
    if len(kept) < len(frame_inds):
        MMLogger.get_current_instance().info(
            f'{source.name}: {name_damaged(damaged)}; using frames {kept[0]} '
            f'to {kept[-1]}'
        )
    return kept


def read_frames(
    source: VideoSource,
    frame_inds: np.ndarray,
    resolution: int | None = None,
    square_pixels: bool = False,
    keep_damaged: bool = False,
) -> Iterator[np.ndarray]:
    """Decode frames one at a time, ascending.

    Args:
        source: From ``find_videos``.
        frame_inds: Indices of frames, [T], ascending.
        resolution: Width and height to which the central square is resized;
            None for frames as they are.
        square_pixels: Whether to stretch frames to the shape that players
            show.
        keep_damaged: Whether to leave out damaged frames instead of failing.

    Yields:
        Frames [H, W, 3], uint8, RGB, all of one size.

    Raises:
        DamagedVideoError: A frame cannot be decoded or differs in size.
    """
    if keep_damaged:
        frame_inds = intact_frames(source, frame_inds)
    pixel_aspect = pixel_aspect_of(source) if square_pixels else 1
    shape = None
    for frame in read_each(source, frame_inds):
        if frame.shape != (shape := shape or frame.shape):
            raise DamagedVideoError(f'{source.name}: frames differ in size')
        if pixel_aspect != 1:
            frame = stretch(frame, pixel_aspect)
        yield resize(frame, resolution) if resolution else frame


def pixel_aspect_of(source: VideoSource) -> float:
    """Return the width of a video's pixels divided by their height."""
    return source.index.pixel_aspect if isinstance(source, VideoFile) else 1


def stretch(frame: np.ndarray, pixel_aspect: float) -> np.ndarray:
    """Change the width of a frame [H, W, 3] so that its pixels are square.

    Raises:
        DamagedVideoError: The pixel aspect ratio is implausible.
    """
    height, width = frame.shape[:2]
    new_width = round(width * pixel_aspect)
    if not 1 <= new_width * height <= MAX_FRAME_PIXELS:
        raise DamagedVideoError(
            f'its pixel aspect ratio of {pixel_aspect:g} is implausible'
        )
    shrinks = new_width < width
    return cv2.resize(
        frame,
        (new_width, height),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LANCZOS4,
    )


def resize(frame: np.ndarray, resolution: int) -> np.ndarray:
    """Crop the central square of a frame [H, W, 3] and resize it."""
    return ResizeCrop(resolution)({'frames': frame[None]})['frames'][0]


def fps_of(source: VideoSource) -> float:
    """Return the frame rate of a video, :data:`DEFAULT_FPS` if unknown."""
    return frame_rate(source) or DEFAULT_FPS


def bare_name(source: VideoSource) -> str:
    """Return the name of a video without the suffix of a file."""
    name = PurePosixPath(source.name)
    is_file = isinstance(source, VideoFile | MovingPicture)
    return str(name.with_suffix('') if is_file else name)


def output_names(sources: Sequence[VideoSource]) -> list[str]:
    """Choose the name of each converted video.

    The suffix of a file is dropped, unless two files, or a file and a folder,
    would then have the same name.
    """
    bare = list(map(bare_name, sources))
    counts = Counter(bare)
    for source in sources:
        counts.update(map(str, PurePosixPath(source.name).parents))
    return [
        name if counts[name] == 1 else source.name
        for name, source in zip(bare, sources)
    ]


def write_pictures(
    frames: Iterator[np.ndarray], path: Path, format: str, quality: int
) -> None:
    """Write a frame folder."""
    chunks = (
        torch.from_numpy(frame.copy()).permute(2, 0, 1)[None]
        for frame in frames
    )
    save_frames(chunks, path, format, quality)


def write_mp4(
    frames: Iterator[np.ndarray], path: Path, **options: Any
) -> None:
    """Write a video file; ``options`` are those of ``VideoWriter``."""
    with VideoWriter(path, **options) as writer:
        for frame in frames:
            writer.append(frame.transpose(2, 0, 1))
