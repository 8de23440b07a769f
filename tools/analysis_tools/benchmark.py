r"""Measure speed and memory, beside those of the published way to compute.

    python tools/analysis_tools/benchmark.py train
    python tools/analysis_tools/benchmark.py sample --dtype bfloat16

Networks have random weights and the sizes of a config. The baseline
(per_frame.py) computes the same frame by frame, as the published code does,
and takes turns with ours in one process. What counts is the median of the
turns; the fastest and the slowest tell how quiet the machine was.

On CPUs memory makes much of the difference: glibc gives large blocks back to
the system and takes them anew, zeroed, while our tools keep them. So there
the baseline is measured twice: with glibc's defaults, "as published", and
with "our allocation".

"of peak" compares the arithmetic done in a second with that of the best of a
few 3x3 convolutions, channels-last, of the same dtype.
"""

import argparse
import contextlib
import ctypes
import json
import platform
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import data_speed
import mmcv
import mmengine
import torch
import torch.distributed as dist
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import OptimWrapperDict
from per_frame import PerFrameGAN, with_default_allocation
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from tqdm import tqdm

from stylegan_v_mm.cli import keep_freed_memory, positive_int, run_tool
from stylegan_v_mm.config import load_config
from stylegan_v_mm.engine import GANOptimWrapperConstructor
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation import FeatureStats, RandomI3D, frechet_distance
from stylegan_v_mm.evaluation.results import format_table
from stylegan_v_mm.files import atomic_write
from stylegan_v_mm.models import StyleGANV
from stylegan_v_mm.models.batch import Batch
from stylegan_v_mm.models.fakes import make_batch
from stylegan_v_mm.registry import MODELS
from stylegan_v_mm.version import __version__

CONFIG = Path(__file__).parents[2] / 'configs/stylegan_v/ucf101.py'
OURS = 'ours'
# Pixels of the long videos whose memory is measured: 10000 frames take time.
SMALL = 32
# Processes that share a batch, and threads of each.
GROUPS = ((1, 1), (1, 2), (2, 1))
PUBLISHED = 'per frame, as published'
SAME_ALLOCATION = 'per frame, our allocation'
# Heads of columns, and how their numbers are written.
COLUMNS = {
    'median s': '{:.3g}',
    'min': '{:.3g}',
    'max': '{:.3g}',
    'frames/s': '{:.4g}',
    'GFLOP/frame': '{:.4g}',
    'of peak': '{:.0%}',
    'x published': '{:.2f}',
    'x same alloc.': '{:.2f}',
}
BASELINE_COLUMNS = {PUBLISHED: 'x published', SAME_ALLOCATION: 'x same alloc.'}


@dataclass(frozen=True)
class Options:
    """What to measure: the command line's, see there."""

    config: str
    device: str
    dtype: str
    resolution: int
    batch: int
    num_frames: int
    repeats: int = 3
    chunk: int = 16
    compile: bool = False
    channels_last: bool = True


@dataclass
class Row:
    """What something took.

    Attributes:
        work: What was done.
        way: ``OURS`` or a baseline.
        seconds: Of each turn.
        frames: In a turn.
        flops: Operations on floating-point numbers in a turn, 0 if unknown.
    """

    work: str
    way: str
    seconds: list[float]
    frames: int
    flops: int = 0

    @property
    def median(self) -> float:
        """Seconds of the turn in the middle."""
        return statistics.median(self.seconds)


class FlopCount(TorchDispatchMode):
    """Counts operations of convolutions and matrix products.

    By PyTorch's formulas; its own ``FlopCounterMode`` fails with gradients of
    gradients.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple = (),
        kwargs: dict | None = None,
    ) -> Any:
        """Compute, and count."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=result)
        return result


def timed(function: Callable, *args: Any) -> tuple[float, object]:
    """Call a function; give its time in seconds and what it returns."""
    synchronize()
    start = time.perf_counter()
    result = function(*args)
    synchronize()
    return time.perf_counter() - start, result


