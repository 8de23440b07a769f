"""Plots of a data set: histograms and a contact sheet."""

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw

from ...errors import InputError
from ...video.encoding import video_grid
from ...video.reader import DamagedVideoError
from ..sources.listing import printable
from ..transforms import ResizeCrop
from .contents import Survey
from .findings import Finding
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


def findings_sheet(
    survey: Survey,
    findings: Sequence[Finding],
    num_findings: int = 40,
    height: int = 120,
) -> Image.Image:
    """Show findings: four frames of each in a row, with what was found.

    A red rectangle marks where it is, if it is not everywhere; of borders, it
    marks what is inside.

    Args:
        survey: From :func:`survey_videos`.
        findings: From :func:`look_at_videos`.
        num_findings: How many at most.
        height: Of a frame, in pixels.

    Raises:
        InputError: No frame can be decoded.
    """
    sources = {source.name: source for source in survey.sources}
    rows = []
    for finding in findings[:num_findings]:
        first = finding.start - 2 * (finding.kind == 'cut')
        inds = np.linspace(first, finding.end - 1, 4).astype(int)
        inds = np.clip(inds, 0, len(sources[finding.video]) - 1)
        frames = []
        with suppress(DamagedVideoError):
            # Equal neighbours are decoded once.
            there, where = np.unique(inds, return_inverse=True)
            frames = [*sources[finding.video].read(there)[where]]
        row = [_marked(frame, finding, height) for frame in frames]
        if row:
            rows.append((finding, row))
    if not rows:
        raise InputError(f'{survey.data}: there is no finding to show')
    gap, label = 4, 16
    width = max(sum(x.width + gap for x in row) for _, row in rows)
    size = max(width, 480), len(rows) * (height + label + gap)
    sheet = Image.new('RGB', size, 'white')
    draw = ImageDraw.Draw(sheet)
    for i, (finding, row) in enumerate(rows):
        top = i * (height + label + gap)
        text = f'{finding.kind}: {finding.video}, frames {finding.start} to '
        text += f'{finding.end - 1}; {finding.about}'
        draw.text((2, top + 2), printable(text), 'black')
        left = 0
        for image in row:
            sheet.paste(image, (left, top + label))
            left += image.width + gap
    return sheet


def _marked(frame: np.ndarray, finding: Finding, height: int) -> Image.Image:
    """Resize a frame [H, W, 3] and draw the region of a finding into it."""
    image = Image.fromarray(frame)
    width = max(1, round(image.width * height / image.height))
    image = image.resize((width, height))
    if finding.region is not None:
        left, top, right, bottom = finding.region
        ImageDraw.Draw(image).rectangle(
            (
                left * width,
                top * height,
                right * width - 1,
                bottom * height - 1,
            ),
            outline='red',
        )
    return image
