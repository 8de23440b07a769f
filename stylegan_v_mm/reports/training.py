"""The curves of training runs as a picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .curves import PANELS, Run
from .style import COLOURS, INK, finish_panel, new_figure

NUM_POINTS = 100  # that a smooth curve has room for
# Lines of the reference.
PALE: dict[str, Any] = dict(linewidth=5, alpha=0.3)


def draw_runs(runs: Sequence[Run], reference: Run | None = None) -> Figure:
    """Draw a panel for each quantity that any run has.

    A metric and its value for real videos, ``NAME-real``, share a panel;
    errors have none. With one run, each curve of a panel has its colour; with
    several, each run.

    Args:
        runs: The runs to draw.
        reference: A run to compare with, drawn wide and pale, up to twice the
            length of the longest run.
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
    figure = new_figure(5 * columns, 3 * rows + 0.7)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for ax, (title, keys) in zip(axes, panels.items()):
        draw_panel(
            ax=ax, title=title, keys=keys, runs=runs, reference=reference
        )
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


def smooth(y: np.ndarray) -> np.ndarray:
    """Average each point with its neighbours, a fiftieth of the curve."""
    window = np.ones(2 * (len(y) // NUM_POINTS) + 1)
    counts = np.convolve(np.ones(len(y)), window, 'same')
    return np.convolve(y, window, 'same') / counts
