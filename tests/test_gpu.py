"""What only a GPU can show, in parts of two minutes at most.

    STYLEGAN_V_FIGURES=figures.json python -m pytest -v tests/test_gpu.py

The parts that tell most come first, and each writes its figures when it has
ended. Without a GPU, the CPU takes its place where it can, with small sizes
and in float32 or bfloat16, so that these tests are known to work; no figure
is written then.
"""

import json
import os
import subprocess
import sys
import time

import pytest
import torch
from drawn_videos import write_clip
from golden import GOLDEN, TINY
from mmengine.hooks import Hook
from real_process import ROOT

from stylegan_v_mm.config import load_config
from stylegan_v_mm.engine import VideoGANRunner
from stylegan_v_mm.evaluation.detectors.base import full_precision
from stylegan_v_mm.registry import MODELS
from stylegan_v_mm.self_check import networks
from stylegan_v_mm.self_check.fidelity import compare_file

sys.path.insert(0, str(ROOT / 'tools/analysis_tools'))
from benchmarks.measuring import OURS, Options
from benchmarks.sampling import measure_sampling
from benchmarks.training import (
    build_training,
    measure_training,
    random_batch,
)

HAS_GPU = torch.cuda.is_available()
DEVICE = 'cuda' if HAS_GPU else 'cpu'
HALF = 'float16' if HAS_GPU else 'bfloat16'
CONFIGS = ROOT / 'configs/stylegan_v'
# Which layout is faster is not known there; on CPUs it is channels-last.
CHANNELS_LAST = [True, False] if HAS_GPU else [True]
needs_gpu = pytest.mark.skipif(not HAS_GPU, reason='no CUDA device')

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def exact():
    """Let no product round to TF32."""
    with full_precision():
        yield


@pytest.fixture
def note(request):
    """Write figures of this part, in any order of parts."""

    def note(**figures):
        path = os.environ.get('STYLEGAN_V_FIGURES')
        if not path or not HAS_GPU:
            return
        line = {'part': request.node.name, **figures}
        with open(path, 'a') as file:
            file.write(json.dumps(line) + '\n')

    return note


def options(**changes):
    """Say what to measure: the published networks, or small ones on CPUs."""
    if HAS_GPU:
        sizes = dict(resolution=256, batch=32, repeats=3)
        config = CONFIGS / 'ucf101.py'
    else:
        sizes = dict(resolution=16, batch=2, repeats=1)
        config = CONFIGS / 'rc_track_64.py'
    settings = dict(num_frames=3, config=str(config), device=DEVICE)
    return Options(**{**settings, **sizes, 'dtype': 'float32', **changes})


@needs_gpu
def test_operations_and_networks_are_those_of_the_cpu(note):
    """With mmcv's compiled ones: forward and two derivatives."""
    found = [*networks.check_cuda_ops(), *networks.check_cuda_networks()]
    note(**{finding.name: finding.text for finding in found})
    assert {finding.status for finding in found} == {'ok'}, found


@pytest.mark.parametrize(
    'path',
    [
        *sorted(TINY.glob('tiny_*.npz')),
        *([] if not HAS_GPU else sorted(GOLDEN.glob('*.npz'))),
    ],
    ids=lambda path: path.stem,
)
def test_reference_files(path, note):
    results = [*compare_file(path, DEVICE)]
    note(worst=max(error / limit for _, error, limit in results if limit))
    failed = [result for result in results if not result[1] <= result[2]]
    assert failed == []


def test_an_iteration_is_the_cpus(note):
    """Losses and weights after a step of each network, and R1."""
    small = options(resolution=32, batch=4)
    results = []
    for device in ('cpu', DEVICE):
        here = Options(**{**vars(small), 'device': 'cpu'})
        model = build_training(here, OURS)
        torch.manual_seed(0)
        batch = random_batch(here, model.gan)
        model.gan.to(device)
        model.gan.augment = None  # its numbers are drawn on the device
        batch = type(batch)(*(x if x is None else x.to(device) for x in batch))
        logs = {}
        for phase in model.phases(batch).values():
            logs |= phase() or {}
        logs.pop('bad_gradients')
        results.append(({k: float(v) for k, v in logs.items()}, model.gan))
    (expected, cpu), (found, gan) = results
    note(expected=expected, found=found)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    for ours, theirs in zip(gan.parameters(), cpu.parameters()):
        # Adam's first step has the size of lr, whatever the gradient.
        assert (ours.cpu() - theirs).abs().mean() < 1e-4


@pytest.mark.parametrize('dtype', sorted({'bfloat16', HALF}))
def test_half_types_are_near_to_float32(dtype, note):
    results = []
    for each in ('float32', dtype):
        gan = build_training(options(dtype=each, batch=4), OURS).gan
        torch.manual_seed(0)
        batch = random_batch(options(batch=4), gan)
        losses = [
            loss(batch, lambda loss, last=True: loss.backward())
            for loss in (gan.generator_loss, gan.r1_loss)
        ]
        grads = [x.grad for x in gan.parameters() if x.grad is not None]
        norm = torch.stack([grad.norm() for grad in grads]).norm()
        assert norm.isfinite()
        results.append([float(losses[0]['loss_g']), float(norm)])
    (loss, norm), (half_loss, half_norm) = results
    note(loss=loss, half_loss=half_loss, norm=norm, half_norm=half_norm)
    assert half_loss == pytest.approx(loss, rel=0.02)
    assert half_norm == pytest.approx(norm, rel=0.1)


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('videos')
    for i in range(8):
        write_clip(folder / f'{i}.mp4', 40, 64, 64, grey=30 * i)
    return folder


