"""Measurements as a table and as numbers."""

import contextlib
import platform
import shlex
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import mmcv
import mmengine
import torch

from stylegan_v_mm.evaluation.results import format_table
from stylegan_v_mm.version import __version__

from .measuring import OURS, PUBLISHED, SAME_ALLOCATION, Row

# Heads of columns, and how their numbers are written.
COLUMNS = {
    'median s': '{:.3g}',
    'min': '{:.3g}',
    'max': '{:.3g}',
    'frames/s': '{:.4g}',
    'GFLOP/frame': '{:.4g}',
    'of peak': '{:.0%}',
    'x published': '{:.2f}',
    'x same alloc.': '{:.2f}',
}
BASELINE_COLUMNS = {PUBLISHED: 'x published', SAME_ALLOCATION: 'x same alloc.'}


def report(rows: list[Row], peaks: dict[str, float]) -> tuple[str, list[dict]]:
    """Lay out rows as a table, and as dicts for programs."""
    found = [
        numbers(
            row,
            {other.way: other for other in rows if other.work == row.work},
            peaks,
        )
        for row in rows
    ]
    heads = [head for head in COLUMNS if any(head in each for each in found)]
    lines = [['', *heads]]
    for row, each in zip(rows, found):
        cells = [
            COLUMNS[head].format(each[head]) if head in each else ''
            for head in heads
        ]
        lines.append([f'{row.work}: {row.way}', *cells])
    return format_table(lines), [
        asdict(row) | each for row, each in zip(rows, found)
    ]


def numbers(
    row: Row, same_work: dict[str, Row], peaks: dict[str, float]
) -> dict[str, float]:
    """Compute the numbers of a row, keyed by the heads of their columns.

    Args:
        row: The row.
        same_work: All rows of the same work, keyed by way.
        peaks: FLOP/s of convolutions, keyed by way.
    """
    found = {
        'median s': row.median,
        'min': min(row.seconds),
        'max': max(row.seconds),
    }
    if row.frames:
        found['frames/s'] = row.frames / row.median
    if row.flops:
        found['GFLOP/frame'] = row.flops / row.frames / 1e9
        found['of peak'] = row.flops / row.median / peaks[row.way]
    for way, head in BASELINE_COLUMNS.items():
        if row.way == OURS and way in same_work:
            found[head] = same_work[way].median / row.median
    return found


def about(device: str) -> dict:
    """Describe the machine and the versions."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, IndexError):
        text = Path('/proc/cpuinfo').read_text()
        cpu = text.split('model name')[1].split('\n')[0].strip('\t: ')
    return dict(
        date=datetime.now().astimezone().isoformat(timespec='seconds'),
        command=shlex.join(['python', *sys.argv]),
        system=platform.platform(),
        cpu=cpu,
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if device == 'cuda' else None,
        cuda=torch.version.cuda if device == 'cuda' else None,
        python=platform.python_version(),
        torch=torch.__version__,
        mmcv=mmcv.__version__,
        mmengine=mmengine.__version__,
        stylegan_v_mm=__version__,
    )
