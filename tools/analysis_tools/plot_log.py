"""Draw the curves of training runs, resumed ones as one, into a picture.

Examples:
    python tools/analysis_tools/plot_log.py work_dirs/clouds
    python tools/analysis_tools/plot_log.py work_dirs/a work_dirs/b --out x.png
    python tools/analysis_tools/plot_log.py work_dirs/mine --reference good_run
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

import stylegan_v_mm
from stylegan_v_mm.cli import run_tool
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import atomic_write

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
# Of validation lines and of lines of metrics.jsonl, besides metrics.
NO_METRICS = {
    'step', 'time', 'data_time', 'memory', 'iter', 'kimg', 'num_runs',
}  # fmt: skip
COLOURS = (
    '#1f6fb4', '#e07b1a', '#3a9a4f', '#b6403f', '#7a5ba6', '#7f6a5c',
    '#cf6fae', '#5f6b74',
)  # fmt: skip
NUM_POINTS = 100  # that a smooth curve has room for
NUM_SAVED = 2 * NUM_POINTS  # of a curve in a file, at most
INK = '#30363d'
# Of the reference.
PALE: dict[str, Any] = dict(linewidth=5, alpha=0.3)
# Where the models that come with the package have their curves.
ZOO = Path(stylegan_v_mm.__file__).parent / 'zoo'


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
        Run: With the iterations of metrics translated to kimg. Metrics that
        only ``tools/test.py`` has measured, of checkpoints, are among them.

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
    measured = measured_later(Path(work_dir, 'metrics.jsonl'))
    for key in measured.keys() - points.keys():
        points[key] = sorted(measured[key].items())
    metrics |= dict.fromkeys(key for key in measured if key not in metrics)
    return Run(
        name=os.path.normpath(work_dir),
        curves={key: np.array(pairs).T for key, pairs in points.items()},
        metrics=list(metrics),
        restarts=[kimg(start) for start in starts[1:]],
        end=kimgs[-1],
    )


def measured_later(path: Path) -> dict[str, dict[float, float]]:
    """Read what ``tools/test.py`` wrote: metric -> kimg -> value.

    Raises:
        InputError: A line is damaged.
    """
    points: dict[str, dict[float, float]] = defaultdict(dict)
    lines = read_lines(path) if path.exists() else []
    for number, line in enumerate(lines, 1):
        if not isinstance(line, dict) or 'kimg' not in line:
            raise InputError(f'{path}, line {number} has no kimg: remove it')
        for key, value in line.items():
            if isinstance(value, int | float) and key not in NO_METRICS:
                points[key][line['kimg']] = value  # the last one counts
    return points


def save_curves(run: Run, path: Path) -> None:
    """Write the curves of a run to a small file, as a reference for others.

    Long ones are averaged to 200 points. The speed, which depends on the
    machine, is left out.

    Raises:
        InputError: The file cannot be written.
    """
    quantities = {key for keys in PANELS.values() for key in keys}
    quantities |= set(run.metrics)
    curves = {}
    for key in sorted(quantities & run.curves.keys() - {'frames_per_sec'}):
        points = run.curves[key].T
        points = points[np.isfinite(points).all(1)]
        if len(points):
            parts = np.array_split(points, min(len(points), NUM_SAVED))
            means = np.array([part.mean(0) for part in parts]).T
            curves[key] = [[float(f'{v:.5g}') for v in row] for row in means]
    content = dict(end=float(run.end), metrics=run.metrics, curves=curves)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content) + '\n')


def read_reference(name: str) -> Run:
    """Read a run to compare with.

    Args:
        name: A work dir; a file of :func:`save_curves`; or the name of a
            model that comes with the package.

    Raises:
        InputError: It is none of these, or damaged.
    """
    if os.path.isdir(name):
        return read_run(name)
    known = {
        path.name.removesuffix('.curves.json'): path
        for path in sorted(ZOO.glob('*.curves.json'))
    }
    path = Path(name) if os.path.isfile(name) else known.get(name)
    if path is None:
        raise InputError(
            f'--reference {name}: there is no such work dir or file of '
            '--save-curves, and no model of that name comes with its curves; '
            f'known are {", ".join(known) or "none"}'
        )
    try:
        content = json.loads(path.read_text())
        return Run(
            name=path.name.removesuffix('.json').removesuffix('.curves'),
            curves={
                key: np.array(points, float).reshape(2, -1)
                for key, points in content['curves'].items()
            },
            metrics=list(content['metrics']),
            restarts=[],
            end=float(content['end']),
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise InputError(
            f'{path} does not hold curves as --save-curves writes them'
        ) from None


def smooth(y: np.ndarray) -> np.ndarray:
    """Average each point and its neighbours, a fiftieth of the curve."""
    window = np.ones(2 * (len(y) // NUM_POINTS) + 1)
    counts = np.convolve(np.ones(len(y)), window, 'same')
    return np.convolve(y, window, 'same') / counts


def draw(runs: Sequence[Run], reference: Run | None = None) -> Figure:
    """Draw a panel for each quantity that any run has.

    A metric shares one with what it is for real videos, named ``-real``; its
    errors have none.

    One run has a colour for each curve; of several, each has its own. The
    reference is wide and pale, and ends where the longest run will be when it
    is twice as long.
    """
    panels = dict(PANELS)
    for run in runs:
        panels |= {
            name: {name: 'generated', f'{name}-real': 'real'}
            for name in run.metrics
            if not name.endswith(('-real', '-se', '-std'))
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
        draw_panel(ax, title, keys, runs, reference)
    for ax in axes[len(panels) :]:
        ax.remove()
    names = [f'{run.name} ({run.end:,.4g} kimg)' for run in runs]
    if len(runs) == 1:
        note = ', resumed at the dotted lines' * bool(runs[0].restarts)
        if reference:
            note += f'; wide and pale: {reference.name}'
        figure.suptitle(names[0] + note, fontsize=13, color=INK)
    else:
        handles = [
            Line2D([], [], color=COLOURS[i % len(COLOURS)], linewidth=3)
            for i in range(len(runs))
        ]
        if reference:
            handles.append(Line2D([], [], color=INK, **PALE))
            names.append(reference.name)
        figure.legend(
            handles,
            names,
            loc='outside upper center',
            ncols=columns,
            frameon=False,
            labelcolor=INK,
        )
    return figure


def draw_panel(
    ax: Axes,
    title: str,
    keys: dict[str, str],
    runs: Sequence[Run],
    reference: Run | None,
) -> None:
    """Draw the curves of one panel."""
    several = len(runs) > 1
    end = max(run.end for run in runs)
    drawn = []
    if reference:
        end = max(end, min(reference.end, 2 * end))
        for j, key in enumerate(keys):
            x, y = reference.curves.get(key, np.zeros((2, 0)))
            x, y = x[x <= end], y[x <= end]
            if not len(y):
                continue
            drawn.append(y)
            ax.plot(
                x,
                y if key in reference.metrics else smooth(y),
                color=INK if several else COLOURS[j % len(COLOURS)],
                linestyle='--' if several and j else '-',
                marker='o' if key in reference.metrics else '',
                **PALE,
            )
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
    ax.set_xlim(0, 1.02 * end)
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
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format='png')


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
    parser.add_argument(
        '--reference',
        metavar='RUN',
        help='draw over the curves of this run: a work dir, a file of '
        '--save-curves, or the name of a model that comes with the package',
    )
    parser.add_argument(
        '--save-curves',
        type=Path,
        metavar='FILE',
        help='.json to write, too: the curves, as a reference for other runs',
    )
    args = parser.parse_args()
    path = args.out or Path(args.work_dirs[0], 'report.png')
    if path.suffix != '.png':
        raise InputError(f'{path}: the picture must end in .png')
    curves = args.save_curves
    if curves and (len(args.work_dirs) > 1 or curves.suffix != '.json'):
        raise InputError(
            f'--save-curves {curves}: give one work dir, and a file that ends '
            'in .json'
        )
    runs = [read_run(folder) for folder in args.work_dirs]
    reference = (
        read_reference(args.reference) if args.reference is not None else None
    )
    write_report(draw(runs, reference), path)
    print(f'report in {path}')
    if curves:
        save_curves(runs[0], curves)
        print(f'curves in {curves}')


if __name__ == '__main__':
    run_tool(main)
