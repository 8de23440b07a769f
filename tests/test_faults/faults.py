"""Tools as processes to be hurt, and what a run has to hold on to."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from textwrap import dedent, indent
from typing import NamedTuple

import pytest
import torch
from real_process import ROOT

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


class Process:
    """A tool that runs, or ran, in a session of its own."""

    def __init__(self, tools: 'Tools', pid: int, folder: Path) -> None:
        self.pid = pid
        self.started = time.monotonic()
        self._tools = tools
        self._folder = folder
        self._status: int | None = None

    def poll(self) -> int | None:
        """Exit status, minus the signal that ended it, None if it runs."""
        if self._status is None:
            self._status = self._tools.ask({'poll': self.pid})
        return self._status

    def wait(self, seconds: float = 120) -> int:
        """Wait for the end, but not for ever; give the exit status."""
        deadline = time.monotonic() + seconds
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                pytest.fail(f'it hangs; it said: {self.said}')
            time.sleep(0.01)
        return status

    def send(self, number: int) -> None:
        """Send a signal to the process and all that it started."""
        os.killpg(self.pid, number)

    @property
    def said(self) -> str:
        """All that was written to standard output and error."""
        return self.out + self.err

    @property
    def out(self) -> str:
        """What was written to standard output."""
        return (self._folder / 'out').read_text(errors='replace')

    @property
    def err(self) -> str:
        """What was written to standard error."""
        return (self._folder / 'err').read_text(errors='replace')


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


class Tools:
    """Start tools, each in a process of its own, without their imports."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()
        self._server = subprocess.Popen(
            [sys.executable, Path(__file__).with_name('warm_start.py')],
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._server.stdout.readline() == 'ready\n'

    def ask(self, job: dict) -> int | None:
        """Hand over a job and give the answer."""
        self._server.stdin.write(json.dumps(job) + '\n')
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def start(self, tool, *args, before='', cwd=ROOT, **env) -> Process:
        """Start a tool under tools/.

        Args:
            tool: Its path there.
            args: Of the command line.
            before: Python code that runs first in the new process.
            cwd: Its current folder.
            env: Added to the environment.
        """
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        job = dict(
            tool=str(ROOT / 'tools' / tool),
            args=[*map(str, args)],
            before=before,
            cwd=str(cwd),
            env={**os.environ, 'OMP_NUM_THREADS': '1', **env},
            out=str(folder / 'out'),
            err=str(folder / 'err'),
        )
        for name in ('out', 'err'):
            (folder / name).touch()
        return Process(self, self.ask(job), folder)

    def run(self, tool, *args, **options) -> Process:
        """Run a tool to its end."""
        process = self.start(tool, *args, **options)
        process.wait()
        return process

    def close(self) -> None:
        """End the server."""
        self._server.stdin.close()
        self._server.wait(60)


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
    assert 'Traceback' not in process.err, process.err
    lines = [x for x in process.err.splitlines() if x.startswith('error: ')]
    assert len(lines) == 1, process.err
    assert process.err.rstrip().endswith(lines[0])
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


def resume(tools, job, work_dir, *options, **more) -> int:
    """Go on to the end; give the number of iterations that were lost."""
    lost = last_logged(work_dir) - max(checkpoints(work_dir), default=0)
    process = tools.run(
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