def synchronize() -> None:
    """Wait for the GPU, if one is in use."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def ways(device: str) -> dict[str, Callable]:
    """List who takes turns, and what calls each one's functions."""

    def call(function: Callable, *args: Any) -> Any:
        return function(*args)

    if device == 'cuda' or not hasattr(ctypes.CDLL(None), 'mallopt'):
        return {PUBLISHED: call, OURS: call}
    return {
        PUBLISHED: with_default_allocation,
        SAME_ALLOCATION: call,
        OURS: call,
    }


def convolution_peak(device: str, dtype: str) -> float:
    """Measure the best of a few 3x3 convolutions, FLOP/s."""
    calls, batch = (20, 16) if device == 'cuda' else (1, 4)
    best = 0.0
    for size, channels in ((128, 128), (64, 256), (32, 512)):
        x, weight = (
            torch.randn(*shape).to(
                device,
                getattr(torch, dtype),
                memory_format=torch.channels_last,
            )
            for shape in (
                (batch, channels, size, size),
                (channels, channels, 3, 3),
            )
        )

        def convolve(x: Tensor = x, weight: Tensor = weight) -> None:
            for _ in range(calls):
                F.conv2d(x, weight, padding=1)

        flops = 2 * 9 * x.numel() * channels * calls
        times = [timed(convolve)[0] for _ in range(4)]
        best = max(best, flops / min(times))
    return best


def read_config(options: Options) -> Config:
    """Read a config and set what the options say.

    Raises:
        InputError: It cannot be read or has no such variables.
    """
    variables = dict(
        resolution=options.resolution,
        batch_size=options.batch,
    )
    if options.dtype == 'float32':
        variables['num_fp16_res'] = 0
    config = load_config(options.config, variables)
    if options.dtype != 'float32':
        config.model.generator.half_dtype = options.dtype
        config.model.discriminator.half_dtype = options.dtype
    return config


def build_ours(options: Options, config: Config) -> StyleGANV:
    """Build our model, with random weights from a seed."""
    torch.manual_seed(0)
    gan = MODELS.build(deepcopy(config.model)).to(options.device)
    if options.compile:
        # No second gradient goes through the generator.
        gan.generator.synthesis.compile()
        gan.generator_ema.synthesis.compile()
    return gan


def baseline_dtype(options: Options) -> str:
    """Half precision of the baseline is the published: float16, on GPUs."""
    half = options.device == 'cuda' and options.dtype != 'float32'
    return 'float16' if half else 'float32'


def build_baseline(
    options: Options, config: Config, ours: StyleGANV
) -> PerFrameGAN:
    """Build the baseline with the weights of our model."""
    model = deepcopy(config.model)
    # On CPUs its blocks turn this into float32.
    model.generator.half_dtype = model.discriminator.half_dtype = 'float16'
    return PerFrameGAN(ours, model).to(options.device)


def one_hot(classes: Tensor, c_dim: int) -> Tensor:
    """Make labels [..., c_dim] of classes [...]; c_dim may be 0."""
    return F.one_hot(classes.long(), max(c_dim, 1))[..., :c_dim].float()


def layout(options: Options) -> contextlib.AbstractContextManager:
    """Let our networks compute in NCHW if the options say so."""
    if options.channels_last:
        return contextlib.nullcontext()
    return mock.patch.object(torch, 'channels_last', torch.contiguous_format)


def take_turn(
    row: Row, turn: int, options: Options, function: Callable, *args: Any
) -> Any:
    """Call a function; turn 0 warms up and counts, the others are timed."""
    with layout(options):
        if turn == 0:
            # What is compiled cannot be counted.
            with (
                torch.compiler.set_stance('force_eager'),
                FlopCount() as count,
            ):
                result = function(*args)
            row.flops = count.flops
            if options.compile:
                function(*args)
        else:
            call = ways(options.device)[row.way]
            seconds, result = call(timed, function, *args)
            row.seconds.append(seconds)
    return result


# Training.


