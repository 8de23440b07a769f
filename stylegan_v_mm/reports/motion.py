"""The motion of two data sets as a picture."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from ..evaluation.motion_report import ClipMotion, lags
from .style import COLOURS, INK, finish_panel, new_figure


def draw_motion(sets: list[tuple[str, ClipMotion]], num_frames: int) -> Figure:
    """Draw changes by lag, spectra, changes of each clip, and bad clips.

    Args:
        sets (list): Name and clips of each data set, see
            :func:`~stylegan_v_mm.evaluation.motion_report.measure_motion`.
        num_frames (int): Frames of a clip.
    """
    figure = new_figure(10, 7)
    (change, spectrum), (clips, flaws) = figure.subplots(2, 2)
    ls = lags(num_frames)
    shown = len([lag for lag in ls if lag <= 8]) - 1
    for i, ((name, motion), colour) in enumerate(zip(sets, COLOURS)):
        draw_band(change, ls, motion.differences, colour)
        frequencies = [i / num_frames for i in range(1, num_frames // 2 + 1)]
        draw_band(spectrum, frequencies, motion.spectrum, colour)
        clips.ecdf(motion.differences[:, shown], color=colour, linewidth=1.6)
        shares = [float(motion.frozen.mean()), float(motion.loops.mean())]
        label = f'{name} ({len(motion.frozen):,} clips)'
        bars = flaws.bar(
            np.arange(2) + 0.4 * i - 0.2, shares, 0.36, color=colour,
            label=label,
        )  # fmt: skip
        flaws.bar_label(
            bars, [f'{share:.1%}' for share in shares], fontsize=9, color=INK
        )
    change.set_xscale('log', base=2)
    change.set_xticks(ls, map(str, ls))
    change.set_ylim(bottom=0)
    finish_panel(change, 'Change, grey levels', 'frames apart', legend=False)
    spectrum.set_xlim(0, 0.51)
    finish_panel(spectrum, 'Power, decibels', 'cycles a frame', legend=False)
    clips.set_xlim(left=0)
    clips.yaxis.set_major_formatter(PercentFormatter(1))
    finish_panel(
        clips,
        'Share of clips that change less',
        f'grey levels, {ls[shown]} frames apart',
        legend=False,
    )
    flaws.set_xticks([0, 1], ['frozen', 'repeating'])
    flaws.yaxis.set_major_formatter(PercentFormatter(1))
    flaws.set_ylim(0, max(1.15 * flaws.get_ylim()[1], 0.05))
    flaws.set_axisbelow(True)
    finish_panel(flaws, 'Share of clips that are', '', legend=False)
    flaws.grid(axis='x', visible=False)
    figure.legend(
        *flaws.get_legend_handles_labels(),
        loc='outside upper center',
        ncols=2,
        frameon=False,
        labelcolor=INK,
    )
    return figure


def draw_band(
    ax: Axes, x: Sequence[float], values: Tensor, colour: str
) -> None:
    """Draw the mean of clips [N, K], and the range of the middle half."""
    low, high = np.quantile(values, [0.25, 0.75], axis=0)
    ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    ax.plot(x, values.mean(0), color=colour, linewidth=1.6)
