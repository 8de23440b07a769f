"""tools/train.py --transfer-from as a real process."""

import re

import pytest
import torch
from real_process import ROOT, run_tool

from stylegan_v_mm.checkpoints.loading import load_checkpoint

OTHER = ('resolution=32', 'num_classes=2', 'num_frames=2', 'max_dist=16')


def train(job, work_dir, *options, **flags):
    """Run tools/train.py; return the process, and all that it said."""
    flags = [
        x for flag, value in flags.items() for x in (f'--{flag}', value) if x
    ]
    result = run_tool(
        'train.py',
        job.config,
        '--work-dir',
        work_dir,
        *flags,
        '--cfg-options',
        *options,
    )
    return result, result.stdout + result.stderr


def weights(path):
    return load_checkpoint(path)['state_dict']


def table(said):
    """Find the rows of the table in the log, and the reshaped names."""
    row = re.compile(r'^([a-z_0-9.]+)' + r' +(\d+)' * 4 + '$', re.MULTILINE)
    rows = row.findall(said)
    rows = {part: tuple(map(int, counts)) for part, *counts in rows}
    return rows, re.findall(r'^reshaped: (\S+)', said, re.MULTILINE)


@pytest.fixture(scope='module')
def other(job, tmp_path_factory):
    """A run of other resolution, classes and frames, begun from the job's."""
    folder = tmp_path_factory.mktemp('transfer')
    labels = folder / 'labels.csv'
    videos = sorted(job.data.glob('*.mp4'))
    labels.write_text(
        ''.join(f'{x.name},{i % 2}\n' for i, x in enumerate(videos))
    )
    work_dir, options = folder / 'work', (*OTHER, f'labels={labels}')
    # No checkpoint to go on from yet, so --resume does not matter.
    result, said = train(
        job,
        work_dir,
        *options,
        'max_iters=2',
        **{'transfer-from': job.checkpoint, 'resume': ''},
    )
    assert result.returncode == 0, result.stderr
    return work_dir, options, said


def test_another_run_starts_from_what_fits(job, other):
    work_dir, _, said = other
    state = weights(work_dir / 'iter_2.pth')
    # Counted anew: 2 iterations of 4 clips of 2 frames.
    assert int(state['iteration']) == 2
    assert int(state['frames_seen']) == 2 * 4 * 2
    assert state['generator.mapping.embed.weight'].shape == (8, 2)
    rows, reshaped = table(said)
    assert rows['generator.synthesis.b16'] == (12, 0, 0, 0)
    assert rows['generator.synthesis.b32'] == (0, 0, 12, 0)
    assert rows['generator.mapping'] == (4, 1, 2, 0)
    parts = [counts for part, counts in rows.items() if part != 'total']
    assert rows['total'] == tuple(map(sum, zip(*parts)))
    assert 'discriminator.mapping.embed.weight' in reshaped
    # Adam moves a weight by about 0.002 in each of its steps.
    theirs = weights(job.checkpoint)
    name = 'generator.synthesis.b8.conv1.weight'
    assert 0 < (state[name] - theirs[name]).abs().max() < 0.05


def test_it_is_resumed_from_its_own(job, other):
    work_dir, options, _ = other
    result, said = train(
        job,
        work_dir,
        *options,
        'max_iters=3',
        **{'transfer-from': job.checkpoint, 'resume': ''},
    )
    assert result.returncode == 0, result.stderr
    assert f'Load checkpoint from {work_dir}/iter_2.pth' in said
    assert table(said) == ({}, [])
    before, after = (
        weights(work_dir / f'iter_{number}.pth') for number in (2, 3)
    )
    assert int(after['iteration']) == 3
    name = 'generator.synthesis.b32.conv1.weight'
    assert 0 < (after[name] - before[name]).abs().max() < 0.01


@pytest.mark.slow
def test_resuming_stays_strict(job, other, tmp_path):
    _, options, _ = other
    result, _ = train(job, tmp_path, *options, resume=job.checkpoint)
    assert result.returncode == 2
    assert 'another architecture' in result.stderr


def test_frozen_layers_stay_as_transferred(job, tmp_path):
    result, _ = train(
        job,
        tmp_path,
        f'load_from={job.checkpoint}',
        'model.discriminator.freeze_layers=5',
        'max_iters=2',
    )
    assert result.returncode == 0, result.stderr
    ours = weights(tmp_path / 'iter_2.pth')
    theirs = weights(job.checkpoint)
    assert int(ours['iteration']) == 2
    frozen = ('b16.fromrgb', 'b16.conv0', 'b16.conv1', 'b16.skip', 'b8.conv0')
    frozen = tuple(f'discriminator.{name}.' for name in frozen)
    for name, value in theirs.items():
        if name.startswith('discriminator.') and 'coefs' not in name:
            same = torch.equal(ours[name], value)
            assert same == name.startswith(frozen), name


def test_a_file_of_something_else_is_named(job, tmp_path):
    foreign, work_dir = tmp_path / 'foreign.pth', tmp_path / 'work'
    torch.save({'state_dict': {'head.weight': torch.ones(2)}}, foreign)
    result, _ = train(
        job, work_dir, 'max_iters=1', **{'transfer-from': foreign}
    )
    assert result.returncode == 2
    assert 'Traceback' not in result.stderr
    assert str(foreign) in result.stderr.splitlines()[-1]
    assert not list(work_dir.glob('*.pth'))


def test_starting_anew_or_going_on(job, tmp_path, run_script):
    result = run_script(
        ROOT / 'tools/train.py',
        job.config,
        f'--work-dir={tmp_path}',
        '--transfer-from=a.pth',
        '--resume=b.pth',
    )
    assert result.returncode == 2
    for word in ('--transfer-from a.pth', '--resume b.pth'):
        assert word in result.stderr
