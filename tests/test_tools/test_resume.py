"""Training that is stopped, killed or divided: the same run in the end."""

import json
import os
import random
import shutil
import signal
import time

import pytest
import torch
from real_process import ROOT, run_script, run_tool, start_tool, train_two

from stylegan_v_mm.checkpoints.loading import load_checkpoint
from stylegan_v_mm.config import load_config
from stylegan_v_mm.engine import VideoGANRunner

NUM_ITERS = 12
OPTIONS = (
    f'max_iters={NUM_ITERS}',
    'batch_size=8',
    'log_interval=1',
    'checkpoint_interval=3',
    'preview_interval=100',
    'num_workers=1',
    'model.augment.pipeline=bgcfnc',
    'model.augment.ada_kimg=1',
    'model.generator.use_noise=True',
    'model.discriminator.mbstd_group_size=1',
    'model.gan_loss=relativistic',
    'model.r2_gamma=0.1',
)


def command(job, work_dir, *options):
    """Words that run tools/train.py."""
    words = ['train.py', job.config, '--work-dir', work_dir]
    return [*words, '--cfg-options', *OPTIONS, *options]


def train(job, work_dir, *options, resume=False):
    """Run tools/train.py to its end."""
    flags = ['--resume'] if resume else []
    return run_tool(*command(job, work_dir, *options), *flags)


def log(work_dir):
    """What was logged at each iteration, but for times; the last counts."""
    lines = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            values = json.loads(line)
            lines[values['iter']] = {
                name: value
                for name, value in values.items()
                if 'time' not in name and name != 'frames_per_sec'
            }
    return lines


