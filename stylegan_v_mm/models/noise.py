"""Noise that a seed fixes, wherever and in whatever order it is asked for."""

import numpy as np
import torch
from torch import Tensor

CONTENT, MOTION = 0, 1


def seeded_noise(
    seed: int, stream: int, first: int, count: int, width: int
) -> Tensor:
    """Draw rows of an endless table of normal numbers.

    Row i depends on (seed, stream, i) alone, not on batch, chunk, device or
    length: the counter-based generator Philox (Salmon et al. 2011) starts
    anew at each row.

    Args:
        seed (int): Names the video, at least 0.
        stream (int): ``CONTENT`` for ``z``, ``MOTION`` for ``motion_z``.
        first (int): First row.
        count (int): How many rows.
        width (int): Numbers a row.

    Returns:
        Tensor: [count, width], float32, on the CPU.
    """
    rows = [
        np.random.Generator(
            np.random.Philox(key=[seed, 0], counter=[0, row, stream, 0])
        ).standard_normal(width, np.float32)
        for row in range(first, first + count)
    ]
    return torch.from_numpy(np.stack(rows))
