"""Which operations take the time of sampling and of training."""

from collections.abc import Callable
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

from .measuring import SAME_ALLOCATION, Options, layout, synchronize, ways
from .sampling import render_one
from .training import build_training, random_batch


def measure_profile(options: Options) -> dict[str, dict[str, float]]:
    """Find the operations that take the time of sampling and of training.

    Returns:
        For sampling and training, in our way and the baseline's: the share of
        each operation in the time, the largest first.
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
    """Call a function; return the shares of its operations in its time."""
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
