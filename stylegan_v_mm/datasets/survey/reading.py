"""How fast one core reads clips, and what would make that faster."""

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

# The reading of so many clips is timed, or of fewer for a second.
MAX_CLIPS = 64
# Frames from one key frame to the next in what reencode.py makes.
SHORT_GOP = 4
# Advice is given where the frames decoded, or their pixels, are more than so
# many times what is needed.
WASTE = 4


@dataclass(frozen=True)
class Reading:
    """How fast clips are read as training reads them.

    Attributes:
        rate: Clips a second on one core, with the central square resized.
        passed: Frames decoded for a clip: for each wanted frame, all from the
            key frame before it; 1 in folders and zips.
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
        How fast that was.
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
    """Count the frames from key frames, or the start, to those wanted."""
    groups = np.searchsorted(key_inds, frame_inds, side='right') - 1
    starts = np.where(groups < 0, 0, np.append(key_inds, 0)[groups])
    return sum(
        frame_inds[starts == start].max() - start + 1
        for start in np.unique(starts)
    )


def advise(
    survey: Survey, reading: Reading, resolution: int
) -> list[tuple[str, str]]:
    """Advise what would make reading faster.

    Args:
        survey: From :func:`survey_videos`.
        reading: From :func:`measure_reading`.
        resolution: Resolution of training.

    Returns:
        Rows (what, value); none if nothing would help much.
    """
    faults = []
    if reading.passed > WASTE * reading.would_pass:
        faults.append(
            f'a clip takes decoding {reading.passed:.0f} frames; with a key '
            f'frame every {SHORT_GOP} it would take {reading.would_pass:.0f}'
        )
    pixels = np.median(survey.sizes[survey.usable].prod(axis=1))
    large = pixels > WASTE * resolution**2
    if large:
        faults.append(
            f'frames have {pixels / resolution**2:.1f} times the pixels that '
            f'{resolution}x{resolution} have'
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
                'the zip compresses pictures that are compressed: made by '
                '"zip -0 -r" it is read faster',
            )
        )
    return rows


def largest_resolution(survey: Survey) -> int:
    """Choose a resolution for which three of four videos are large enough.

    Returns:
        A power of two from 16 to 1024.
    """
    side = np.percentile(survey.sizes[survey.usable].min(axis=1), 25)
    return power_of_two(np.clip(side, 16, 1024))


def power_of_two(number: float) -> int:
    """Return the largest power of two that is not above a number."""
    return int(2 ** np.floor(np.log2(number)))
