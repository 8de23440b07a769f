"""Faults within a run: gradients, the clock, a second run."""

import json
import os
import signal
import time

import pytest
from faults import (
    NUM_ITERS,
    assert_same_end,
    at,
    checkpoints,
    error_line,
    resume,
)
from real_process import run_tool, start_tool


def scalars(work_dir):
    """The logged numbers, one dict an iteration."""
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in path.open()]


# Before an iteration: once, or from now on, gradients of a weight are bad.
BAD_GRADIENTS = """
weight = self.runner.model.{network}.b16.conv0.weight
def spoil(grad):
    if {once}:
        handle.remove()
    return grad + float('{value}')
handle = weight.register_hook(spoil)
"""


@pytest.mark.parametrize('value', ['nan', 'inf'])
def test_one_gradient(job, tmp_path, tried, moment, value):
    iteration = moment.randrange(NUM_ITERS)
    network = moment.choice(['discriminator', 'generator.synthesis'])
    harm = BAD_GRADIENTS.format(network=network, value=value, once=True)
    process = run_tool(
        'train.py',
        *(job.config, '--work-dir', tmp_path),
        before=at(iteration, harm),
    )
    assert process.poll() == 0, process.said
    said = f'iteration {iteration + 1}: gradients of 1 weights are not finite'
    assert process.said.count(said) == 1
    bad = [line['bad_gradients'] for line in scalars(tmp_path)]
    assert [i for i, number in enumerate(bad) if number] == [iteration]
    assert checkpoints(tmp_path)[-1] == NUM_ITERS
    tried(f'a gradient of {value}', 'is cleaned and told, training goes on')


def test_gradients_that_stay_bad(job, tmp_path, tried):
    shorter = (
        'import stylegan_v_mm.engine.hooks.divergence as h; h._WINDOW = 3\n'
    )
    harm = BAD_GRADIENTS.format(
        network='discriminator', value='nan', once=False
    )
    words = (job.config, '--work-dir', tmp_path)
    process = run_tool('train.py', *words, before=shorter + at(4, harm))
    line = error_line(process)
    assert 'in iteration 7: no iteration of 3 had finite gradients' in line
    assert f'--resume {tmp_path}/iter_6.pth' in line
    lost = resume(job, tmp_path)
    tried('gradients that stay NaN', 'one error after 50 iterations', lost)


# The system's clock, set anew twice an iteration.
CLOCK = """
import random, time
from stylegan_v_mm.engine.loops import ClipTrainLoop
from stylegan_v_mm.models import StyleGANV
true, moment, offset = time.time, random.Random({seed}), 0
def jump_before(function):
    def call(*args, **kwargs):
        global offset
        offset = moment.choice([-1, 1]) * moment.choice([0.1, 3600, 10**8])
        return function(*args, **kwargs)
    return call
time.time = lambda: true() + offset
ClipTrainLoop.run_iter = jump_before(ClipTrainLoop.run_iter)
StyleGANV.train_step = jump_before(StyleGANV.train_step)
"""


def test_the_clock_jumps(job, tmp_path, tried, moment):
    start = time.monotonic()
    process = run_tool(
        'train.py',
        *(job.config, '--work-dir', tmp_path),
        before=CLOCK.format(seed=moment.randrange(1000)),
    )
    elapsed = time.monotonic() - start
    assert process.poll() == 0, process.said
    assert_same_end(tmp_path, job)
    lines = scalars(tmp_path)
    assert len(lines) == NUM_ITERS
    assert min(line['data_time'] for line in lines) >= 0
    assert min(line['frames_per_sec'] for line in lines[1:]) > 0
    assert sum(line['time'] for line in lines) < elapsed
    assert ' day' not in process.said  # of the time left
    tried('the clock jumps', 'the same run, right times')


def test_the_clock_is_a_year_late(job, tmp_path, tried):
    words = (job.config, '--work-dir', tmp_path)
    first = run_tool('train.py', *words, '--cfg-options', 'max_iters=3')
    assert first.poll() == 0, first.said
    late = 'import time; now = time.time; time.time = lambda: now() - 3e7'
    lost = resume(job, tmp_path, before=late)
    logs = sorted(tmp_path.glob('*/vis_data/scalars.json'))
    starts = [json.loads(path.open().readline())['iter'] for path in logs]
    assert starts == [1, 4]
    assert_same_end(tmp_path, job)
    tried('the clock is set back by a year', 'logs stay in order', lost)


def test_two_runs_in_one_work_dir(job, tmp_path, tried, moment):
    marker = tmp_path / 'waits'
    wait = at(
        moment.randrange(1, NUM_ITERS),
        f"""
        open({str(marker)!r}, 'w').close()
        while os.path.exists({str(marker)!r}):
            time.sleep(0.01)
        """,
    )
    work_dir = tmp_path / 'work'
    words = (job.config, '--work-dir', work_dir)
    first = start_tool('train.py', *words, before=wait)
    while not marker.exists():
        assert first.poll() is None, first.said
        time.sleep(0.01)
    before = (work_dir / 'config.py').read_bytes()
    for more in ([], ['--resume']):
        process = run_tool(
            'train.py', *words, *more, '--cfg-options', 'lr=0.1'
        )
        line = error_line(process)
        assert f'{work_dir} is in use by process {first.pid} on ' in line
    assert (work_dir / 'config.py').read_bytes() == before
    # Its worker is still there for some seconds.
    os.kill(first.pid, signal.SIGKILL)
    lost = resume(job, work_dir)
    assert_same_end(work_dir, job)
    tried('two runs in one work dir', 'the second is refused', lost)
