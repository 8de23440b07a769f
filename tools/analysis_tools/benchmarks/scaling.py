"""Iterations of other sizes, and of processes that share a batch."""

import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import torch
import torch.distributed as dist

from stylegan_v_mm.cli import keep_freed_memory

from .measuring import OURS, Options, Row, timed
from .training import build_training, measure_training

# Processes that share a batch, and threads of each.
GROUPS = ((1, 1), (1, 2), (2, 1))


def measure_scaling(options: Options) -> tuple[list[Row], dict]:
    """Time our iterations, changing one size at a time."""
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

    The processes exchange gradients by gloo and have one thread each.
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
    """Train as one of several processes; time an iteration.

    Returns:
        The row of the iteration and, with several processes, the row of the
        all-reduce of all gradients.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()
    if world_size > 1:
        dist.init_process_group(
            'gloo', f'file://{store}', rank=rank, world_size=world_size
        )
    rows = measure_training(options, baseline=False)[0][-1:]
    # This process did a share: add the frames and operations of the others.
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
