"""How long the rendering of videos takes."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from tqdm import tqdm

from stylegan_v_mm.models import StyleGANV

from .measuring import OURS, PUBLISHED, Options, Row, take_turn
from .models import build_models, one_hot


def measure_all_sampling(options: Options) -> tuple[list[Row], dict]:
    """Time the sampling of the options, or of two usual cases."""
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


def measure_sampling(options: Options) -> tuple[list[Row], dict]:
    """Time the rendering of ``batch`` videos of ``num_frames``, by chunks.

    Args:
        options: What to measure; ``repeats`` chunks are timed.

    Returns:
        Rows, and the largest and the mean difference between our frames and
        the baseline's, in pixel values from -1 to 1.
    """
    name = f'{options.batch} x {options.num_frames} frames'
    models = build_models(options)
    ours = models[OURS]
    seeds = range(options.batch)
    c = one_hot(torch.zeros(len(seeds)), ours.c_dim).to(options.device)
    latents = ours.sampler().latents(seeds, c)

    def render(gan: StyleGANV) -> Iterator[Tensor]:
        t = torch.arange(options.num_frames, dtype=torch.float64)
        while True:
            yield from gan.sampler().render(latents, t, options.chunk)

    rows = {way: Row(name, way, [], options.chunk) for way in models}
    frames: dict[str, list[Tensor]] = {way: [] for way in models}
    for way, gan in models.items():
        chunk = take_turn(
            rows[way], 0, options, lambda gan=gan: next(render(gan))
        )
        size = frames_of(chunk)
        rows[way].flops = rows[way].flops * options.chunk // size
    chunks = {way: render(gan) for way, gan in models.items()}
    turns = range(1, options.repeats + 1)
    for turn in tqdm(turns, name, disable=None):
        for way, videos in chunks.items():
            chunk = take_turn(rows[way], turn, options, next, videos)
            # As if all chunks were full.
            rows[way].seconds[-1] *= options.chunk / frames_of(chunk)
            frames[way].append(chunk.cpu())
    # The baseline renders video by video, ours part by part of all videos.
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
    """Count the frames of a tensor [..., 3, H, W]."""
    return chunk[..., 0, 0, 0].numel()


def render_one(gan: StyleGANV, num_frames: int, options: Options) -> None:
    """Render a video chunk by chunk, without keeping it."""
    c = one_hot(torch.zeros(1), gan.c_dim).to(options.device)
    sampler = gan.sampler()
    t = torch.arange(num_frames, dtype=torch.float64)
    for _ in sampler.render(sampler.latents([0], c), t, options.chunk):
        pass