def run_config(videos, work_dir, **changes):
    settings = dict(data_root=str(videos), max_iters=4, work_dir=str(work_dir))
    settings |= dict(preview_interval=1000, checkpoint_interval=2)
    settings |= dict(batch_size=4)
    if not HAS_GPU:
        settings |= {'resolution': 16, 'model.generator.channel_max': 8}
        settings |= {'model.discriminator.channel_max': 8}
    demo = str(CONFIGS / 'demo_moving_shapes.py')
    return load_config(demo, {**settings, **changes})


def weights(work_dir):
    state = torch.load(work_dir / 'iter_4.pth', weights_only=False)
    return state['state_dict']


@needs_gpu
def test_a_resumed_run_goes_on(videos, tmp_path):
    VideoGANRunner.from_cfg(run_config(videos, tmp_path)).train()
    expected = weights(tmp_path)
    (tmp_path / 'iter_4.pth').unlink()
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_2.pth'))
    resumed = run_config(videos, tmp_path, resume=True)
    resumed.experiment_name = 'resumed'
    VideoGANRunner.from_cfg(resumed).train()
    for key, found in weights(tmp_path).items():
        # Kernels of a GPU add in any order.
        assert (found - expected[key]).abs().max() <= 1e-3, key


@needs_gpu
def test_one_process_talks_by_nccl(videos, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(run_config(videos, tmp_path).pretty_text)
    subprocess.run(
        [
            *(sys.executable, '-m', 'torch.distributed.run'),
            *('--nproc_per_node=1', ROOT / 'tools/train.py', config),
            *('--launcher', 'pytorch'),
        ],
        check=True,
    )
    assert (tmp_path / 'iter_4.pth').is_file()


def test_features_for_fvd_are_the_cpus(note):
    detector = MODELS.build(dict(type='RandomI3D'))
    clips = torch.randint(256, (2, 16, 3, 64, 64), dtype=torch.uint8)
    expected = detector.features(clips)
    found = detector.to(DEVICE).features(clips)
    start = time.perf_counter()
    many = clips.repeat(16 if HAS_GPU else 1, 1, 1, 1, 1)
    detector.features(many).sum().item()
    note(clips_per_sec=len(many) / (time.perf_counter() - start))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('channels_last', CHANNELS_LAST)
@pytest.mark.parametrize('dtype', ['float32', HALF])
def test_frames_per_second_of_sampling(dtype, channels_last, note):
    length = dict(num_frames=256, chunk=32)
    if not HAS_GPU:
        length = dict(num_frames=8, chunk=4)
    sizes = options(
        dtype=dtype, channels_last=channels_last, batch=1, **length
    )
    rows, differences = measure_sampling(sizes)
    note(**{row.way: sizes.chunk / row.median for row in rows})
    at_most, _ = differences.values()
    assert at_most < (1e-3 if dtype == 'float32' else 0.3)


@pytest.mark.parametrize('channels_last', CHANNELS_LAST)
@pytest.mark.parametrize('dtype', ['float32', HALF])
def test_frames_per_second_of_training(dtype, channels_last, note):
    sizes = options(dtype=dtype, channels_last=channels_last)
    if HAS_GPU:
        torch.cuda.reset_peak_memory_stats()
    rows, differences = measure_training(sizes)
    frames = sizes.batch * sizes.num_frames
    figures = {f'{row.work}: {row.way}': frames / row.median for row in rows}
    if HAS_GPU:
        # Of ours and the baseline, which are there together.
        figures['peak GiB'] = torch.cuda.max_memory_allocated() / 2**30
    note(**figures)
    assert max(differences.values()) < (1e-3 if dtype == 'float32' else 0.1)


class NoWaits(Hook):
    """Let no iteration wait for the GPU that neither logs nor saves."""

    priority = 'HIGHEST'

    def __init__(self, seconds):
        self.seconds = seconds
        self.count = 0
        self.start = time.perf_counter()

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.count and time.perf_counter() - self.start > self.seconds:
            runner.train_loop.stop_training = True
        # The first iterations fill caches, and each tenth is logged.
        strict = HAS_GPU and self.count > 20 and runner.iter % 10 != 9
        if HAS_GPU:
            torch.cuda.set_sync_debug_mode('error' if strict else 'default')
        self.count += 1

    def after_train(self, runner):
        if HAS_GPU:
            torch.cuda.set_sync_debug_mode('default')


def test_a_minute_of_training_waits_for_nothing(videos, tmp_path, note):
    config = run_config(
        videos,
        tmp_path,
        max_iters=100000 if HAS_GPU else 12,
        checkpoint_interval=100000,
        preview_interval=100000,
        log_interval=10,
    )
    runner = VideoGANRunner.from_cfg(config)
    watch = NoWaits(60)
    runner.register_hook(watch)
    runner.train()
    seconds = time.perf_counter() - watch.start
    note(iterations_per_sec=watch.count / seconds)
    assert watch.count >= 12
