"""Measure how fast one core reads clips, and advise how to speed it up."""

import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass

import cv2
import numpy as np

from ...video.reader import DamagedVideoError
from ..sources.archives import ZippedFrames
from ..sources.frame_folders import MovingPicture
from ..sources.video_files import VideoFile
from ..transforms import ResizeCrop
from .contents import Survey

# Clips are read for a second, but at most this many.
MAX_CLIPS = 64
# Frames from one key frame to the next in files that reencode.py writes.
SHORT_GOP = 4
# Advice is given if more than this many times the needed frames or pixels are
# decoded.
WASTE = 4


@dataclass(frozen=True)
class Reading:
    """How fast clips are read as training reads them.

    Attributes:
        rate: Clips per second on one core, with the central square resized.
        passed: Mean number of frames decoded for a clip: for each wanted
            frame, all from the key frame before it on; in folders and zips,
            the wanted frames alone.
        would_pass: The same with a key frame every :data:`SHORT_GOP` frames.
    """

    rate: float
    passed: float
    would_pass: float


def measure_reading(survey: Survey, resolution: int) -> Reading:
    """Read random clips for a second, at most :data:`MAX_CLIPS`.

    Args:
        survey: From :func:`survey_videos`.
        resolution: Width and height of the clips in pixels.

    Returns:
        The speed.
    """
    rng = np.random.default_rng(0)
    usable = np.flatnonzero(survey.usable)
    resize = ResizeCrop(resolution)
    seconds: list[float] = []
    counts = []
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    while sum(seconds) < 1 and len(seconds) < MAX_CLIPS:
        source = survey.sources[rng.choice(usable)]
        clip = {'rng': rng, 'source': source, 'video_len': len(source)}
        frame_inds = survey.sample(clip)['frame_inds']
        start = time.perf_counter()
        with suppress(DamagedVideoError):
            resize({'frames': source.read(frame_inds)})
        seconds.append(time.perf_counter() - start)
        keys = np.arange(len(source))
        short = keys
        if isinstance(source, VideoFile):
            keys, short = source.index.key_inds, keys[::SHORT_GOP]
        elif isinstance(source, MovingPicture):
            keys, short = keys[:1], keys[::SHORT_GOP]
        counts.append([_passed(frame_inds, k) for k in (keys, short)])
    cv2.setNumThreads(threads)
    return Reading(len(seconds) / sum(seconds), *np.mean(counts, axis=0))


def _passed(frame_inds: np.ndarray, key_inds: np.ndarray) -> int:
    """Count the frames that are decoded to get the wanted frames."""
    groups = np.searchsorted(key_inds, frame_inds, side='right') - 1
    starts = np.where(groups < 0, 0, np.append(key_inds, 0)[groups])
    return sum(
        frame_inds[starts == start].max() - start + 1
        for start in np.unique(starts)
    )


def advise(
    survey: Survey, reading: Reading, resolution: int
) -> list[tuple[str, str]]:
    """Advise how to make reading faster.

    Args:
        survey: From :func:`survey_videos`.
        reading: From :func:`measure_reading`.
        resolution: Resolution of training.

    Returns:
        Rows (name, value); none if nothing would help much.
    """
    faults = []
    if reading.passed > WASTE * reading.would_pass:
        faults.append(
            f'{reading.passed:.0f} frames are decoded for a clip; with a key '
            f'frame every {SHORT_GOP}, it would be {reading.would_pass:.0f}'
        )
    pixels = np.median(survey.sizes[survey.usable].prod(axis=1))
    large = pixels > WASTE * resolution**2
    if large:
        faults.append(
            f'frames have {pixels / resolution**2:.1f} times the pixels of '
            f'{resolution}x{resolution}'
        )
    first = survey.sources[0]
    rows = []
    if faults:
        tool = (
            'reencode' if isinstance(first, VideoFile) else 'videos_to_frames'
        )
        out = 'OUT.zip' if isinstance(first, ZippedFrames) else 'OUT'
        size = f' --resolution {resolution}' if large else ''
        rows.append(
            (
                'advice',
                f'{", and ".join(faults)}: python tools/dataset_converters/'
                f'{tool}.py {survey.data} {out}{size}',
            )
        )
    if any(
        (source.members[:, 2] == zipfile.ZIP_DEFLATED).any()
        for source in survey.sources
        if isinstance(source, ZippedFrames)
    ):
        rows.append(
            (
                'advice',
                'the zip compresses images that are compressed already: pack '
                'it with "zip -0 -r" to read it faster',
            )
        )
    return rows


def largest_resolution(survey: Survey) -> int:
    """Choose a resolution for which three in four videos are large enough.

    Returns:
        A power of two from 16 to 1024.
    """
    side = np.percentile(survey.sizes[survey.usable].min(axis=1), 25)
    return power_of_two(np.clip(side, 16, 1024))


def power_of_two(number: float) -> int:
    """Return the largest power of two that is not above a number."""
    return int(2 ** np.floor(np.log2(number)))
