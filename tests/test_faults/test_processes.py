"""One of two processes that train together is lost."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from faults import (
    NUM_ITERS,
    at,
    checkpoints,
    error_line,
    last_logged,
)
from real_process import ROOT, free_port, start_tool


def start_two(job, work_dir, *args, ranks=(0, 1), **options):
    """Start the processes without torchrun, which would end both."""
    group = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()))
    return [
        start_tool(
            'train.py',
            *(job.config, '--work-dir', work_dir, '--launcher', 'pytorch'),
            *args,
            **group,
            **options,
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE='2',
        )
        for rank in ranks
    ]


def lose(iteration, number):
    """The second process sends itself a signal."""
    return at(
        iteration,
        f"""
        if os.environ['RANK'] == '1':
            os.kill(os.getpid(), {int(number)})
        """,
    )


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP])
def test_one_is_lost(job, tmp_path, tried, moment, number):
    options = ['--cfg-options', 'dist_timeout=4', 'preview_interval=100']
    harm = lose(moment.randrange(1, NUM_ITERS), number)
    first, second = start_two(job, tmp_path, *options, before=harm)
    first.wait(120)
    assert 'another process of this run' in error_line(first)
    second.send(signal.SIGKILL)
    second.wait()
    lost = last_logged(tmp_path) - max(checkpoints(tmp_path), default=0)
    again = start_two(job, tmp_path, '--resume')
    assert [process.wait() for process in again] == [0, 0], again[0].said
    assert checkpoints(tmp_path)[-1] == NUM_ITERS
    name = {signal.SIGKILL: 'killed', signal.SIGSTOP: 'hung'}[number]
    tried(f'one of two processes {name}', 'one error, then --resume', lost)


@pytest.mark.slow
def test_one_never_comes(job, tmp_path, tried):
    options = ['--cfg-options', 'dist_timeout=3']
    (first,) = start_two(job, tmp_path, *options, ranks=[0])
    first.wait(120)
    assert 'another process of this run' in error_line(first)
    tried('one of two processes never starts', 'one error')


def rank_of_launch(rank, port):
    """Number of a process that torchrun started."""
    wanted = {f'RANK={rank}', f'MASTER_PORT={port}'}
    parents = {}
    for path in Path('/proc').glob('[0-9]*'):
        with suppress(OSError):  # ended, or another user's
            if wanted <= {*(path / 'environ').read_text().split('\0')}:
                after_name = (path / 'stat').read_text().rpartition(')')[2]
                parents[int(path.name)] = int(after_name.split()[1])
    # The others are its data workers.
    (number,) = (
        pid for pid, parent in parents.items() if parent not in parents
    )
    return number


@pytest.mark.slow
def test_the_launcher_ends_all(job, tmp_path, tried):
    port = free_port()
    command = [ROOT / 'tools/dist_train.sh', job.config, '2']
    with (tmp_path / 'said').open('w') as said:
        process = subprocess.Popen(
            [
                *(*command, '--work-dir', tmp_path / 'work', '--cfg-options'),
                *('max_iters=100000', 'checkpoint_interval=3'),
            ],
            env={
                **os.environ,
                'PORT': str(port),
                'OMP_NUM_THREADS': '1',
                'PYTHON': sys.executable,
            },
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 200
        while last_logged(tmp_path / 'work') < 5:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(rank_of_launch(1, port), signal.SIGKILL)
        assert process.wait(100) != 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert (
        'error: another process of this run' in (tmp_path / 'said').read_text()
    )
    lost = last_logged(tmp_path / 'work') - checkpoints(tmp_path / 'work')[-1]
    tried('one process of tools/dist_train.sh killed', 'all end', lost)