class Training:
    """A model and its optimizers.

    Args:
        gan: The model.
        config: Names the optimizers.
        **adam: Options of these to override.
    """

    def __init__(self, gan: StyleGANV, config: Config, **adam: Any):
        self.gan = gan.train()
        optimizers = {
            name: deepcopy(config.optim_wrapper[name])
            for name in ('generator', 'discriminator')
        }
        for optimizer in optimizers.values():
            optimizer.optimizer.update(adam)
        self.optimizers: OptimWrapperDict = GANOptimWrapperConstructor(
            optimizers
        )(gan)

    def state(self) -> tuple[dict, list[dict]]:
        """Copy all that an iteration changes."""
        return deepcopy(self.gan.state_dict()), [
            deepcopy(optimizer.state.get(param, {}))
            for optimizer, param in self._parameters()
        ]

    def restore(self, state: tuple[dict, list[dict]]) -> None:
        """Return to a state, of this model or the other."""
        weights, moments = state
        self.gan.load_state_dict(weights)
        for (optimizer, param), moment in zip(self._parameters(), moments):
            # Either model has its own layout of memory.
            optimizer.state[param] = {
                key: torch.empty_like(param).copy_(value)
                if value.shape == param.shape
                else value.clone()
                for key, value in moment.items()
            }

    def _parameters(self) -> Iterator[tuple[torch.optim.Optimizer, Tensor]]:
        for wrapper in self.optimizers.values():
            for group in wrapper.optimizer.param_groups:
                for param in group['params']:
                    yield wrapper.optimizer, param

    def phases(self, batch: Batch) -> dict[str, Callable[[], dict | None]]:
        """List the parts of an iteration, in their order."""
        gan = self.gan
        parts = batch.split(gan.accumulative_counts)

        def step(name: str, loss: Callable) -> Callable[[], dict]:
            return lambda: gan.step(name, loss, parts, self.optimizers)

        return {
            'G': step('generator', gan.generator_loss),
            'D': step('discriminator', gan.discriminator_loss),
            'R1': step('discriminator', gan.r1_loss),
            'moving average': lambda: gan.update_ema(len(batch.t)),
        }


def build_training(options: Options, way: str) -> Training:
    """Build our model, or the baseline, for training."""
    config = read_config(options)
    config.model.discriminator.num_frames = options.num_frames
    ours = build_ours(options, config)
    if way == OURS:
        return Training(ours, config)
    baseline = build_baseline(options, config, ours)
    return Training(baseline, config, foreach=False, fused=False)


def random_batch(options: Options, gan: StyleGANV) -> Batch:
    """Draw a batch of clips, and the noise for fake ones."""
    batch, num_frames = options.batch, options.num_frames
    size, c_dim = options.resolution, gan.c_dim

    def times(*shape: int) -> Tensor:
        return torch.randint(1, 9, (*shape, num_frames)).double().cumsum(-1)

    def labels(*shape: int) -> Tensor:
        return one_hot(torch.randint(max(c_dim, 1), shape), c_dim)

    data = dict(
        video=torch.randint(256, (batch, num_frames, 3, size, size)).byte(),
        t=times(batch),
        c=labels(batch),
        gen_t=times(batch, 2),
        gen_c=labels(batch, 2),
    )
    data = {key: value.to(options.device) for key, value in data.items()}
    return make_batch(gan.generator, data, gan.style_mixing_prob)


def measure_training(
    options: Options, baseline: bool = True
) -> tuple[list[Row], dict[str, float]]:
    """Time iterations, each of all models from the same state.

    Args:
        options: What to measure.
        baseline: Whether to measure that, too.

    Returns:
        Rows of the phases and of iterations, R1 counting once in its
        interval; and the largest differences between losses of ours and of
        the baseline.
    """
    ours = build_training(options, OURS)
    models = {OURS: ours}
    if baseline:
        other = build_training(options, PUBLISHED)
        models = {**dict.fromkeys(ways(options.device), other), OURS: ours}
    names = ('G', 'D', 'R1', 'moving average')
    frames = options.batch * options.num_frames
    rows = {
        (name, way): Row(name, way, [], frames)
        for name in names
        for way in models
    }
    differences: dict[str, float] = {}
    for turn in tqdm(range(options.repeats + 1), 'iterations', disable=None):
        torch.manual_seed(turn)
        data = random_batch(options, ours.gan)
        state = ours.state()
        losses: dict[str, dict] = {}
        for way, model in models.items():
            if turn == 0 and way == SAME_ALLOCATION:
                continue  # the same as the one before
            model.restore(state)
            losses[way] = {}
            for name, phase in model.phases(data).items():
                torch.manual_seed(turn)
                logs = take_turn(rows[name, way], turn, options, phase)
                losses[way] |= logs or {}
        for name, loss in losses.get(PUBLISHED, {}).items():
            if name == 'bad_gradients':
                continue  # a count
            difference = abs(float(loss - losses[OURS][name]))
            differences[name] = max(differences.get(name, 0.0), difference)
    interval = ours.gan.d_reg_interval
    for way in models:
        if way == SAME_ALLOCATION:
            for name in names:
                rows[name, way].flops = rows[name, PUBLISHED].flops
        parts = [rows[name, way] for name in names]
        shares = (1, 1, 1 / interval, 1)
        rows['iteration', way] = Row(
            f'iteration, R1 every {interval}',
            way,
            [
                sum(
                    share * part.seconds[i]
                    for share, part in zip(shares, parts)
                )
                for i in range(options.repeats)
            ],
            frames,
            round(sum(s * part.flops for s, part in zip(shares, parts))),
        )
    return list(rows.values()), differences


