"""Plots of a data set: histograms and a contact sheet."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from ...errors import InputError
from ...video.encoding import video_grid
from ...video.reader import DamagedVideoError
from ..transforms import ResizeCrop
from .contents import Survey
from .motion import Motion

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def histograms(survey: Survey, motion: Motion) -> 'Figure':
    """Plot lengths, sizes, frame rates and motion of the videos.

    Args:
        survey: From :func:`survey_videos`.
        motion: From :func:`measure_motion`.
    """
    # Unlike pyplot, this needs no window system.
    from matplotlib.figure import Figure

    figure = Figure((10, 7), layout='constrained')
    figure.suptitle(f'{survey.data}: {len(survey.sources)} videos')
    (lengths, sizes), (rates, change) = figure.subplots(2, 2)
    lengths.hist(survey.lens, bins=40)
    lengths.axvline(survey.needed, color='red', label='needed for a clip')
    lengths.legend()
    lengths.set(xlabel='frames', ylabel='videos', title='Lengths')
    read = survey.sizes[survey.sizes.min(axis=1) > 0]
    sizes.hist([*read.T], bins=40, label=['width', 'height'])
    sizes.legend()
    sizes.set(xlabel='pixels', ylabel='videos', title='Sizes')
    rates.hist(survey.fps[survey.fps > 0], bins=40)
    rates.set(xlabel='frames a second', ylabel='videos', title='Frame rates')
    for lags, diffs in motion.curves:
        change.plot(np.r_[0, lags], np.r_[0, diffs], color='C0', alpha=0.5)
    if motion.half_lag is not None:
        change.axvline(motion.half_lag, color='red', label='half, median')
        change.legend()
    change.set(xlabel='frames apart', ylabel='grey levels', title='Change')
    return figure


def contact_sheet(
    survey: Survey,
    num_videos: int = 12,
    num_frames: int = 6,
    resolution: int = 128,
) -> np.ndarray:
    """Show frames of videos from start to end, one row per video.

    Args:
        survey: From :func:`survey_videos`.
        num_videos: How many videos at most, spread over the data set.
        num_frames: How many frames of each video.
        resolution: Width and height of a frame in pixels.

    Returns:
        RGB image [H, W, 3], uint8.

    Raises:
        InputError: No video can be decoded.
    """
    videos = np.flatnonzero(survey.lens)
    picks = np.unique(np.linspace(0, len(videos) - 1, num_videos).astype(int))
    cells = []
    for video in videos[picks]:
        source = survey.sources[video]
        intact = np.setdiff1d(np.arange(len(source)), survey.damaged[video])
        if not len(intact):
            continue
        inds = intact[np.linspace(0, len(intact) - 1, num_frames).astype(int)]
        try:
            clip = {'frames': source.read(inds)}
        except DamagedVideoError:
            continue
        cells += [*ResizeCrop(resolution)(clip)['frames']]
    if not cells:
        raise InputError(f'{survey.data}: no video to show can be decoded')
    images = torch.from_numpy(np.stack(cells)).permute(0, 3, 1, 2)
    sheet = video_grid(images[:, None], ncols=num_frames)[0]
    return sheet.permute(1, 2, 0).numpy()