def wait_for_iteration(process, work_dir, number):
    """Wait until an iteration is logged."""
    deadline = time.monotonic() + 120
    while not any(
        f'"iter": {number},' in path.read_text()
        for path in work_dir.glob('*/vis_data/scalars.json')
    ):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def leaves(value, path=''):
    """Yield (path, leaf) of nested dicts and lists."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in items:
            yield from leaves(child, f'{path}/{key}')
    else:
        yield path, value


def assert_same_run(work_dir, reference):
    """Weights, average, optimizers, counters, p, history and log agree."""
    name = f'iter_{NUM_ITERS}.pth'
    ours = load_checkpoint(work_dir / name)
    theirs = load_checkpoint(reference / name)
    for part in ('state_dict', 'optimizer'):
        left, right = (dict(leaves(c[part])) for c in (ours, theirs))
        assert left.keys() == right.keys()
        for key, value in left.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, right[key]), key
            else:
                assert value == right[key], key
    for key, history in theirs['message_hub']['log_scalars'].items():
        if 'time' not in key and 'frames_per_sec' not in key:
            again = ours['message_hub']['log_scalars'][key]
            assert (again.data[0] == history.data[0]).all(), key
    assert log(work_dir) == log(reference)
    assert set(log(work_dir)) == set(range(1, NUM_ITERS + 1))


@pytest.fixture(scope='module')
def reference(job, tmp_path_factory):
    """A run that nothing disturbs."""
    work_dir = tmp_path_factory.mktemp('reference')
    result = train(job, work_dir)
    assert result.returncode == 0, result.stderr
    return work_dir


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(2))
def test_killed_at_any_moment_and_resumed(job, reference, tmp_path, seed):
    rng = random.Random(seed)
    process = start_tool(*command(job, tmp_path))
    wait_for_iteration(process, tmp_path, rng.randrange(1, NUM_ITERS - 1))
    time.sleep(rng.random() / 20)
    os.kill(process.pid, signal.SIGKILL)  # its data workers live on
    process.wait()
    result = train(job, tmp_path, resume=True)
    assert result.returncode == 0, result.stderr
    assert_same_run(tmp_path, reference)
    assert not list(tmp_path.glob('.*'))


@pytest.mark.slow
def test_sigterm_saves_and_ends(job, reference, tmp_path):
    process = start_tool(*command(job, tmp_path))
    # An iteration is logged before it ends: it may be the one that is saved.
    wait_for_iteration(process, tmp_path, 5)
    # As Slurm and torchrun do: to the data workers, too.
    process.send(signal.SIGTERM)
    assert process.wait(60) == 0
    numbers = [int(p.stem[5:]) for p in tmp_path.glob('iter_*.pth')]
    assert 4 < max(numbers) < NUM_ITERS
    result = train(job, tmp_path, resume=True)
    assert result.returncode == 0, result.stderr
    assert f'iter_{max(numbers)}.pth' in result.stdout + result.stderr
    assert_same_run(tmp_path, reference)


@pytest.mark.slow
def test_the_newest_whole_checkpoint_is_found(job, reference, tmp_path):
    first = train(job, tmp_path, 'max_iters=7')
    assert first.returncode == 0, first.stderr
    newest, older = (tmp_path / f'iter_{number}.pth' for number in (7, 6))
    whole = newest.read_bytes()
    newest.write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(older.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    older.write_bytes(flipped)
    result = train(job, tmp_path, resume=True)
    assert result.returncode == 0, result.stderr
    said = result.stdout + result.stderr
    for damaged in (newest, older):
        assert f'{damaged} is damaged' in said
    assert f'Load checkpoint from {tmp_path}/iter_3.pth' in said
    assert_same_run(tmp_path, reference)


def test_an_earlier_run_is_not_overwritten(job, reference):
    before = {p: p.stat().st_mtime_ns for p in reference.glob('*.pth')}
    result = train(job, reference)
    assert result.returncode == 2
    assert f'up to iter_{NUM_ITERS}.pth' in result.stderr
    assert '--resume' in result.stderr
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_the_last_three_are_kept(reference):
    names = {path.name for path in reference.glob('*.pth')}
    assert names == {'iter_6.pth', 'iter_9.pth', 'iter_12.pth'}


SMALL_FILES = """
import resource, runpy, sys
size = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.mark.slow
def test_a_full_disk_leaves_the_older_checkpoints(job, tmp_path):
    work_dir = tmp_path / 'work'
    first = train(job, work_dir, 'max_iters=3')
    assert first.returncode == 0, first.stderr
    size = (work_dir / 'iter_3.pth').stat().st_size
    program = tmp_path / 'small_files.py'
    program.write_text(SMALL_FILES)
    words = [program, size // 2, ROOT / 'tools/train.py', job.config]
    words += ['--work-dir', work_dir, '--resume', '--cfg-options', *OPTIONS]
    result = run_script(words, ROOT)
    assert result.returncode == 2, result.stderr
    assert f'{work_dir}/iter_6.pth cannot be written' in result.stderr
    assert {path.name for path in work_dir.glob('*.pth*')} == {'iter_3.pth'}
    assert not list(work_dir.glob('.*'))
    load_checkpoint(work_dir / 'iter_3.pth')


# With another config


def said(result, word):
    """The lines of a process that hold a word."""
    lines = (result.stdout + result.stderr).splitlines()
    return [
        line.partition(' - mmengine - ')[2] for line in lines if word in line
    ]


def test_settings_of_the_config_count(job, reference, tmp_path):
    for path in reference.glob('*_6.pth'):
        shutil.copy(path, tmp_path)
    betas = 'optim_wrapper.discriminator.optimizer.betas=(0.5,0.75)'
    changed = ('lr=0.001', 'max_iters=8', betas, 'model.r1_gamma=7')
    result = train(job, tmp_path, *changed, resume=True)
    assert result.returncode == 0, result.stderr
    optimizers = load_checkpoint(tmp_path / 'iter_8.pth')['optimizer']
    for name, lr, other in (
        ('generator', 0.001 * 4 / 5, (0.0, 0.99 ** (4 / 5))),
        ('discriminator', 0.001 * 16 / 17, (0.5, 0.75)),
    ):
        (group,) = optimizers[name]['param_groups']
        assert (group['lr'], tuple(group['betas'])) == (lr, other)
        assert log(tmp_path)[7][f'{name}.lr'] == pytest.approx(lr, rel=1e-6)
    (counted,) = said(result, 'going on with')
    old = 0.006  # of the demo
    for name, share in (('generator', 4 / 5), ('discriminator', 16 / 17)):
        assert (
            f'optim_wrapper.{name}.optimizer.lr={0.001 * share}, was '
            f'{old * share}' in counted
        )
    assert 'optim_wrapper.discriminator.optimizer.betas.0=0.5, was 0.0' in (
        counted
    )
    assert 'train_cfg.max_iters=8, was 12' in counted
    (others,) = said(result, 'of another config')
    assert others.startswith('WARNING')
    assert 'iter_6.pth is of another config: model.r1_gamma=7, was 5. ' in (
        others
    )
    assert not said(result, 'another list of clips')


def test_another_list_of_clips_is_told(job, reference, tmp_path):
    for path in reference.glob('*_12.pth'):
        shutil.copy(path, tmp_path)
    data = tmp_path / 'more'
    shutil.copytree(job.data, data)
    options = f'data_root={data}'
    # The same clips elsewhere, with other dates; then one more.
    for more in (False, True):
        if more:
            shutil.copy(data / '00000.mp4', data / '00008.mp4')
        result = train(job, tmp_path, options, resume=True)
        assert result.returncode == 0, result.stderr
        lines = said(result, 'another list of clips')
        assert len(lines) == more
        assert not said(result, 'going on with')
        (others,) = said(result, 'of another config')
        assert f"train_dataloader.dataset.data_root='{data}', was" in others
    assert lines[0].endswith('clips: 8 videos before, 9 now')


def test_weights_alone_are_not_resumed_from(job, reference, tmp_path):
    weights = load_checkpoint(reference / 'iter_6.pth')['state_dict']
    torch.save(weights, tmp_path / 'bare.pth')
    result = run_tool(
        'train.py', job.config, '--work-dir', tmp_path / 'work',
        '--resume', tmp_path / 'bare.pth', '--cfg-options', *OPTIONS,
    )  # fmt: skip
    assert result.returncode == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f'error: {tmp_path}/bare.pth is not what --resume')
    assert '--transfer-from' in last


