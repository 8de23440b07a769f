"""The most memory that training and sampling hold at a time."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from stylegan_v_mm.cli import keep_freed_memory

from .measuring import PUBLISHED, Options, layout, ways
from .models import build_ours, read_config
from .sampling import render_one
from .training import build_training, random_batch

# Resolution of the long videos: 10000 frames take time.
SMALL = 32


def measure_memory(options: Options) -> dict[str, int]:
    """Measure the peaks of training and of sampling 100 frames and more."""
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


def peak_of_training(options: Options, way: str) -> int:
    """Train for two iterations in this process; return its peak in bytes."""
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
    """Render a video in this process; return its peak in bytes."""
    keep_freed_memory()
    gan = build_ours(options, read_config(options)).eval()
    render_one(gan, options.num_frames, options)
    return peak_memory()


def peak_memory() -> int:
    """Return the peak of this process, of GPU memory if it used a GPU."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    # ru_maxrss would be the parent's if that had more.
    status = Path('/proc/self/status').read_text()
    return int(status.split('VmHWM:')[1].split()[0]) * 1024


def in_a_process(function: Callable, *args: Any) -> Any:
    """Call a function in a process of its own."""
    with ProcessPoolExecutor(1, get_context('spawn')) as pool:
        return pool.submit(function, *args).result()
