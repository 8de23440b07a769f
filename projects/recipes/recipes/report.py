"""What a comparison says: a table and a picture."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation.results import format_table
from stylegan_v_mm.reports.style import (
    COLOURS,
    finish_panel,
    new_figure,
    save_picture,
)

from .comparison import Comparison, Run

BASELINE = 'published'
_MOTION = 'FrameDiff8'


def time_to(
    level: float, times: Sequence[float], values: Sequence[float]
) -> float:
    """Return when falling values first reach a level; inf if they do not.

    Between two measurements, the logarithm of the values is linear in time.
    """
    for i, value in enumerate(values):
        if value <= level:
            if i == 0:
                return times[0]
            before = math.log(values[i - 1])
            share = (before - math.log(level)) / (before - math.log(value))
            return times[i - 1] + share * (times[i] - times[i - 1])
    return math.inf


def alive_from(
    steps: Sequence[int], values: Sequence[float], least: float
) -> float:
    """Return the step from which values stay above; inf if the last is not."""
    start = math.inf
    for step, value in zip(reversed(steps), reversed(values)):
        if value <= least:
            break
        start = step
    return start


def _ends(run: Run, minutes: float) -> list[tuple[float, dict]]:
    """List minutes and metrics of the ends of turns."""
    results = run.results('test')
    return [
        (minutes * turn, results[number])
        for turn, number in enumerate(run.turns, 1)
        if number in results
    ]


def _distance(comparison: Comparison) -> str:
    """Return the name of the config's first metric.

    Raises:
        InputError: Nothing of the published recipe was measured.
    """
    for run in comparison.runs:
        for line in run.results('test').values():
            if run.name == BASELINE:
                return line['protocols'][0]['results'][0]
    raise InputError(
        f'{comparison.runs[0].out} holds no measurement of the recipe '
        f'{BASELINE}: do the steps train and measure first'
    )


def _alive(run: Run) -> float:
    """Return from which iteration a run moves half as much as real videos."""
    lines = sorted(run.results('motion').items())
    return alive_from(
        [number for number, _ in lines],
        [metrics[_MOTION] for _, metrics in lines],
        lines[-1][1][f'{_MOTION}-real'] / 2 if lines else 0,
    )


def _mean(values: Sequence[float], digits: int) -> str:
    """Format a mean with the standard deviation."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < len(values) or not values:
        return f'{len(finite)} of {len(values)}'
    text = f'{fmean(values):.{digits}f}'
    if len(values) > 1:
        text += f' ± {stdev(values):.{digits}f}'
    return text


def table(comparison: Comparison) -> str:
    """Compare the recipes: means and standard deviations over seeds.

    The columns are the config's first metric at the end of each turn; kimg and
    the difference over 8 frames at the end, against that of real videos; the
    minutes until the metric is that of the published recipe at its end; and
    the iteration from which the difference over 8 frames stays above half of
    the real one. If not all seeds get there, a cell says how many do.

    Raises:
        InputError: Nothing of the published recipe was measured.
    """
    minutes, distance = comparison.seconds / 60, _distance(comparison)
    ends = {run: _ends(run, minutes) for run in comparison.runs}
    level = fmean(
        lines[-1][1][distance]
        for run, lines in ends.items()
        if run.name == BASELINE and lines
    )
    times = [minutes * i for i in range(1, comparison.num_turns + 1)]
    rows = [
        [
            'recipe',
            *(f'{distance} at {time:g} min' for time in times),
            'kimg',
            'FrameDiff8 / real',
            f'minutes to {level:.0f}',
            'moves from iteration',
        ]
    ]
    for name in dict.fromkeys(run.name for run in comparison.runs):
        runs = [x for x in comparison.runs if x.name == name and ends[x]]
        if not runs:
            continue
        at = [dict(ends[run]) for run in runs]
        final = [ends[run][-1][1] for run in runs]
        cells = [
            _mean([x[time][distance] for x in at if time in x], 0)
            for time in times
        ]
        cells.append(_mean([x['kimg'] for x in final], 0))
        moves = [x[_MOTION] / x[f'{_MOTION}-real'] for x in final]
        cells.append(_mean(moves, 2))
        reached = [
            time_to(level, [*x], [y[distance] for y in x.values()]) for x in at
        ]
        cells.append(_mean(reached, 1))
        cells.append(_mean([_alive(run) for run in runs], 0))
        rows.append([name, *cells])
    return format_table(rows)


def draw(comparison: Comparison, path: Path) -> None:
    """Draw the first metric over time, and motion over iterations.

    Lines are means over the seeds; the band goes from the least to the
    largest value.

    Raises:
        InputError: The file cannot be written.
    """
    minutes, distance = comparison.seconds / 60, _distance(comparison)
    figure = new_figure(12, 5)
    left, right = figure.subplots(1, 2)
    names = list(dict.fromkeys(run.name for run in comparison.runs))
    real = math.nan
    for i, name in enumerate(names):
        runs = [run for run in comparison.runs if run.name == name]
        style = dict(
            color=COLOURS[i % len(COLOURS)],
            linestyle='-' if i < len(COLOURS) else '--',
        )
        curves = [
            {time: line[distance] for time, line in _ends(run, minutes)}
            for run in runs
        ]
        _band(left, curves, name, style)
        motions = [run.results('motion') for run in runs]
        for lines in motions:
            for line in lines.values():
                real = line[f'{_MOTION}-real']
        _band(
            right,
            [{n: x[_MOTION] for n, x in lines.items()} for lines in motions],
            name,
            style,
        )
    left.set_yscale('log')
    right.axhline(real, color='#30363d', linewidth=0.8)
    right.axhline(real / 2, color='#30363d', linewidth=0.8, linestyle=':')
    finish_panel(left, distance, 'minutes', legend=False)
    finish_panel(
        right,
        'Difference over 8 frames (lines: real, and half of it)',
        'iterations',
        legend=False,
    )
    left.legend(fontsize=8, frameon=False)
    save_picture(figure, path)


def _band(ax, curves: list[dict], name: str, style: dict) -> None:
    """Draw the mean of curves {x: y} where all have a point, and the range."""
    shared = set.intersection(*(set(curve) for curve in curves))
    x = sorted(shared)
    if not x:
        return
    y = np.array([[curve[place] for place in x] for curve in curves])
    ax.plot(x, y.mean(0), label=name, **style)
    ax.fill_between(x, y.min(0), y.max(0), color=style['color'], alpha=0.12)