# Sampling.


def measure_sampling(options: Options) -> tuple[list[Row], dict]:
    """Time the rendering of ``batch`` videos of ``num_frames``, by chunks.

    Args:
        options: What to measure; at most ``repeats`` chunks are.

    Returns:
        Rows, and by how much frames differ from the baseline's: at most and
        on average, of a range of 2.
    """
    name = f'{options.batch} x {options.num_frames} frames'
    config = read_config(options)
    ours = build_ours(options, config).eval()
    baseline = build_baseline(options, config, ours).eval()
    models = {**dict.fromkeys(ways(options.device), baseline), OURS: ours}
    seeds = range(options.batch)
    c = one_hot(torch.zeros(len(seeds)), ours.c_dim).to(options.device)
    latents = ours.sampler().latents(seeds, c)

    def render(gan: StyleGANV) -> Iterator[Tensor]:
        t = torch.arange(options.num_frames, dtype=torch.float64)
        return gan.sampler().render(latents, t, options.chunk)

    rows = {way: Row(name, way, [], options.chunk) for way in models}
    frames: dict[str, list[Tensor]] = {way: [] for way in models}
    for way, gan in models.items():
        chunk = take_turn(
            rows[way], 0, options, lambda gan=gan: next(render(gan))
        )
        size = frames_of(chunk)
        rows[way].flops = rows[way].flops * options.chunk // size
    chunks = {way: render(gan) for way, gan in models.items()}
    total = -(-options.batch * options.num_frames // options.chunk)
    turns = range(1, min(total, options.repeats) + 1)
    for turn in tqdm(turns, name, disable=None):
        for way, videos in chunks.items():
            chunk = take_turn(rows[way], turn, options, next, videos)
            # As if all chunks were full.
            rows[way].seconds[-1] *= options.chunk / frames_of(chunk)
            frames[way].append(chunk.cpu())
    # The baseline renders video by video, ours moment by moment.
    theirs = torch.cat(frames[PUBLISHED], 1)[0].split(options.num_frames)
    mine = torch.cat(frames[OURS], 1)
    differences = torch.cat(
        [
            (a[: len(b)] - b[: len(a)]).abs().flatten()
            for a, b in zip(mine, theirs)
        ]
    )
    return list(rows.values()), {
        f'{name}, at most': float(differences.max()),
        f'{name}, on average': float(differences.mean()),
    }


def frames_of(chunk: Tensor) -> int:
    """Count frames of [..., 3, H, W]."""
    return chunk[..., 0, 0, 0].numel()


def measure_all_sampling(options: Options) -> tuple[list[Row], dict]:
    """Time the sampling that is asked for, else of two usual cases."""
    if options.batch or options.num_frames:
        cases = [(options.batch or 1, options.num_frames or 16)]
    else:
        cases = [(1, 128), (16, 16)]
    rows: list[Row] = []
    differences: dict[str, float] = {}
    for batch, num_frames in cases:
        case = replace(options, batch=batch, num_frames=num_frames)
        found, errors = measure_sampling(case)
        rows += found
        differences |= errors
    return rows, differences


# Evaluation.


def measure_evaluation(options: Options) -> tuple[list[Row], dict]:
    """Time the parts of FVD-random of ``batch`` clips, half against half."""
    config = read_config(options)
    ours = build_ours(options, config).eval()
    baseline = build_baseline(options, config, ours).eval()
    models = {**dict.fromkeys(ways(options.device), baseline), OURS: ours}
    seeds = torch.arange(options.batch)
    t = torch.arange(options.num_frames, dtype=torch.float64)
    c = one_hot(torch.zeros(len(seeds)), ours.c_dim)
    detector = RandomI3D().to(options.device)

    def generate(gan: StyleGANV) -> Tensor:
        data = dict(seed=seeds, t=t.expand(len(seeds), -1), c=c)
        return torch.stack([each['video'] for each in gan.test_step(data)])

    def detect(videos: Tensor) -> Tensor:
        # As the metrics do, 64 frames at a time.
        clips = videos.split(max(64 // options.num_frames, 1))
        return torch.cat([detector.features(part) for part in clips])

    def compare(features: Tensor) -> float:
        halves = []
        for half in features.chunk(2):
            halves.append(FeatureStats(detector.num_features))
            halves[-1].append(half)
        return frechet_distance(*halves)

    rows: dict[tuple, Row] = {}
    frames = options.batch * options.num_frames

    def measured(
        turn: int, work: str, way: str, function: Callable, *args: Any
    ) -> Any:
        row = rows.setdefault((work, way), Row(work, way, [], frames))
        return take_turn(row, turn, options, function, *args)

    for turn in tqdm(range(options.repeats + 1), 'rounds', disable=None):
        for way, gan in models.items():
            videos = measured(turn, 'rendering', way, generate, gan)
        features = measured(turn, 'features', OURS, detect, videos)
        measured(turn, 'statistics', OURS, compare, features)
    return list(rows.values()), {}


# Memory.


def peak_of_training(options: Options, way: str) -> int:
    """Train for two iterations in this process; give its peak, bytes."""
    if way != PUBLISHED:
        keep_freed_memory()
    model = build_training(options, way)
    for _ in range(2):
        data = random_batch(options, model.gan)
        for phase in model.phases(data).values():
            with layout(options):
                phase()
    return peak_memory()


def peak_of_sampling(options: Options) -> int:
    """Render a video in this process; give its peak, bytes."""
    keep_freed_memory()
    gan = build_ours(options, read_config(options)).eval()
    render_one(gan, options.num_frames, options)
    return peak_memory()


def render_one(gan: StyleGANV, num_frames: int, options: Options) -> None:
    """Render a video, chunk by chunk, and keep nothing of it."""
    c = one_hot(torch.zeros(1), gan.c_dim).to(options.device)
    sampler = gan.sampler()
    t = torch.arange(num_frames, dtype=torch.float64)
    for _ in sampler.render(sampler.latents([0], c), t, options.chunk):
        pass


def peak_memory() -> int:
    """Most memory this process had at a time: the GPU's if it used one."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    # ru_maxrss would be the parent's if that had more.
    status = Path('/proc/self/status').read_text()
    return int(status.split('VmHWM:')[1].split()[0]) * 1024


def in_a_process(function: Callable, *args: Any) -> Any:
    """Call a function in a process of its own."""
    with ProcessPoolExecutor(1, get_context('spawn')) as pool:
        return pool.submit(function, *args).result()


def measure_memory(options: Options) -> dict[str, int]:
    """Measure peaks: of training, and of sampling 100 frames and more."""
    jobs: dict[str, tuple] = {
        f'training, {way}': (peak_of_training, options, way)
        for way in ways(options.device)
    }
    for num_frames in (100, 1000, 10000):
        small = replace(options, resolution=SMALL, num_frames=num_frames)
        jobs[f'sampling {num_frames} frames of {SMALL} px'] = (
            peak_of_sampling,
            small,
        )
    return {
        name: in_a_process(*job)
        for name, job in tqdm(jobs.items(), 'processes', disable=None)
    }


# Scaling.


def measure_scaling(options: Options) -> tuple[list[Row], dict]:
    """Time our iterations at other sizes, one of them changed at a time."""
    base: dict[str, Any] = dict(
        resolution=options.resolution,
        num_frames=options.num_frames,
        batch=options.batch,
    )
    points = [base]
    for name, factors in (
        ('resolution', (1 / 2, 2)),
        ('num_frames', (1 / 3, 2, 4)),
        ('batch', (1 / 2, 2)),
    ):
        points += [
            {**base, name: round(base[name] * factor)}
            for factor in factors
            if base[name] * factor >= (16 if name == 'resolution' else 1)
        ]
    rows = []
    for point in points:
        found, _ = measure_training(replace(options, **point), baseline=False)
        row = found[-1]
        row.work = ', '.join(
            f'{point[name]} {unit}'
            for name, unit in (
                ('resolution', 'px'),
                ('num_frames', 'frames'),
                ('batch', 'clips'),
            )
        )
        rows.append(row)
    if options.device == 'cpu':
        rows += measure_processes(options)
    return rows, {}


def measure_processes(options: Options) -> list[Row]:
    """Time our iterations on one CPU process and on two that share a batch.

    These exchange gradients by gloo; each has a thread of its own.
    """
    rows = []
    for world_size, threads in GROUPS:
        with (
            tempfile.TemporaryDirectory() as folder,
            ProcessPoolExecutor(world_size, get_context('spawn')) as pool,
        ):
            share = replace(options, batch=options.batch // world_size)
            jobs = [
                pool.submit(train_in_group, rank, world_size, threads, *job)
                for rank in range(world_size)
                for job in [(f'{folder}/store', share)]
            ]
            found = jobs[0].result()
        for row in found:
            row.work = f'{world_size} x {threads} threads, {row.work}'
        rows += found
    return rows


def train_in_group(
    rank: int, world_size: int, threads: int, store: str, options: Options
) -> list[Row]:
    """Be one of several processes that train; time an iteration.

    Returns:
        The iteration's row, and if there are others that of the all-reduce of
        all gradients.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()
    if world_size > 1:
        dist.init_process_group(
            'gloo', f'file://{store}', rank=rank, world_size=world_size
        )
    rows = measure_training(options, baseline=False)[0][-1:]
    # A share of all: the others' frames and operations come on top.
    rows[0].frames *= world_size
    rows[0].flops *= world_size
    if world_size > 1:
        gan = build_training(options, OURS).gan
        gradients = torch.cat(
            [
                parameter.detach().flatten()
                for network in (gan.generator, gan.discriminator)
                for parameter in network.parameters()
            ]
        )
        times = [
            timed(dist.all_reduce, gradients)[0]
            for _ in range(options.repeats)
        ]
        rows.append(Row('all-reduce', OURS, times, 0))
        dist.destroy_process_group()
    return rows


# Profiles.


def measure_profile(options: Options) -> dict[str, dict[str, float]]:
    """Find the operations that take the time of sampling and of training.

    Returns:
        For sampling and training, ours and the baseline's: each operation's
        share of the time, the largest first.
    """
    found = {}
    for way, call in ways(options.device).items():
        if way == SAME_ALLOCATION:
            continue
        training = build_training(options, way)
        torch.manual_seed(0)
        phases = training.phases(random_batch(options, training.gan))
        sample = partial(render_one, training.gan, options.chunk, options)

        def train(phases: dict = phases) -> None:
            for phase in phases.values():
                phase()

        for name, work in (('sampling', sample), ('training', train)):
            with layout(options):
                call(work)
                shares = call(profiled, work)
            found[f'{name}, {way}'] = shares
    return found


def profiled(work: Callable) -> dict[str, float]:
    """Call a function; give the operations' shares of its time."""
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_initialized():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as found:
        work()
        synchronize()
    kind = 'device' if torch.cuda.is_initialized() else 'cpu'
    times = {
        each.key: getattr(each, f'self_{kind}_time_total')
        for each in found.key_averages()
    }
    total = sum(times.values())
    largest = sorted(times, key=times.__getitem__, reverse=True)
    return {name: times[name] / total for name in largest[:8]}


# Reports.


def numbers(
    row: Row, same_work: dict[str, Row], peaks: dict[str, float]
) -> dict[str, float]:
    """Compute the numbers of a row, by the heads of their columns.

    Args:
        row: The row.
        same_work: It and the other rows of the same work, by their ways.
        peaks: FLOP/s of convolutions, by the ways.
    """
    found = {
        'median s': row.median,
        'min': min(row.seconds),
        'max': max(row.seconds),
    }
    if row.frames:
        found['frames/s'] = row.frames / row.median
    if row.flops:
        found['GFLOP/frame'] = row.flops / row.frames / 1e9
        found['of peak'] = row.flops / row.median / peaks[row.way]
    for way, head in BASELINE_COLUMNS.items():
        if row.way == OURS and way in same_work:
            found[head] = same_work[way].median / row.median
    return found


def report(rows: list[Row], peaks: dict[str, float]) -> tuple[str, list[dict]]:
    """Lay out rows for people, and for programs."""
    found = [
        numbers(
            row,
            {other.way: other for other in rows if other.work == row.work},
            peaks,
        )
        for row in rows
    ]
    heads = [head for head in COLUMNS if any(head in each for each in found)]
    lines = [['', *heads]]
    for row, each in zip(rows, found):
        cells = [
            COLUMNS[head].format(each[head]) if head in each else ''
            for head in heads
        ]
        lines.append([f'{row.work}: {row.way}', *cells])
    return format_table(lines), [
        asdict(row) | each for row, each in zip(rows, found)
    ]


def about(device: str) -> dict:
    """Describe the machine and the versions."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, IndexError):
        text = Path('/proc/cpuinfo').read_text()
        cpu = text.split('model name')[1].split('\n')[0].strip('\t: ')
    return dict(
        date=datetime.now().astimezone().isoformat(timespec='seconds'),
        command=shlex.join(['python', *sys.argv]),
        system=platform.platform(),
        cpu=cpu,
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if device == 'cuda' else None,
        cuda=torch.version.cuda if device == 'cuda' else None,
        python=platform.python_version(),
        torch=torch.__version__,
        mmcv=mmcv.__version__,
        mmengine=mmengine.__version__,
        stylegan_v_mm=__version__,
    )


def write_json(path: Path, content: dict) -> None:
    """Write a file, whole or not at all.

    Raises:
        InputError: It cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + '\n')


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        InputError: A value is out of range, or the device cannot do it.
    """
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest='command', required=True)
    for name, (text, defaults) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        for option, value in defaults.items():
            command.add_argument(
                f'--{option.replace("_", "-")}',
                type=positive_int,
                default=value,
                help=f'{HELP[option]} (default: %(default)s)',
            )
        command.add_argument(
            '--json', type=Path, metavar='OUT', help='also write all numbers'
        )
        if name == 'data':
            command.add_argument(
                '--data', help='videos to take (default: drawn ones)'
            )
            continue
        command.add_argument(
            '--config', default=str(CONFIG), help='whose model to take'
        )
        command.add_argument(
            '--device', choices=['cpu', 'cuda'], default='cpu'
        )
        command.add_argument(
            '--dtype',
            choices=['float32', 'bfloat16', 'float16'],
            default='float32',
            help="of ours, in the config's half-precision blocks (default: "
            'float32, everywhere); the baseline takes float32 on CPUs, else '
            'float16',
        )
        command.add_argument(
            '--compile',
            action='store_true',
            help='torch.compile our generator',
        )
        command.add_argument(
            '--channels-last',
            choices=['yes', 'no'],
            default='yes',
            help='no: our networks compute in NCHW, too',
        )
        command.add_argument(
            '--tf32', action='store_true', help='let GPUs round to TF32'
        )
    args = parser.parse_args(arguments)
    if args.command != 'data':
        check_device(args)
    if args.command == 'eval' and args.batch < 4:
        raise InputError(
            f'--batch {args.batch}: a distance takes 2 clips on either side'
        )
    if args.json and not args.json.absolute().parent.is_dir():
        raise InputError(f'--json {args.json}: there is no such folder')
    return args


def check_device(args: argparse.Namespace) -> None:
    """Refuse what the device cannot do.

    Raises:
        InputError: Says so.
    """
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise InputError('--device cuda: PyTorch finds no GPU here')
    if args.device == 'cpu' and args.dtype == 'float16':
        raise InputError(
            '--dtype float16: on CPUs the networks compute in float32 then; '
            'choose bfloat16, or --device cuda'
        )
    if args.device == 'cpu' and args.tf32:
        raise InputError('--tf32 is for --device cuda')


HELP = dict(
    resolution='pixels',
    batch='clips or videos',
    num_frames='frames of each',
    repeats='turns that are timed',
    chunk='frames rendered at a time',
)
COMMANDS: dict[str, tuple[str, dict]] = {
    'train': (
        'an iteration: generator, discriminator, R1, moving average',
        dict(resolution=128, batch=8, num_frames=3, repeats=3),
    ),
    'sample': (
        'rendering: by default 1 video of 128 frames, and 16 of 16',
        dict(resolution=256, batch=None, num_frames=None, repeats=8, chunk=16),
    ),
    'eval': (
        'FVD-random: rendering, features, statistics',
        dict(resolution=128, batch=16, num_frames=16, repeats=3),
    ),
    'data': (
        'reading clips from videos, zips and folders, on one core',
        dict(resolution=256, batch=16, num_frames=3, repeats=3),
    ),
    'memory': (
        'peaks of training, and of sampling longer and longer videos',
        dict(resolution=128, batch=8, num_frames=3),
    ),
    'profile': (
        'the operations that take the time of sampling and of training',
        dict(resolution=128, batch=4, num_frames=3, chunk=16),
    ),
    'scaling': (
        'iterations of other sizes and, on CPUs, of two processes',
        dict(resolution=64, batch=8, num_frames=3, repeats=2),
    ),
}


MEASURES = {
    'train': measure_training,
    'sample': measure_all_sampling,
    'eval': measure_evaluation,
    'scaling': measure_scaling,
}


def measure_and_show(args: argparse.Namespace) -> dict:
    """Measure what computes; print a table; give all numbers."""
    torch.backends.cudnn.allow_tf32 = args.tf32
    torch.backends.cuda.matmul.allow_tf32 = args.tf32
    torch.backends.cudnn.benchmark = True
    keep_freed_memory()
    given = vars(args) | dict(channels_last=args.channels_last == 'yes')
    names = [field.name for field in fields(Options)]
    options = Options(**{key: given[key] for key in names if key in given})
    if args.command == 'memory':
        peaks = measure_memory(options)
        lines = [['', 'peak GiB']]
        lines += [[name, f'{x / 2**30:.3f}'] for name, x in peaks.items()]
        print(format_table(lines))
        return dict(memory=peaks)
    if args.command == 'profile':
        shares = measure_profile(options)
        for name, operations in shares.items():
            lines = [[name, 'of the time']]
            lines += [[op, f'{share:.0%}'] for op, share in operations.items()]
            print(format_table(lines))
        return dict(profile=shares)
    dtypes = dict.fromkeys(ways(args.device), baseline_dtype(options))
    dtypes[OURS] = args.dtype
    found = {
        dtype: convolution_peak(args.device, dtype)
        for dtype in sorted(set(dtypes.values()))
    }
    rows, differences = MEASURES[args.command](options)
    for dtype, flops in found.items():
        # The machine may be quieter now.
        found[dtype] = max(flops, convolution_peak(args.device, dtype))
    for dtype, flops in found.items():
        print(f'3x3 convolutions in {dtype}: {flops / 1e9:.4g} GFLOP/s')
    text, numbers = report(
        rows, {way: found[dtype] for way, dtype in dtypes.items()}
    )
    print(text)
    for name, value in differences.items():
        print(f'{name}: {value:.2g} from the baseline')
    return dict(convolution_peak=found, rows=numbers, differences=differences)


def main() -> None:
    """Measure, print and write."""
    args = parse()
    machine = about(getattr(args, 'device', 'cpu'))
    cpu = f'{machine["cpu"]}, {machine["threads"]} threads'
    print(f'{machine["date"]}, {machine["gpu"] or cpu}')
    print(f'torch {machine["torch"]}, mmcv {machine["mmcv"]}')
    if args.command == 'data':
        timings = data_speed.measure(
            args.repeats,
            args.num_frames,
            args.resolution,
            args.batch,
            args.data,
        )
        print(format_table(data_speed.table(timings)))
        results = dict(rows=[timing._asdict() for timing in timings])
    else:
        results = measure_and_show(args)
    if args.json:
        write_json(args.json, machine | results)


if __name__ == '__main__':
    run_tool(main)
