"""Tools as processes to be hurt, and what a run has to hold on to."""

import json
import os
from pathlib import Path
from textwrap import dedent, indent
from typing import NamedTuple

import torch
from real_process import ROOT, run_tool

from stylegan_v_mm.checkpoints.loading import load_checkpoint

NUM_ITERS = 12
INTERVAL = 3  # of checkpoints

CONFIG = f"""
_base_ = ['{ROOT}/configs/stylegan_v/demo_moving_shapes.py']
data_root = '{{data_root}}'
resolution = 16
batch_size = 4
max_iters = {NUM_ITERS}
num_workers = 1
log_interval = 1
checkpoint_interval = {INTERVAL}
custom_hooks = [
    dict(type='TrainingSpeedHook'),
    dict(type='DivergenceHook'),
    dict(
        type='VideoPreviewHook', interval={INTERVAL}, num_videos=1,
        num_frames=2,
    ),
]
num_test_videos = 6
model = dict(
    augment=dict(_delete_=True, type='VideoAugment', p=0.2),
    ema_kimg=0.01,
    generator=dict(
        z_dim=8, w_dim=8, motion_z_dim=8, motion_v_dim=8, time_enc_dim=4,
        channel_max=8,
    ),
    discriminator=dict(channel_max=8),
)
"""
# For runs that have but to work.
OPTIONS = ('--cfg-options', 'max_iters=1', 'num_test_videos=6')


def one_by_one(commands) -> str:
    """Write a program that runs tools in turn, with nothing imported before.

    Args:
        commands: Paths under tools/, each with the words that follow.
    """
    words = [
        [str(ROOT / 'tools' / tool), *map(str, args)]
        for tool, *args in commands
    ]
    return f"""
import runpy, sys
for words in {words!r}:
    sys.argv = words
    sys.path[0] = words[0].rpartition('/')[0]
    try:
        runpy.run_path(words[0], run_name='__main__')
    except SystemExit as end:
        assert not end.code, (words, end.code)
"""


class Job(NamedTuple):
    """Videos, a config, and the work dir of a run that nothing disturbed."""

    config: Path
    data: Path
    work_dir: Path
    seconds: float  # that the run took

    @property
    def checkpoint(self) -> Path:
        """The last one."""
        return self.work_dir / f'iter_{NUM_ITERS}.pth'


def leaves(value, path=''):
    """Yield (path, leaf) of nested dicts and lists."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in items:
            yield from leaves(child, f'{path}/{key}')
    else:
        yield path, value


def assert_same_end(work_dir, job):
    """The last checkpoint is, bit for bit, that of the undisturbed run."""
    ours, theirs = (
        load_checkpoint(folder / f'iter_{NUM_ITERS}.pth')
        for folder in (work_dir, job.work_dir)
    )
    for part in ('state_dict', 'optimizer'):
        left, right = (dict(leaves(c[part])) for c in (ours, theirs))
        assert left.keys() == right.keys()
        for key, value in left.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, right[key]), key
            else:
                assert value == right[key], key


def last_logged(work_dir) -> int:
    """The last iteration in a work dir's log, 0 if there is none."""
    numbers = [0]
    for path in work_dir.glob('*/vis_data/scalars.json'):
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith('}\n'):
                numbers.append(json.loads(line)['iter'])
    return max(numbers)


def error_line(process) -> str:
    """The one line that a tool ended with; there is no traceback."""
    assert process.poll() == 2, process.said
    assert 'Traceback' not in process.stderr, process.stderr
    lines = [x for x in process.stderr.splitlines() if x.startswith('error: ')]
    assert len(lines) == 1, process.stderr
    assert process.stderr.rstrip().endswith(lines[0])
    return lines[0]


def at(iteration: int, code: str) -> str:
    """Python code that makes a run do something before an iteration.

    Args:
        iteration: Counted from 0.
        code: May use ``self``, the training loop, and ``data_batch``.
    """
    return f"""
import os, signal, time
from stylegan_v_mm.engine.loops import ClipTrainLoop
_run_iter = ClipTrainLoop.run_iter
def run_iter(self, data_batch):
    if self.iter == {iteration}:
{indent(dedent(code), '        ')}
    _run_iter(self, data_batch)
ClipTrainLoop.run_iter = run_iter
"""


def checkpoints(work_dir) -> list[int]:
    """Numbers of the checkpoints in a work dir, all of which are whole."""
    for path in work_dir.glob('*.pth'):
        load_checkpoint(path)
    return sorted(int(path.stem[5:]) for path in work_dir.glob('iter_*.pth'))


def resume(job, work_dir, *options, **more) -> int:
    """Go on to the end; give the number of iterations that were lost."""
    lost = last_logged(work_dir) - max(checkpoints(work_dir), default=0)
    process = run_tool(
        'train.py',
        *(job.config, '--work-dir', work_dir, '--resume', *options),
        **more,
    )
    assert process.poll() == 0, process.said
    assert not list(work_dir.glob('.*'))
    return lost


class Disk:
    """A file system of its own, of 16 MB."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / 'filler'

    def leave(self, room: int) -> None:
        """Fill all but so many bytes, in whole pages."""
        self._filler.unlink(missing_ok=True)
        stat = os.statvfs(self.folder)
        size = max(stat.f_bavail * stat.f_frsize - room, 0)
        with self._filler.open('wb') as file:
            os.posix_fallocate(file.fileno(), 0, max(size, 1))

    def make_room(self) -> None:
        """Remove what fills it."""
        self._filler.unlink()
