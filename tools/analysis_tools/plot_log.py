"""Draw the curves of training runs, resumed ones as one, into a picture.

Example:
    python tools/analysis_tools/plot_log.py work_dirs/clouds
    python tools/analysis_tools/plot_log.py work_dirs/a work_dirs/b --out x.png
"""

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.tool import run_tool

# Title -> what to draw, and a label of each curve where there are several.
PANELS = {
    'Losses': {'loss_g': 'generator', 'loss_d': 'discriminator'},
    'Signs of logits': {'signs_real': 'real', 'signs_fake': 'fake'},
    'Logits': {'logits_real': 'real', 'logits_fake': 'fake'},
    'R1 penalty': {'r1_penalty': ''},
    'Path length': {'pl_mean': ''},
    'Path length penalty': {'pl_penalty': ''},
    'Augmentation p': {'augment_p': ''},
    'Frames a second': {'frames_per_sec': ''},
}
# Of validation lines, besides metrics.
NO_METRICS = {'step', 'time', 'data_time', 'memory'}
COLOURS = (
    '#1f6fb4', '#e07b1a', '#3a9a4f', '#b6403f', '#7a5ba6', '#7f6a5c',
    '#cf6fae', '#5f6b74',
)  # fmt: skip
NUM_POINTS = 100  # that a smooth curve has room for
INK = '#30363d'


class Run(NamedTuple):
    """The curves of a work dir; x is in kimg, thousands of frames."""

    name: str
    curves: dict[str, np.ndarray]  # quantity -> [2, n]: x and y
    metrics: list[str]  # names of those curves that are metrics
    restarts: list[float]  # where it was resumed
    end: float


def read_lines(path: Path) -> list[dict]:
    """Read a log file; a killed run may have left half a line at its end.

    Raises:
        InputError: Another line is damaged.
    """
    texts = path.read_text(errors='replace').splitlines()
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            if number < len(texts):
                raise InputError(
                    f'{path}, line {number} is damaged: remove it'
                ) from None
    return lines


def read_run(work_dir: str) -> Run:
    """Read all logs of a work dir, as one run.

    A resumed run repeats what was trained after the checkpoint; its lines
    replace those of the earlier one from its first iteration on.

    Args:
        work_dir: Of tools/train.py.

    Returns:
        Run: With the iterations of metrics translated to kimg.

    Raises:
        InputError: There is no log, or it is damaged.
    """
    lines: list[dict] = []
    starts: list[int] = []
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        later = read_lines(path)
        # tools/test.py writes such files, too, of no training.
        if any('kimg' in line for line in later):
            start = later[0]['step']
            lines = [line for line in lines if line['step'] < start] + later
            starts = [other for other in starts if other < start] + [start]
    training = [line for line in lines if 'kimg' in line]
    if not training:
        raise InputError(
            f'{work_dir} has no training log (DATE/vis_data/scalars.json): '
            'give a work dir of tools/train.py; the first line comes after '
            'log_interval iterations'
        )
    steps = np.array([0, *(line['step'] for line in training)])
    kimgs = np.array([0, *(line['kimg'] for line in training)])

    def kimg(step: int) -> float:
        if step > steps[-1]:
            slope = (kimgs[-1] - kimgs[-2]) / (steps[-1] - steps[-2])
            return float(kimgs[-1] + (step - steps[-1]) * slope)
        return float(np.interp(step, steps, kimgs))

    points, metrics = defaultdict(list), {}
    for line in lines:
        for key, value in line.items():
            if 'kimg' not in line:
                if key in NO_METRICS:
                    continue
                metrics[key] = None
            points[key].append((kimg(line['step']), value))
    return Run(
        name=os.path.normpath(work_dir),
        curves={key: np.array(pairs).T for key, pairs in points.items()},
        metrics=list(metrics),
        restarts=[kimg(start) for start in starts[1:]],
        end=kimgs[-1],
    )


