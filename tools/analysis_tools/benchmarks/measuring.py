"""Turns of different ways to do the same work, timed and counted."""

import contextlib
import ctypes
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from stylegan_v_mm.cli import keep_freed_memory

OURS = 'ours'
PUBLISHED = 'per frame, as published'
SAME_ALLOCATION = 'per frame, our allocation'


@dataclass(frozen=True)
class Options:
    """What to measure; see the command line of ``benchmark.py``."""

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
    """Time and operations of some work.

    Attributes:
        work: What was done.
        way: ``OURS`` or a baseline.
        seconds: Time of each turn.
        frames: Frames in a turn.
        flops: Floating-point operations in a turn, 0 if unknown.
    """

    work: str
    way: str
    seconds: list[float]
    frames: int
    flops: int = 0

    @property
    def median(self) -> float:
        """Return the median time of a turn in seconds."""
        return statistics.median(self.seconds)


class FlopCount(TorchDispatchMode):
    """Count operations of convolutions and matrix products.

    The formulas are PyTorch's; its own ``FlopCounterMode`` fails with
    gradients of gradients.
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
        flops = formula(*args, **kwargs, out_val=result) if formula else 0
        self.note(func, flops, args, kwargs, result)
        return result

    def note(self, func: Any, flops: int, *values: Any) -> None:
        """Count an operation.

        Args:
            func: The operation.
            flops: Its floating-point operations.
            values: What it takes and returns.
        """
        self.flops += flops


def timed(function: Callable, *args: Any) -> tuple[float, object]:
    """Call a function; return its time in seconds and its result."""
    synchronize()
    start = time.perf_counter()
    result = function(*args)
    synchronize()
    return time.perf_counter() - start, result


def synchronize() -> None:
    """Wait for the GPU, if one is in use."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


# A new thread has an arena of its own, in which nothing has been kept.
_thread = ThreadPoolExecutor(1)


def with_default_allocation(function: Callable, *args: Any) -> Any:
    """Call a function with glibc's default allocation.

    The thresholds of glibc adapt to what a program frees; the values set here
    are the last ones, which large tensors no longer change.
    """
    libc = ctypes.CDLL(None)
    trim_threshold, mmap_threshold, mmap_max = -1, -3, -4  # of malloc.h
    libc.mallopt(mmap_max, 65536)
    libc.mallopt(mmap_threshold, 32 * 2**20)
    libc.mallopt(trim_threshold, 64 * 2**20)
    num_threads = torch.get_num_threads()

    def call() -> Any:
        torch.set_num_threads(num_threads)
        return function(*args)

    try:
        return _thread.submit(call).result()
    finally:
        keep_freed_memory()


def ways(device: str) -> dict[str, Callable]:
    """List the ways that take turns, and what calls the functions of each."""

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
    """Return the FLOP/s of the fastest of a few 3x3 convolutions."""
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


def layout(options: Options) -> contextlib.AbstractContextManager:
    """Make our networks compute in NCHW if the options say so."""
    if options.channels_last:
        return contextlib.nullcontext()
    return mock.patch.object(torch, 'channels_last', torch.contiguous_format)


def take_turn(
    row: Row, turn: int, options: Options, function: Callable, *args: Any
) -> Any:
    """Call a function: turn 0 warms up and counts, the others are timed."""
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
