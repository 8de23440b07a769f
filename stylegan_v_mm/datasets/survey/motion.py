"""Measure how fast frames change, and derive the settings of a config."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from tqdm import tqdm

from ...video.reader import DamagedVideoError
from ..sources.finding import VideoSource, read_each
from .contents import Survey
from .reading import largest_resolution, power_of_two

# Distances of the frames that are compared.
LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)
# With this many lags, a rise differs from a plateau: at least 11 frames.
MIN_LAGS = 6
# In grey levels; a video that changes by less is still.
LEAST_CHANGE = 1


@dataclass(frozen=True)
class Motion:
    """How much frames differ, depending on their distance.

    Attributes:
        curves: For each of several videos, lags in frames, [L], and mean
            absolute differences in grey levels, [L].
        half_lag: The lag, in frames, at which half of the largest difference
            is reached, as the median over the videos; None if hardly anything
            moves or the videos are too short.
    """

    curves: list[tuple[np.ndarray, np.ndarray]]
    half_lag: float | None


def measure_motion(
    survey: Survey, num_videos: int = 12, num_frames: int = 257
) -> Motion:
    """Measure how fast frames change.

    Frames from the middle of a video are compared as grey images of 32 x 32
    pixels, in which noise and compression average out. All pairs of frames are
    compared for each lag up to three quarters of their number.

    Args:
        survey: From :func:`survey_videos`.
        num_videos: How many of the usable videos to use, evenly spread.
        num_frames: How many frames of each to use.

    Returns:
        The differences by lag.
    """
    usable = np.flatnonzero(survey.usable)
    picks = np.linspace(0, len(usable) - 1, num_videos).astype(int)
    sources = [survey.sources[usable[i]] for i in np.unique(picks)]
    # FFmpeg releases Python's global lock, so threads are enough.
    with ThreadPoolExecutor() as pool:
        curves = pool.map(lambda s: _differences(s, num_frames), sources)
        progress = tqdm(
            curves,
            'Comparing frames',
            total=len(sources),
            unit='video',
            disable=None,
        )
        curves = [curve for curve in progress if curve]
    half_lags = [
        _half_lag(lags, diffs)
        for lags, diffs in curves
        if diffs.max() >= LEAST_CHANGE
    ]
    # A few moving videos among still ones do not define a period.
    moving = len(half_lags) > len(curves) / 2
    return Motion(curves, float(np.median(half_lags)) if moving else None)


def _differences(
    source: VideoSource, num_frames: int
) -> tuple[np.ndarray, np.ndarray] | None:
    num_frames = min(num_frames, len(source))
    lags = np.array([lag for lag in LAGS if lag <= num_frames * 3 // 4])
    if len(lags) < MIN_LAGS:
        return None
    start = (len(source) - num_frames) // 2
    try:
        small = [
            cv2.resize(
                cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY),
                (32, 32),
                interpolation=cv2.INTER_AREA,
            )
            for frame in read_each(source, range(start, start + num_frames))
        ]
    except DamagedVideoError:
        return None
    frames = np.array(small, np.float32)
    diffs = [np.abs(frames[lag:] - frames[:-lag]).mean() for lag in lags]
    return lags, np.array(diffs)


def _half_lag(lags: np.ndarray, diffs: np.ndarray) -> float:
    """Find where a curve from (0, 0) first reaches half of its maximum."""
    lags, diffs = np.r_[0, lags], np.r_[0, diffs]
    half = diffs.max() / 2
    i = np.argmax(diffs >= half)
    return float(np.interp(half, diffs[i - 1 : i + 1], lags[i - 1 : i + 1]))


def motion_period(half_lag: float, max_num_frames: int) -> int:
    """Choose ``motion_period`` from how fast frames change.

    After L frames, a wave of period P differs from itself by sin(pi L / P) of
    the largest difference, so half of it is reached at L = P / 6. The motion
    therefore has periods of about six times ``half_lag``, and the shortest
    wave of the model should not be longer than that.

    Args:
        half_lag: See :class:`Motion`.
        max_num_frames: Longest period of the model, at least 16.

    Returns:
        16, 32, 64, 128 or 256.
    """
    longest = min(256, max_num_frames)
    return power_of_two(np.clip(6 * half_lag, 16, longest))


def config_lines(
    survey: Survey, motion: Motion, resolution: int | None = None
) -> list[str]:
    """Propose the lines of a config.

    Args:
        survey: From :func:`survey_videos`.
        motion: From :func:`measure_motion`.
        resolution: Resolution of training; None proposes one.

    Returns:
        Assignments of variables, one per line.
    """
    usable = survey.usable
    lines = [f'data_root = {survey.data!r}']
    if survey.labels:
        lines += [
            f'labels = {survey.labels!r}',
            f'num_classes = {survey.c.shape[1]}',
        ]
    if resolution is None:
        lines.append(f'resolution = {largest_resolution(survey)}  # at most')
    else:
        lines.append(f'resolution = {resolution}')
    rates = Counter(f'{fps:.4g}' for fps in survey.fps[usable] if fps)
    if rates:
        lines.append(f'fps = {rates.most_common(1)[0][0]}  # of the data')
    max_num_frames = int(np.clip(survey.lens[usable].max(), 16, 1024))
    lines.append(f'max_num_frames = {max_num_frames}')
    if motion.half_lag is None:
        lines.append('# motion_period: too little moves, or videos are short')
    else:
        lines.append(
            f'motion_period = {motion_period(motion.half_lag, max_num_frames)}'
            f'  # half of the change in {motion.half_lag:.2g} frames'
        )
    return lines
