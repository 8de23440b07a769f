"""A training run as a page that can be sent to others."""

import io
import re
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from PIL import Image

from ..config import load_config
from ..datasets.survey import contact_sheet, describe, survey_videos
from ..errors import InputError
from ..inference import find_model
from ..pages import embedded, table
from .curves import NO_METRICS, read_lines, read_run
from .training import draw_runs

# Of previews, so that the page can be sent by mail.
_MOST_BYTES = 15_000_000
# Settings that do not say how it was trained.
_PLACES = (
    *('work_dir', 'load_from', 'resume', 'launcher', 'data_root'),
    *('custom_hooks', 'test_evaluator', 'val_evaluator'),
)
# What of a protocol a reader needs.
_SHOWN = ('detector', 'num_fake', 'num_real', 'num_frames', 'resolution')


def run_page(work_dir: Path, published: Path | None) -> Iterator[str]:
    """Make the pieces of a page about a run.

    Args:
        work_dir: Work dir of ``tools/train.py``.
        published: A config to compare the settings with; None: none is there.

    Yields:
        Pieces of HTML, see :func:`stylegan_v_mm.pages.write_page`.

    Raises:
        InputError: The folder holds no run, or a file of it is damaged.
    """
    run = read_run(str(work_dir))
    config = load_config(find_model(str(work_dir)).config)
    yield table(
        [
            ('trained for', f'{run.end:,.4g} kimg (thousands of frames)'),
            ('resolution', f'{config.get("resolution", "?")} px'),
            ('data', str(config.get('data_root', '?'))),
        ]
    )
    yield '<h2>Previews</h2>'
    yield from _previews(work_dir)
    yield '<h2>Curves</h2>'
    buffer = io.BytesIO()
    draw_runs([run]).savefig(buffer, format='png')
    address = embedded(buffer.getvalue(), 'image/png')
    yield f'<img alt="Curves of the run" src="{address}">'
    yield '<h2>Metrics</h2>'
    yield from _metrics(work_dir / 'metrics.jsonl')
    yield '<h2>Settings</h2>'
    if published is not None:
        yield (
            '<p>What differs from the published model, '
            f'<code>{escape(published.name)}</code>:</p>'
        )
        rows = differences(config, load_config(str(published)))
        yield table(rows, ('setting', 'published', 'here'))
    yield '<h2>Data</h2>'
    yield from _data(config)
    yield '<h2>Machine and versions</h2>'
    yield f'<pre>{escape(_environment(work_dir))}</pre>'


def _previews(work_dir: Path) -> Iterator[str]:
    """Embed the newest preview and earlier ones, as many as have room."""
    paths = sorted((work_dir / 'previews').glob('iter_*.mp4'))
    if not paths:
        yield '<p>The run has written none.</p>'
        return
    places = np.unique(np.geomspace(1, len(paths), 4).astype(int)) - 1
    room = _MOST_BYTES
    for path in [paths[i] for i in reversed(places)]:
        content = path.read_bytes()
        if len(content) > room and room < _MOST_BYTES:
            continue
        room -= len(content)
        number = int(path.stem.removeprefix('iter_'))
        yield (
            '<figure><video autoplay loop muted playsinline controls '
            f'src="{embedded(content, "video/mp4")}"></video><figcaption>'
            f'After {number:,} iterations. Left: contents with their own '
            'motion; right: the same contents with one motion.'
            '</figcaption></figure>'
        )


def _metrics(path: Path) -> Iterator[str]:
    """Show all measurements, and how they were made."""
    lines = read_lines(path) if path.exists() else []
    if not lines:
        yield (
            '<p>Nothing was measured: <code>tools/test.py</code> does it.</p>'
        )
        return
    names = dict.fromkeys(
        key
        for line in lines
        for key, value in line.items()
        if isinstance(value, int | float)
        and key not in NO_METRICS
        and not key.endswith(('-se', '-std', '-real'))
    )

    def cell(line: dict, name: str) -> str:
        if name not in line:
            return ''
        text = f'{line[name]:.4g}'
        for suffix, sign in (('-se', ' ± '), ('-real', ' (real: ')):
            if f'{name}{suffix}' in line:
                text += f'{sign}{line[f"{name}{suffix}"]:.3g}'
                text += ')' * (suffix == '-real')
        return text

    yield table(
        [[name, *(cell(line, name) for line in lines)] for name in names],
        ['', *(f'{line.get("kimg", 0):,.4g} kimg' for line in lines)],
    )
    for protocol in lines[-1].get('protocols', ()):
        facts = [f'{key} {protocol[key]}' for key in _SHOWN if key in protocol]
        yield (
            f'<p>{escape(", ".join(protocol.get("results", ())))}: '
            f'{escape(", ".join(facts))}.</p>'
        )


def differences(ours: Mapping, theirs: Mapping) -> list[list[str]]:
    """List variables, and settings of the model, that differ.

    The other parts of a config follow from the variables.

    Args:
        ours: A config, with its formulas computed.
        theirs: Another one.

    Returns:
        list: Rows: the name, their value and ours.
    """
    flat = [dict(_settings(config)) for config in (theirs, ours)]
    rows = []
    for key in sorted({*flat[0], *flat[1]}):
        values = [repr(each[key]) if key in each else '' for each in flat]
        if values[0] != values[1] and key not in _PLACES:
            rows.append([key, *values])
    return rows


def _settings(part: Mapping, name: str = '') -> Iterator[tuple[str, Any]]:
    """Yield variables, and the settings of the model, by dotted names."""
    for key, value in part.items():
        if not isinstance(value, Mapping):
            yield f'{name}{key}', value
        elif name or key == 'model':
            yield from _settings(value, f'{name}{key}.')


def _data(config: Config) -> Iterator[str]:
    """Describe the data, if they are here."""
    transform: Mapping = next(
        (
            step
            for step in config.train_dataloader.dataset.get('pipeline', ())
            if step.get('type') == 'SampleClip'
        ),
        {},
    )
    try:
        survey = survey_videos(
            config.data_root,
            labels=None,
            num_frames=config.get('num_frames', 3),
            max_dist=transform.get('max_dist', 32),
        )
        sheet = contact_sheet(survey)
    except (InputError, AttributeError) as error:
        yield f'<p>The data cannot be shown here: {escape(str(error))}</p>'
        return
    yield table(describe(survey))
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, 'JPEG', quality=85)
    address = embedded(buffer.getvalue(), 'image/jpeg')
    yield f'<p><img alt="Frames of some videos" src="{address}"></p>'


def _environment(work_dir: Path) -> str:
    """Return what the newest log says of the machine."""
    for path in sorted(work_dir.glob('*/*.log'), reverse=True):
        found = re.search(
            r'System environment:\n(.*?)\n-{20,}',
            path.read_text('utf-8', errors='replace'),
            re.DOTALL,
        )
        if found:
            return found[1]
    return 'The log does not say.'