def smooth(y: np.ndarray) -> np.ndarray:
    """Average each point and its neighbours, a fiftieth of the curve."""
    window = np.ones(2 * (len(y) // NUM_POINTS) + 1)
    counts = np.convolve(np.ones(len(y)), window, 'same')
    return np.convolve(y, window, 'same') / counts


def draw(runs: Sequence[Run]) -> Figure:
    """Draw a panel for each quantity that any run has.

    A metric shares one with what it is for real videos, named ``-real``.

    One run has a colour for each curve; of several, each has its own.
    """
    panels = dict(PANELS)
    for run in runs:
        panels |= {
            name: {name: 'generated', f'{name}-real': 'real'}
            for name in run.metrics
            if not name.endswith('-real')
        }
    there = {key for run in runs for key in run.curves}
    panels = {
        title: {key: label for key, label in keys.items() if key in there}
        for title, keys in panels.items()
        if not there.isdisjoint(keys)
    }
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(
        figsize=(5 * columns, 3 * rows + 0.7),
        dpi=100,
        layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12),
    )
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for ax, (title, keys) in zip(axes, panels.items()):
        draw_panel(ax, title, keys, runs)
    for ax in axes[len(panels) :]:
        ax.remove()
    names = [f'{run.name} ({run.end:,.4g} kimg)' for run in runs]
    if len(runs) == 1:
        note = ', resumed at the dotted lines' * bool(runs[0].restarts)
        figure.suptitle(names[0] + note, fontsize=13, color=INK)
    else:
        figure.legend(
            [
                Line2D([], [], color=COLOURS[i % len(COLOURS)], linewidth=3)
                for i in range(len(runs))
            ],
            names,
            loc='outside upper center',
            ncols=columns,
            frameon=False,
            labelcolor=INK,
        )
    return figure


def draw_panel(
    ax: Axes, title: str, keys: dict[str, str], runs: Sequence[Run]
) -> None:
    """Draw the curves of one panel."""
    several = len(runs) > 1
    drawn = []
    for i, run in enumerate(runs):
        for j, (key, label) in enumerate(keys.items()):
            if key not in run.curves:
                continue
            x, y = run.curves[key]
            drawn.append(y)
            colour = COLOURS[(i if several else j) % len(COLOURS)]
            style: dict[str, Any] = dict(color=colour)
            if key in run.metrics:
                style |= dict(marker='o', markersize=4)
            elif len(y) > NUM_POINTS:
                ax.plot(x, y, alpha=0.3, linewidth=0.8, **style)
                y = smooth(y)
            if several and j:
                style |= dict(linestyle='--')
            ax.plot(x, y, linewidth=1.6, label='' if i else label, **style)
        if not several:
            for x in run.restarts:
                ax.axvline(x, color=INK, linewidth=0.8, linestyle=':')
    ax.set_xlim(0, 1.02 * max(run.end for run in runs))
    if title.startswith('Signs'):
        ax.set_ylim(-1.05, 1.05)
    elif 'penalty' in title and np.nanmin(np.concatenate(drawn)) > 0:
        ax.set_yscale('log')
    finish_panel(ax, title, 'kimg', legend=len(keys) > 1)


def finish_panel(ax: Axes, title: str, x: str, legend: bool) -> None:
    """Give a panel its title, the name of its x axis, and its looks."""
    ax.set_title(title, fontsize=11, loc='left', color=INK)
    ax.set_xlabel(x, fontsize=9, color=INK)
    ax.tick_params(labelsize=9, colors=INK)
    ax.grid(color='#d8dde2', linewidth=0.6)
    ax.spines[['top', 'right']].set_visible(False)
    if legend:
        # Above the panel, where it hides no curve.
        ax.legend(
            loc='lower right',
            bbox_to_anchor=(1, 1),
            ncols=len(ax.get_legend_handles_labels()[0]) or 1,
            fontsize=9,
            frameon=False,
            labelcolor=INK,
            borderaxespad=0.2,
        )


def write_report(figure: Figure, path: Path) -> None:
    """Write a picture: whole or not at all.

    Raises:
        InputError: It cannot be written.
    """
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        figure.savefig(temporary, format='png')
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f'{path} cannot be written: {error.strerror}'
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def main() -> None:
    """Read the command line, draw, and say where the picture is."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR')
    parser.add_argument(
        '--out',
        type=Path,
        help='.png to write; by default report.png in the first work dir',
    )
    args = parser.parse_args()
    path = args.out or Path(args.work_dirs[0], 'report.png')
    if path.suffix != '.png':
        raise InputError(f'{path}: the picture must end in .png')
    write_report(draw([read_run(folder) for folder in args.work_dirs]), path)
    print(f'report in {path}')


if __name__ == '__main__':
    run_tool(main)
