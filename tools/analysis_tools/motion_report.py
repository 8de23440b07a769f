"""Compare how the videos of two data sets move, in a table and a picture.

Real against generated ones, or any two. What the numbers mean, and what they
are blind to: docs/metrics.md.

Example:
    python tools/analysis_tools/motion_report.py data/clouds generated.zip
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter
from plot_log import COLOURS, INK, finish_panel, write_report
from tqdm import tqdm

from stylegan_v_mm.cli import (
    picture_size,
    positive_int,
    run_tool,
    whole_number,
)
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation.motion_report import (
    MIN_NUM_FRAMES,
    ClipMotion,
    clip_motion,
    compare,
    lags,
)
from stylegan_v_mm.evaluation.real_clips import own_share, real_clips
from stylegan_v_mm.evaluation.results import append_results, format_table


def measure(
    data: str, num_clips: int, num_frames: int, resolution: int
) -> ClipMotion:
    """Measure a clip of each video.

    Returns:
        ClipMotion: Each field with one more dimension, [N, ...], in front.

    Raises:
        InputError: The videos cannot be read or are too short.
    """
    clips = own_share(
        real_clips(dict(data_root=data), num_frames, resolution), num_clips
    )
    motions = [
        clip_motion(clips[i]['video'])
        for i in tqdm(range(len(clips)), data, unit='clip', disable=None)
    ]
    return ClipMotion(*map(torch.stack, zip(*motions)))


def mean(clips: ClipMotion) -> ClipMotion:
    """Average over clips."""
    return ClipMotion(*(field.mean(0) for field in clips))


def table(values: dict[str, float]) -> list[list[str]]:
    """Lay out what :func:`compare` gave: rows of cells."""
    rows = [['', 'real', 'fake']]
    for name, value in values.items():
        if f'{name}-real' in values:
            rows.append(
                [name, f'{values[f"{name}-real"]:.4g}', f'{value:.4g}']
            )
        elif not name.endswith('-real'):
            rows.append([name, '', f'{value:.4g}'])
    return rows


def draw(sets: list[tuple[str, ClipMotion]], num_frames: int) -> Figure:
    """Draw changes by lag, spectra, changes of each clip, and bad clips.

    Args:
        sets (list): Of name and clips, from :func:`measure`.
        num_frames (int): Frames of a clip.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    figure = Figure(figsize=(10, 7), dpi=100, layout=layout)
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
    ax: Axes, x: Sequence[float], values: torch.Tensor, colour: str
) -> None:
    """Draw the mean of clips [N, K], and where the middle half of them is."""
    low, high = np.quantile(values, [0.25, 0.75], axis=0)
    ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    ax.plot(x, values.mean(0), color=colour, linewidth=1.6)


def main() -> None:
    """Read the command line, measure, print, and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('real', help='folder, zip or video file')
    parser.add_argument('fake', help='folder, zip or video file')
    parser.add_argument(
        '--num-clips',
        type=positive_int,
        default=256,
        help='the most of either side, one a video (default: 256)',
    )
    parser.add_argument(
        '--num-frames',
        type=whole_number(MIN_NUM_FRAMES, 10**6),
        default=64,
        help='of a clip; shorter videos are left out (default: 64)',
    )
    parser.add_argument(
        '--resolution',
        type=picture_size,
        default=128,
        help='height and width in pixels that all frames get before anything '
        'is measured: central square, resized (default: 128)',
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('motion_report.png'),
        help='picture to write (default: %(default)s)',
    )
    parser.add_argument(
        '--json', type=Path, help='a .jsonl file to append the results to'
    )
    args = parser.parse_args()
    if args.out.suffix != '.png':
        raise InputError(f'{args.out}: the picture must end in .png')
    for path in filter(None, [args.out, args.json]):
        if not path.parent.is_dir():
            raise InputError(f'{path}: there is no folder {path.parent}')
    real, fake = (
        measure(data, args.num_clips, args.num_frames, args.resolution)
        for data in (args.real, args.fake)
    )
    values = compare(mean(fake), mean(real))
    print(format_table(table(values)))
    if args.json:
        about = dict(
            real_clips=len(real.frozen),
            fake_clips=len(fake.frozen),
            real=args.real,
            fake=args.fake,
            num_frames=args.num_frames,
            resolution=args.resolution,
        )
        append_results(
            args.json,
            [
                dict(metric=name, value=value, **about)
                for name, value in values.items()
            ],
        )
    sets = [(args.real, real), (args.fake, fake)]
    write_report(draw(sets, args.num_frames), args.out)
    print(f'picture in {args.out}')


if __name__ == '__main__':
    run_tool(main)
