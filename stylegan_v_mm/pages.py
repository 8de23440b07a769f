"""HTML pages that need no other file and no network."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from .files import atomic_write

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; color: #222;
       max-width: 68rem; padding: 0 1rem; background: #fff; }
h1 { font-size: 1.5rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
table { border-collapse: collapse; }
td, th { padding: .15rem .9rem .15rem 0; text-align: left;
         vertical-align: top; overflow-wrap: anywhere; }
th { white-space: nowrap; }
img, video { max-width: 100%; image-rendering: pixelated; }
figure { margin: 0 0 1rem; } figcaption { color: #555; }
pre { overflow-x: auto; background: #f4f5f6; padding: .6rem; font-size: 13px; }
.clip { margin: .3rem 0; padding-left: .6rem; } .clip img { height: 72px; }
.kept { border-left: 4px solid #3a9a4f; }
.dropped { border-left: 4px solid #b6403f; }
"""


def write_page(path: Path, title: str, parts: Iterable[str]) -> None:
    """Write a page.

    Args:
        path: File to write or replace.
        title: Its heading.
        parts: Pieces of HTML.

    Raises:
        InputError: The file cannot be written.
    """
    head = (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f'<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n'
        f'<h1>{escape(title)}</h1>\n'
    )
    with atomic_write(path) as temporary:
        temporary.write_text(head + '\n'.join(parts) + '\n', 'utf-8')


def table(rows: Iterable[Sequence[str]], head: Sequence[str] = ()) -> str:
    """Lay out rows of cells, of which the first is a heading."""
    lines = ['<table>']
    if head:
        cells = ''.join(f'<th>{escape(cell)}</th>' for cell in head)
        lines.append(f'<tr>{cells}</tr>')
    for first, *others in rows:
        cells = ''.join(f'<td>{escape(cell)}</td>' for cell in others)
        lines.append(f'<tr><th>{escape(first)}</th>{cells}</tr>')
    return '\n'.join([*lines, '</table>'])


def embedded(content: bytes, kind: str) -> str:
    """Return the address of a file that is part of the page.

    Args:
        content: Of the file.
        kind: Such as 'image/png'.
    """
    return f'data:{kind};base64,{base64.b64encode(content).decode()}'
