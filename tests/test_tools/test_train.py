"""tools/train.py as a real process: what it leaves, resuming, launching."""

import json
import re
import subprocess
import sys

import av
import pytest
import torch
from PIL import Image
from real_process import ROOT, run_tool, train_two

from stylegan_v_mm.checkpoints.loading import load_checkpoint


def scalars(work_dir):
    """Read the logged numbers, one dict a line."""
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for f in files for line in f.open()]


def frames_of(path):
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        frames = [f.to_ndarray(format='rgb24') for f in container.decode()]
    return rate, frames


def test_training_leaves_checkpoints_and_previews(job):
    names = {p.name for p in job.work_dir.iterdir()}
    assert {'iter_2.pth', 'iter_4.pth', 'preview.png', 'previews'} <= names
    rate, frames = frames_of(job.work_dir / 'previews/iter_0000004.mp4')
    # Two grids of 4 x 4 videos of 16 px, 2 px between videos, 4 px between
    # grids.
    grid = 4 * 16 + 3 * 2
    assert frames[0].shape == (grid, 2 * grid + 4, 3)
    assert (len(frames), rate) == (64, 25)
    image = Image.open(job.work_dir / 'preview.png')
    assert image.size == (6 * (grid + 4), grid)


def test_the_log_has_what_a_user_watches(job):
    lines = scalars(job.work_dir)
    last = lines[-1]
    assert last['iter'] == 4
    wanted = (
        'loss_g loss_d logits_real logits_fake signs_real signs_fake '
        'r1_penalty generator.lr discriminator.lr data_time time kimg '
        'frames_per_sec'
    )
    assert set(wanted.split()) <= set(last)
    assert all(torch.tensor(last[k]).isfinite() for k in wanted.split())
    # 4 iterations of 4 clips of 3 frames.
    assert last['kimg'] == pytest.approx(48 / 1000)
    assert re.search(
        r'Iter\(train\) +\[4/4\].* eta: 0:00:00',
        job.train.stderr + job.train.stdout,
    )


def test_the_checkpoint_counts_what_was_seen(job):
    state = load_checkpoint(job.checkpoint)['state_dict']
    assert int(state['iteration']) == 4
    assert int(state['frames_seen']) == 4 * 4 * 3


def test_resuming_goes_on_from_the_newest_checkpoint(job, tmp_path):
    work_dir = tmp_path / 'work'
    args = [job.config, '--work-dir', work_dir, '--cfg-options']
    first = run_tool('train.py', *args, 'max_iters=2')
    assert first.returncode == 0, first.stderr
    second = run_tool('train.py', *args, 'max_iters=4', '--resume')
    assert second.returncode == 0, second.stderr
    state = load_checkpoint(work_dir / 'iter_4.pth')['state_dict']
    assert int(state['iteration']) == 4
    assert int(state['frames_seen']) == 4 * 4 * 3
    assert [line['iter'] for line in scalars(work_dir)] == [2, 4]


def test_resuming_without_a_checkpoint_starts_anew(job, tmp_path):
    result = run_tool(
        'train.py',
        job.config,
        '--work-dir',
        tmp_path,
        '--resume',
        '--cfg-options',
        'max_iters=1',
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / 'iter_1.pth').exists()


@pytest.mark.slow
def test_two_processes_train_one_model(job, tmp_path):
    for process in train_two(
        job.config, tmp_path, '--cfg-options', 'max_iters=2'
    ):
        assert process.returncode == 0, process.stderr
    state = load_checkpoint(tmp_path / 'iter_2.pth')['state_dict']
    # The batch of 4 is divided, not doubled.
    assert int(state['frames_seen']) == 2 * 4 * 3


LIGHT = """
import runpy
import sys
sys.argv[0] = 'tools/train.py'
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
finally:
    heavy = [m for m in ('mmagic.models', 'mmagic.evaluation', 'mmagic.apis',
                         'diffusers', 'transformers') if m in sys.modules]
    print('heavy:', heavy)
"""


def test_a_training_step_starts_light(job, tmp_path):
    options = ('--work-dir', tmp_path, '--cfg-options', 'max_iters=1')
    result = subprocess.run(
        [sys.executable, '-c', LIGHT, job.config, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == 'heavy: []'
