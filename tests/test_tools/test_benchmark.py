"""The benchmark's baseline is the same model, and its numbers are right."""

import importlib.util
import json
import mmap
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from real_process import run_script
from torch.optim import SGD
from torch.utils._python_dispatch import TorchDispatchMode

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.registry import MODELS

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools/analysis_tools/benchmark.py'
PEAK = 1e9  # FLOP/s
CONFIG = f"""
_base_ = ['{ROOT}/configs/stylegan_v/ucf101.py']
model = dict(
    generator=dict(
        z_dim=8, w_dim=8, motion_z_dim=8, motion_v_dim=8, time_enc_dim=4,
        channel_base=256, channel_max=8,
    ),
    discriminator=dict(channel_base=256, channel_max=8),
)
"""


@pytest.fixture(autouse=True)
def few_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def benchmark(monkeypatch):
    """Import the script."""
    monkeypatch.syspath_prepend(TOOL.parent)
    spec = importlib.util.spec_from_file_location('benchmark', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def benchmarks(benchmark):
    """Import the package that the script calls."""
    import benchmarks

    return benchmarks


@pytest.fixture
def run(benchmark, monkeypatch, tmp_path):
    """Run the tool with a tiny model; give what it writes."""
    config, out = tmp_path / 'config.py', tmp_path / 'out.json'
    config.write_text(CONFIG)

    monkeypatch.setattr(benchmark, 'convolution_peak', lambda *_: PEAK)

    def run(command, *args):
        if command != 'data':
            args = ('--config', str(config), *args)
        args = [command, '--resolution', '16', '--json', str(out), *args]
        monkeypatch.setattr(sys, 'argv', ['benchmark.py', *args])
        benchmark.main()
        return json.loads(out.read_text())

    return run


def model_config(**generator):
    small = dict(resolution=16, c_dim=2, channel_base=256, channel_max=8)
    dims = dict(
        z_dim=8, w_dim=8, motion_z_dim=8, motion_v_dim=8, time_enc_dim=4
    )
    return dict(
        type='StyleGANV',
        generator=dict(type='StyleGANVGenerator', **small, **dims | generator),
        discriminator=dict(
            type='StyleGANVDiscriminator', concat_res=8, **small
        ),
        augment=dict(type='VideoAugment', p=0.5),
        r1_gamma=1,
        d_reg_interval=4,
        ema_kimg=0.1,
    )


def both(benchmarks, **generator):
    """Build our model and the baseline, with biases and clamps at work."""
    torch.manual_seed(0)
    config = model_config(**generator)
    ours = MODELS.build(config | {})
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if name.endswith('bias'):
                parameter.normal_()
    for module in ours.modules():
        if getattr(module, 'conv_clamp', None) is not None:
            module.conv_clamp = 3
    config = model_config(**generator)
    theirs = benchmarks.baseline.PerFrameGAN(ours, config)
    for module in theirs.modules():
        if getattr(module, 'conv_clamp', None) is not None:
            module.conv_clamp = 3
    return ours, theirs


class Convolutions(TorchDispatchMode):
    """Notes the convolutions: their inputs and their groups."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution.default:
            self.calls.append((args[0], args[1], args[8]))
        return func(*args, **kwargs or {})

    @property
    def layouts(self):
        """Whether images are in NCHW, where that can be told."""
        return {
            x.is_contiguous()
            for x, _, _ in self.calls
            if x.ndim == 4 and x.shape[1] > 1 and x.shape[3] > 1
        }


@pytest.mark.parametrize(
    'generator',
    [
        dict(),
        dict(cond_type='concat_w'),
        dict(cond_type='sum_w', fourier=False, motion_z_distance=3),
        dict(motion_v_dim=0),
    ],
)
def test_the_baseline_renders_our_frames(benchmarks, generator):
    ours, theirs = (gan.sampler() for gan in both(benchmarks, **generator))
    c = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    latents = ours.latents([3, 4], c, motion_seeds=[3, 5])
    t = torch.tensor([0.0, 1.5, 40, 1030, 7, 8, 9])
    found = torch.cat(list(ours.render(latents, t)), 1)
    chunks = list(theirs.render(latents, t, chunk=4))
    assert [chunk.shape[1] for chunk in chunks] == [4, 3, 4, 3]
    expected = torch.cat(chunks, 1).unflatten(1, (2, 7))[0]
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_the_baseline_has_no_noise(benchmarks):
    with pytest.raises(InputError, match='per-frame baseline has no noise'):
        both(benchmarks, use_noise=True)


def test_the_baseline_trains_alike(benchmark, benchmarks):
    # Plain gradient steps: Adam's hide the size of gradients.
    args = benchmark.parse(['train', '--batch', '4', '--resolution', '16'])
    ours, theirs = both(benchmarks)
    torch.manual_seed(1)
    data = benchmarks.training.random_batch(args, ours)
    start = {k: v.clone() for k, v in ours.state_dict().items()}
    losses = []
    for gan in (ours, theirs):
        gan.train()
        optimizers = {
            name: OptimWrapper(SGD(getattr(gan, name).parameters(), lr=0.01))
            for name in ('generator', 'discriminator')
        }
        losses.append({})
        for name, loss in (
            ('generator', gan.generator_loss),
            ('discriminator', gan.discriminator_loss),
            ('discriminator', gan.r1_loss),
        ):
            torch.manual_seed(2)
            parts = data.split(gan.accumulative_counts)
            losses[-1] |= gan.step(name, loss, parts, optimizers)
        gan.update_ema(4)
    for name in ('loss_g', 'loss_d', 'r1_penalty'):
        mine, expected = (float(each[name]) for each in losses)
        assert mine == pytest.approx(expected, abs=1e-4)
    expected = theirs.state_dict()
    for name, value in ours.state_dict().items():
        if value.is_floating_point() and not name.startswith('augment'):
            moved = (expected[name] - start[name]).norm()
            assert (value - expected[name]).norm() <= 1e-3 * moved + 1e-5
    moved = expected['generator_ema.synthesis.b16.conv1.weight']
    assert not torch.equal(
        moved, start['generator.synthesis.b16.conv1.weight']
    )


def test_the_baseline_computes_frame_by_frame(benchmarks):
    ours, theirs = (gan.sampler() for gan in both(benchmarks))
    latents = ours.latents([0], torch.tensor([[1.0, 0.0]]))
    with Convolutions() as seen:
        list(theirs.render(latents, torch.arange(5)))
    # 3x3 and 1x1: one group and one modulated weight for each frame.
    modulated = [
        (x, weight, groups)
        for x, weight, groups in seen.calls
        if weight.ndim == 4 and weight.shape[-1] != 4
    ]
    assert {groups for _, _, groups in modulated} == {5}
    assert {len(x) for x, _, _ in modulated} == {1}
    assert seen.layouts == {True}
    # 1024 frames take 66 codes and two convolutions of 11 taps.
    (first, *_) = (x for x, weight, _ in seen.calls if weight.ndim == 3)
    assert first.shape[2] == 66 + 2 * 10


def test_operations_are_counted_through_second_gradients(benchmarks):
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    weight = torch.randn(5, 3, 3, 3, requires_grad=True)
    once = 2 * 2 * 5 * 8 * 8 * 3 * 9
    with benchmarks.measuring.FlopCount() as count:
        y = F.conv2d(x, weight, padding=1)
        assert count.flops == once
        (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        assert count.flops == 2 * once
        grad.square().sum().backward()
    # Back through the gradient (to y and the weight), then through y (to x
    # and the weight).
    assert count.flops == 6 * once


def test_the_peak_is_that_of_the_best_convolution(benchmarks, monkeypatch):
    seconds = iter([3.0] * 4 + [9, 2, 9, 9] + [4.0] * 4)
    monkeypatch.setattr(
        benchmarks.measuring, 'timed', lambda _: (next(seconds), None)
    )
    # All have the same operations: 2 a tap and pair of channels.
    flops = 2 * 9 * 256**2 * 4 * 64**2
    assert benchmarks.measuring.convolution_peak('cpu', 'float32') == flops / 2


def test_train_tells_phases_and_iterations(run):
    found = run('train', '--batch', '4', '--num-frames', '2', '--repeats', '2')
    rows = {(row['work'], row['way']): row for row in found['rows']}
    ways = {way for _, way in rows}
    assert {'ours', 'per frame, as published'} <= ways
    assert len(rows) == 5 * len(ways)
    for way in ways:
        g, d, r1, average, whole = (
            rows[work, way]
            for work in (
                'G',
                'D',
                'R1',
                'moving average',
                'iteration, R1 every 16',
            )
        )
        for i in range(2):
            parts = [each['seconds'][i] for each in (g, d, r1, average)]
            parts[2] /= 16
            assert whole['seconds'][i] == pytest.approx(sum(parts))
        median = sum(whole['seconds']) / 2
        assert whole['frames'] == 8
        assert whole['frames/s'] == pytest.approx(8 / median)
        assert whole['of peak'] == pytest.approx(
            whole['flops'] / median / PEAK
        )
        assert g['flops'] > 0
    ours, published = (
        rows['G', way] for way in ('ours', 'per frame, as published')
    )
    assert ours['x published'] == pytest.approx(
        sum(published['seconds']) / sum(ours['seconds'])
    )
    # Styles of each frame, zeros between pixels: it has more to compute.
    assert ours['flops'] < published['flops']
    assert set(found['differences']) == {'loss_g', 'loss_d', 'r1_penalty'}
    assert max(found['differences'].values()) < 1e-4


def test_options_are_timed_beside_the_published(
    run, benchmarks, monkeypatch, capsys
):
    """Each takes all its steps, with the penalty once per interval."""
    choices, gans = benchmarks.choices, []

    def timed(phase):
        phase()
        return 16, None

    def build(*args):
        gans.append(benchmarks.models.build_ours(*args))
        return gans[-1]

    monkeypatch.setattr(choices, 'timed', timed)
    monkeypatch.setattr(choices, 'build_ours', build)
    found = run('options', '--batch', '2', '--repeats', '2')['options']
    expected = dict.fromkeys(choices.CHOICES, [16 + 16 + 1 + 16] * 2)
    expected['... in every iteration'] = [4 * 16] * 2
    assert found == expected
    line = next(x for x in capsys.readouterr().out.splitlines() if '...' in x)
    assert line.split()[-2:] == ['64000', f'{64 / 49:.2f}']
    assert len(gans) == 8
    options = (
        [gan.gan_loss for gan in gans],
        [gan.r2_gamma for gan in gans],
        [gan.penalty_sigma for gan in gans],
        [gan.reuse_fakes for gan in gans],
    )
    assert [len(set(values)) for values in options] == [2] * 4


def test_sample_times_chunks_and_compares(run, capsys):
    found = run(
        'sample', '--batch', '3', '--num-frames', '6', '--chunk', '4',
        '--repeats', '4',
    )  # fmt: skip
    output = capsys.readouterr().out
    for row in found['rows']:
        assert row['work'] == '3 x 6 frames'
        assert len(row['seconds']) == 4
        assert f'{row["work"]}: {row["way"]}' in output
    assert found['torch'] == torch.__version__
    assert found['command'].startswith('python benchmark.py sample')
    most = found['differences']['3 x 6 frames, at most']
    assert 0 < most < 1e-4

    found = run('sample', '--repeats', '1', '--dtype', 'bfloat16')
    works = {row['work'] for row in found['rows']}
    assert works == {'1 x 128 frames', '16 x 16 frames'}
    assert set(found['convolution_peak']) == {'bfloat16', 'float32'}
    assert found['differences']['1 x 128 frames, at most'] > 1e-4


def test_options_reach_our_networks(run, benchmark, monkeypatch):
    def layouts(*args):
        options = ('--batch', '2', '--num-frames', '4', '--repeats', '1')
        with Convolutions() as seen:
            run('sample', *options, *args)
        return seen.layouts

    assert layouts() == {True, False}
    assert layouts('--channels-last', 'no') == {True}

    compiled = []
    monkeypatch.setattr(
        torch.nn.Module, 'compile', lambda self: compiled.append(self)
    )
    run('eval', '--batch', '4', '--num-frames', '9', '--repeats', '1')
    assert compiled == []
    found = run(
        'eval', '--batch', '4', '--num-frames', '9', '--repeats', '1',
        '--compile',
    )  # fmt: skip
    names = {type(network).__name__ for network in compiled}
    assert names == {'SynthesisNetwork'}
    works = [row['work'] for row in found['rows'] if row['way'] == 'ours']
    assert works == ['rendering', 'features', 'statistics']


def test_memory_is_the_most_that_was_held(benchmarks):
    try:
        Path('/proc/self/clear_refs').write_text('5')  # forget the past
    except OSError:
        pytest.skip('the peak of this process cannot be set back')
    before = benchmarks.memory.peak_memory()
    # Not from malloc, which may have kept as much.
    with mmap.mmap(-1, 2**28) as block:
        for _ in range(2**8):
            block.write(b'x' * 2**20)
    rise = benchmarks.memory.peak_memory() - before
    assert rise == pytest.approx(2**28, rel=0.1)


ALLOCATION = """
import sys
from pathlib import Path
import torch
from stylegan_v_mm.cli import keep_freed_memory
sys.path.insert(0, sys.argv[1])
from benchmarks.measuring import with_default_allocation

def taken_anew():
    # The least of some: what was kept may be a few bytes too small.
    return min(share_taken() for _ in range(5))

def share_taken():
    def resident():
        pages = Path('/proc/self/statm').read_text().split()[1]
        return int(pages) * 4096

    size = 2**27
    for _ in range(3):  # the next one then fits where the last was
        torch.ones(size // 4)
    before = resident()
    block = torch.ones(size // 4)
    return (resident() - before) / (block.numel() * 4)

keep_freed_memory()
print(taken_anew(), with_default_allocation(taken_anew), taken_anew())
"""


def test_only_our_allocation_keeps_freed_memory(tmp_path):
    """In a process whose memory no other test has cut into pieces."""
    (tmp_path / 'program.py').write_text(ALLOCATION)
    process = run_script(['program.py', TOOL.parent], tmp_path)
    assert process.returncode == 0, process.stderr
    before, default, after = map(float, process.stdout.split())
    assert before < 0.1
    assert default > 0.9
    assert after < 0.1


def test_a_profile_names_the_largest_shares(run, benchmarks):
    found = run('profile', '--batch', '2')['profile']
    for work in ('sampling', 'training'):
        for way in (benchmarks.measuring.PUBLISHED, benchmarks.measuring.OURS):
            shares = list(found[f'{work}, {way}'].values())
            assert shares == sorted(shares, reverse=True)
            assert 0.3 < sum(shares) <= 1

    def work():
        for _ in range(20):
            torch.mm(torch.ones(300, 300), torch.ones(300, 300))

    assert next(iter(benchmarks.operations.profiled(work))) == 'aten::mm'


def test_memory_measures_each_job_in_its_own_process(
    run, benchmarks, monkeypatch
):
    jobs = []

    def note(function, options, *way):
        jobs.append((function.__name__, options.num_frames, *way))
        return len(jobs) * 2**30

    monkeypatch.setattr(benchmarks.memory, 'in_a_process', note)
    found = run('memory', '--num-frames', '2')
    assert list(found['memory'].values()) == [
        (i + 1) * 2**30 for i in range(len(jobs))
    ]
    assert jobs[-3:] == [
        (
            'peak_of_sampling',
            num,
        )
        for num in (100, 1000, 10000)
    ]
    assert ('peak_of_training', 2, 'ours') in jobs


def test_two_processes_share_a_batch(run, benchmarks, monkeypatch):
    monkeypatch.setattr(benchmarks.scaling, 'GROUPS', ((2, 1),))
    measured = []

    def note(options, baseline):
        measured.append(
            (options.resolution, options.num_frames, options.batch)
        )
        return [benchmarks.measuring.Row('', 'ours', [1.0], 1)], {}

    monkeypatch.setattr(benchmarks.scaling, 'measure_training', note)
    found = run('scaling', '--repeats', '1', '--batch', '4')
    assert measured == [
        (16, 3, 4), (32, 3, 4), (16, 1, 4), (16, 6, 4), (16, 12, 4),
        (16, 3, 2), (16, 3, 8),
    ]  # fmt: skip
    # In processes of their own, for real.
    iteration, exchange = found['rows'][len(measured) :]
    assert iteration['work'] == '2 x 1 threads, iteration, R1 every 16'
    assert iteration['frames'] == 12
    assert exchange['work'] == '2 x 1 threads, all-reduce'
    assert exchange['seconds'][0] > 0


def test_data_shows_what_is_read_from(run, benchmarks, monkeypatch, capsys):
    reading = benchmarks.reading
    monkeypatch.setattr(reading, 'NUM_VIDEOS', 1)
    monkeypatch.setattr(reading, 'VIDEO_LEN', 9)
    found = run('data', '--batch', '2', '--repeats', '1')
    output = capsys.readouterr().out
    assert {row['work'] for row in found['rows']} == set(reading.FORMATS)
    for name in reading.FORMATS:
        assert name in output


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['train', '--dtype', 'float16'], 'choose bfloat16'),
        (['sample', '--tf32'], '--device cuda'),
        (['eval', '--batch', '3'], '2 clips on either side'),
        (['data', '--json', 'nowhere/out.json'], 'there is no folder nowhere'),
        (['train', '--config', 'nowhere.py'], 'no config file nowhere.py'),
    ],
)
def test_bad_input_is_told(benchmark, monkeypatch, args, message):
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', *args])
    monkeypatch.setattr(benchmark, 'convolution_peak', lambda *_: PEAK)
    with pytest.raises(InputError, match=message):
        benchmark.main()


@pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU is here')
def test_a_missing_gpu_is_told(benchmark):
    with pytest.raises(InputError, match='finds no GPU'):
        benchmark.parse(['train', '--device', 'cuda'])


def test_the_help_of_training_imports_little():
    code = (
        'import runpy, sys\n'
        'sys.argv = ["train.py", "--help"]\n'
        'try:\n'
        f'    runpy.run_path({str(ROOT / "tools/train.py")!r}, '
        'run_name="__main__")\n'
        'except SystemExit:\n'
        '    print("torch" in sys.modules)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True
    )
    assert done.stdout.startswith('usage: train.py'), done.stderr
    assert done.stdout.endswith('\nFalse\n')


def test_the_longest_of_three_times_counts(benchmark, benchmarks):
    """Ten frames on a GPU of round numbers."""
    roofline = benchmarks.roofline
    machine = roofline.Machine(float32=1e9, tf32=2e9, half=4e9, bandwidth=1e6)
    operations = [
        (1, roofline.Operation(roofline.CONVOLUTION, 4 * 10**9, 10, False)),
        # R1, in every other iteration.
        (0.5, roofline.Operation(roofline.OTHER, 0, 10**6, False)),
        (1, roofline.Operation(roofline.FUSED, 0, 4, True)),
    ]
    for tf32, seconds in ((False, 4), (True, 2)):
        found = roofline._bounds(operations, 10, machine, tf32)
        total = seconds + 0.5 + 5e-6
        assert found['frames/s'] == pytest.approx(10 / total)
        # 4 bytes take 4 microseconds.
        assert found['in a graph'] == pytest.approx(10 / (total - 1e-6))
        assert found['arithmetic'] == pytest.approx(seconds / total)
        assert found['memory'] == pytest.approx(0.5 / total)
        assert found['launches'] == pytest.approx(5e-6 / total)
        assert found['bias_act'] == found['launches']
        assert (found['GFLOP'], found['kernels']) == (0.4, 0.25)
    half = roofline.Operation(roofline.PRODUCT, 4 * 10**9, 10, True)
    found = roofline._bounds([(1, half)], 10, machine, False)
    assert found['frames/s'] == pytest.approx(10)


def test_operations_on_paper_are_those_of_the_cpu(
    run, benchmarks, tmp_path, capsys
):
    """Of convolutions and matrix products, which the profiler counts, too."""
    # The margins of augmentation are larger on a GPU.
    config = tmp_path / 'plain.py'
    config.write_text(f"{CONFIG}model['augment'] = None\n")
    args = ['--config', str(config), '--batch=2', '--chunk=4']
    found = run('roofline', *args)['roofline']
    assert len(found) == 12
    options = benchmarks.measuring.Options(
        config=str(config),
        device='cpu',
        dtype='float32',
        resolution=16,
        batch=2,
        num_frames=3,
    )
    training = benchmarks.training.build_training(options, 'ours')
    batch = benchmarks.training.random_batch(options, training.gan)
    flops = 0
    for name, phase in training.phases(batch).items():
        with benchmarks.measuring.FlopCount() as count:
            phase()
        flops += count.flops / (16 if name == 'R1' else 1)
    one = found['training, float32, H200']
    assert one['GFLOP'] == pytest.approx(flops / 6 / 1e9, rel=1e-3)
    assert found['training, TF32, H200']['GFLOP'] == one['GFLOP']
    # The activation of mmcv is one kernel, and half precision half the bytes.
    assert found['training, float16, H200']['GB'] < 0.9 * one['GB']
    assert one['bias_act'] > 0
    assert 'in a graph' in capsys.readouterr().out
