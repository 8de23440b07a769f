"""A page that shows what was kept of raw footage, and why not the rest."""

import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from html import escape

import numpy as np
from PIL import Image

from ...pages import embedded, table
from ...video.reader import DamagedVideoError
from ..sources.finding import VideoSource
from ..sources.listing import printable
from .preparation import Plan, Shot, read_shot

_HEIGHT = 72  # of a thumbnail, in pixels
# Pictures would make the page of a large data set larger than a mail can be.
_MOST_ROWS = 300


def preparation_page(
    facts: Sequence[tuple[str, str]], plan: Plan
) -> Iterator[str]:
    """Make the pieces of the page.

    Args:
        facts: Rows (name, value) at the top.
        plan: What is kept of each video.

    Yields:
        Pieces of HTML, see :func:`stylegan_v_mm.pages.write_page`.
    """
    yield table(facts)
    rows = 0
    for video in plan.videos:
        if rows >= _MOST_ROWS:
            yield '<p>There are more videos than a page has room for.</p>'
            return
        yield f'<h3>{escape(printable(video.source.name))}</h3>'
        if video.problem:
            yield f'<p class="clip dropped">{escape(video.problem)}</p>'
        for shot in video.shots:
            first, last = shot.frames[0], shot.frames[-1]
            text = f'frames {first} to {last}: {len(shot.frames)} used'
            yield _row('kept', text, video.source, shot)
        for gap in video.dropped:
            text = f'frames {gap.start} to {gap.end - 1}: {gap.reason}'
            shot = Shot(tuple(range(gap.start, gap.end)))
            yield _row('dropped', text, video.source, shot)
        rows += len(video.shots) + len(video.dropped) + bool(video.problem)


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
            address = embedded(buffer.getvalue(), 'image/jpeg')
            pictures.append(f'<img alt="" src="{address}">')
    return (
        f'<div class="clip {kind}">{"".join(pictures)}<br>{escape(text)}</div>'
    )
