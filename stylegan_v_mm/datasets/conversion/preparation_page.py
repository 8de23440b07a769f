"""A page that shows what was kept of raw footage, and why not the rest."""

import base64
import io
from collections.abc import Sequence
from contextlib import suppress
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from ...files import atomic_write
from ...video.reader import DamagedVideoError
from ..sources.finding import VideoSource
from ..sources.listing import printable
from .preparation import Plan, Shot, read_shot

_HEIGHT = 72  # of a thumbnail, in pixels
# Pictures would make the page of a large data set larger than a mail can be.
_MOST_ROWS = 300

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
       max-width: 68rem; padding: 0 1rem; color: #222; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0;
       text-align: left; vertical-align: top; }
.clip { margin: .2rem 0; } .clip img { height: 72px; margin-right: 2px; }
.kept { border-left: 4px solid #3a9a4f; padding-left: .6rem; }
.dropped { border-left: 4px solid #b6403f; padding-left: .6rem; }
"""


def write_page(
    path: Path, title: str, facts: Sequence[tuple[str, str]], plan: Plan
) -> None:
    """Write the page; it needs no other file and no network.

    Args:
        path: File to write or replace.
        title: Heading.
        facts: Rows (name, value) at the top.
        plan: What is kept of each video.

    Raises:
        InputError: The file cannot be written.
    """
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f'<title>{escape(title)}</title><style>{_STYLE}</style>',
        f'<h1>{escape(title)}</h1><table>',
        *(
            f'<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>'
            for key, value in facts
        ),
        '</table>',
    ]
    rows = 0
    for video in plan.videos:
        if rows >= _MOST_ROWS:
            parts.append('<p>Further videos are in report.json only.</p>')
            break
        parts.append(f'<h2>{escape(printable(video.source.name))}</h2>')
        if video.problem:
            parts.append(f'<p class="dropped">{escape(video.problem)}</p>')
        for shot in video.shots:
            first, last = shot.frames[0], shot.frames[-1]
            text = f'frames {first} to {last}: {len(shot.frames)} used'
            parts.append(_row('kept', text, video.source, shot))
        for gap in video.dropped:
            text = f'frames {gap.start} to {gap.end - 1}: {gap.reason}'
            shot = Shot(tuple(range(gap.start, gap.end)))
            parts.append(_row('dropped', text, video.source, shot))
        rows += len(video.shots) + len(video.dropped) + bool(video.problem)
    with atomic_write(path) as temporary:
        temporary.write_text('\n'.join(parts) + '\n', 'utf-8')


def _row(kind: str, text: str, source: VideoSource, shot: Shot) -> str:
    """Show six frames of a shot, with a line of text."""
    places = np.linspace(0, len(shot.frames) - 1, 6).astype(int)
    frames = tuple(shot.frames[i] for i in np.unique(places))
    pictures = []
    with suppress(DamagedVideoError):
        for frame in read_shot(source, Shot(frames, shot.box), None):
            image = Image.fromarray(frame)
            width = max(1, round(image.width * _HEIGHT / image.height))
            buffer = io.BytesIO()
            image.resize((width, _HEIGHT)).save(buffer, 'JPEG', quality=80)
            code = base64.b64encode(buffer.getvalue()).decode()
            pictures.append(
                f'<img alt="" src="data:image/jpeg;base64,{code}">'
            )
    return (
        f'<div class="clip {kind}">{"".join(pictures)}<br>{escape(text)}</div>'
    )
