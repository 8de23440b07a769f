"""Processes that are killed at any moment, and started again."""

import hashlib
import json
import re
import signal
import time

import pytest
import torch
from faults import NUM_ITERS, assert_same_end, checkpoints, last_logged, resume
from published_pickle import publish
from real_process import run_tool, start_tool

from stylegan_v_mm.registry import MODELS

SIGNALS = [signal.SIGKILL, signal.SIGTERM]


def strike(process, moment, seconds, number):
    """Send a signal at a random moment of what takes so long; the status.

    What is struck after its end is undisturbed.
    """
    time.sleep(moment.random() * seconds)
    if process.poll() is None:
        process.send(number)
    status = process.wait()
    assert status in (0, -number, 128 + number), process.said
    return status


def digests(folder):
    """What lies in a folder but for reports: names and check sums."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in folder.rglob('*')
        if path.is_file() and 'report' not in path.name
    }


@pytest.mark.parametrize('number', SIGNALS, ids=lambda number: number.name)
def test_training(job, tmp_path, tried, moment, number):
    process = start_tool('train.py', job.config, '--work-dir', tmp_path)
    status = strike(process, moment, job.seconds, number)
    if number == signal.SIGTERM:
        done = last_logged(tmp_path)
        assert max(checkpoints(tmp_path), default=0) == done
        assert status in ([0] if 0 < done < NUM_ITERS else [0, 143, -number])
    else:
        assert status in (0, -number)
    lost = resume(job, tmp_path)
    assert_same_end(tmp_path, job)
    tried(f'{number.name} while training', 'the same run, by --resume', lost)


def measured(process):
    """What tools/test.py found."""
    assert process.poll() == 0, process.said
    return re.findall('^FVD.*: [0-9].*$', process.stdout, re.MULTILINE)


@pytest.fixture(scope='module')
def measurement(job, tmp_path_factory):
    """What an undisturbed tools/test.py finds, and how long it takes."""
    folder = tmp_path_factory.mktemp('measured')
    start = time.monotonic()
    process = run_tool(
        'test.py',
        *(job.config, job.checkpoint, '--work-dir', folder),
        XDG_CACHE_HOME=str(folder),
    )
    found = measured(process)
    assert found
    return found, time.monotonic() - start


@pytest.mark.parametrize('number', SIGNALS, ids=lambda number: number.name)
def test_evaluation(
    job, measurement, tmp_path, tried, moment, number, cache_home
):
    words = ('test.py', job.config, job.checkpoint, '--work-dir', tmp_path)
    expected, seconds = measurement
    strike(start_tool(*words), moment, seconds, number)
    assert measured(run_tool(*words)) == expected
    for line in (tmp_path / 'metrics.jsonl').read_text().splitlines():
        json.loads(line)
    if number == signal.SIGTERM:
        assert not list(cache_home.rglob('*.tmp'))
    tried(f'{number.name} while measuring', 'the same numbers, anew')


@pytest.fixture
def snapshot(tmp_path):
    """An image generator as a published pickle."""
    sizes = dict(resolution=16, channel_base=512, channel_max=64)
    torch.manual_seed(0)
    gan = MODELS.build(
        dict(
            type='StyleGANV',
            generator=dict(
                type='StyleGANVGenerator', motion_v_dim=0, conv_clamp=None,
                **sizes,
            ),
            discriminator=dict(
                type='StyleGANVDiscriminator', num_frames=1, conv_clamp=None,
                num_frames_div_factor=1, concat_res=8, **sizes,
            ),
            r1_gamma=1,
        )
    )  # fmt: skip
    path = tmp_path / 'snapshot.pkl'
    publish(gan, path, image_names=True)
    return path


@pytest.mark.parametrize('number', SIGNALS, ids=lambda number: number.name)
def test_model_conversion(snapshot, tmp_path, tried, moment, number):
    def words(name):
        return (
            'model_converters/stylegan_v_pkl.py',
            *(snapshot, tmp_path / name / 'a.pth', '--overwrite'),
        )

    start = time.monotonic()
    whole = run_tool(*words('whole'))
    assert whole.poll() == 0, whole.said
    seconds = time.monotonic() - start
    expected = digests(tmp_path / 'whole')
    strike(start_tool(*words('out')), moment, seconds, number)
    out = tmp_path / 'out'
    left = digests(out) if out.exists() else {}
    if number == signal.SIGKILL:
        left = {name: x for name, x in left.items() if name[0] != '.'}
    assert left.items() <= expected.items()
    again = run_tool(*words('out'))
    assert again.poll() == 0, again.said
    assert digests(out).items() >= expected.items()
    tried(f'{number.name} while converting a model', 'the same files, anew')


@pytest.mark.parametrize('number', SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize(
    'tool', ['moving_shapes', 'videos_to_frames', 'reencode']
)
def test_preparation(job, tmp_path, tried, moment, number, tool):
    def words(out):
        args = [job.data, out, '--num-workers=2']
        if tool == 'moving_shapes':
            args = [out, '--num-videos=12', '--resolution=16']
        return f'dataset_converters/{tool}.py', *args

    start = time.monotonic()
    whole = run_tool(*words(tmp_path / 'whole'))
    assert whole.poll() == 0, whole.said
    seconds = time.monotonic() - start
    expected = digests(tmp_path / 'whole')
    folder = tmp_path / 'struck'
    folder.mkdir()
    out = folder / 'out'
    strike(start_tool(*words(out)), moment, seconds, number)
    if tool == 'moving_shapes':
        # All at once: it is there, or is not.
        assert not out.exists() or digests(out) == expected
        if number == signal.SIGTERM:
            assert not list(folder.glob('.*'))
    if tool != 'moving_shapes' or not out.exists():
        again = run_tool(*words(out))
        assert again.poll() == 0, again.said
    assert digests(out) == expected
    tried(f'{number.name} while preparing data', 'the rest is made')