def test_nothing_in_a_checkpoint_is_executed(job, reference, tmp_path):
    checkpoint = load_checkpoint(reference / 'iter_6.pth')
    # Where mmengine looks for a config, to execute it.
    for key in ('config', 'cfg'):
        owned = tmp_path / 'owned'
        code = f'import os\nos.mkdir({str(owned)!r})\n'
        checkpoint['meta'][key] = code
    torch.save(checkpoint, tmp_path / 'iter_6.pth')
    result = train(job, tmp_path, 'max_iters=7', resume=True)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / 'iter_7.pth').exists()
    assert not owned.exists()


def initial_weights(job, tmp_path):
    """Weights of the first iteration."""
    config = load_config(job.config, {'work_dir': str(tmp_path)})
    return VideoGANRunner.from_cfg(config).model.state_dict()


def assert_same_update(work_dir, reference, initial):
    """The way of all weights since the start, in each network."""
    ours, theirs = (
        load_checkpoint(folder / 'iter_6.pth')['state_dict']
        for folder in (work_dir, reference)
    )
    for network in ('generator.', 'discriminator.', 'generator_ema.'):
        left, right = (
            torch.cat(
                [
                    (state[key] - start).double().flatten()
                    for key, start in initial.items()
                    if key.startswith(network)
                ]
            )
            for state in (ours, theirs)
        )
        assert right.norm() > 0.01
        assert (left - right).norm() / right.norm() < 1e-3


@pytest.mark.slow
def test_two_processes_train_as_one(job, reference, tmp_path):
    for process in train_two(
        job.config, tmp_path, '--cfg-options', *OPTIONS, 'max_iters=6'
    ):
        assert process.returncode == 0, process.stderr
    one, two = log(reference), log(tmp_path)
    assert set(two) == set(range(1, 7))
    for number, values in two.items():
        for name, value in values.items():
            # Adam makes full steps of gradients that are 0 but for rounding.
            limit = 1e-5 if number == 1 else 1e-4
            expected = pytest.approx(one[number][name], rel=limit, abs=limit)
            assert value == expected, (number, name)
    assert_same_update(tmp_path, reference, initial_weights(job, tmp_path))
