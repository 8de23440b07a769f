"""How all pictures look."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ..files import atomic_write

COLOURS = (
    '#1f6fb4', '#e07b1a', '#3a9a4f', '#b6403f', '#7a5ba6', '#7f6a5c',
    '#cf6fae', '#5f6b74',
)  # fmt: skip
INK = '#30363d'


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that size, in units of 100 pixels."""
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    return Figure(figsize=(width, height), dpi=100, layout=layout)


def finish_panel(ax: Axes, title: str, x: str, legend: bool) -> None:
    """Set the title, the name of the x axis and the looks of a panel."""
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


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file.

    Raises:
        InputError: The file cannot be written.
    """
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format='png')
