"""How long the parts of a Frechet distance take."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from stylegan_v_mm.evaluation import FeatureStats, RandomI3D, frechet_distance
from stylegan_v_mm.models import StyleGANV

from .measuring import OURS, Options, Row, take_turn
from .models import build_models, one_hot


def measure_evaluation(options: Options) -> tuple[list[Row], dict]:
    """Time the parts of FVD-random of ``batch`` clips, half against half."""
    models = build_models(options)
    seeds = torch.arange(options.batch)
    t = torch.arange(options.num_frames, dtype=torch.float64)
    c = one_hot(torch.zeros(len(seeds)), models[OURS].c_dim)
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
