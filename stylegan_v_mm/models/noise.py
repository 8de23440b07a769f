"""Random numbers that do not depend on how the work is divided."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.dist import get_dist_info
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


@dataclass(frozen=True, eq=False)
class MotionNoise:
    """The endless motion noise of a video: which code lies at which place.

    Attributes:
        seed (int): What is not in ``codes`` is drawn from it, at least 0.
        codes (Tensor, optional): Given codes [L, motion_z_dim], such as those
            of an inversion. Defaults to None.
        first_code (int): Place of ``codes[0]``. Defaults to 0.
        period (int, optional): Codes until the noise repeats itself, which
            makes a video a loop. Defaults to None, never.
    """

    seed: int
    codes: Tensor | None = None
    first_code: int = 0
    period: int | None = None

    def rows(self, first: int, count: int, width: int) -> Tensor:
        """Give the codes at places ``first`` on: [count, width], float32."""
        places = range(first, first + count)
        if self.period is not None:
            places = [place % self.period for place in places]
        return torch.stack([self._row(place, width) for place in places])

    def _row(self, place: int, width: int) -> Tensor:
        index = place - self.first_code
        if self.codes is not None and 0 <= index < len(self.codes):
            return self.codes[index].cpu().float()
        return seeded_noise(self.seed, MOTION, place, 1, width)[0]


def own_rows(
    draw: Callable, shape: Sequence[int], device: torch.device
) -> Tensor:
    """Draw rows for all processes and keep those of this one.

    Row i of process r is row ``i * number of processes + r`` of the whole
    table, as ``ClipSampler`` deals out clips. The random states of all
    processes have to be equal.

    Args:
        draw (callable): ``torch.rand``, ``torch.randn`` or alike.
        shape (sequence): Rows of this process, and the shape of a row.
        device (torch.device): Where to draw.

    Returns:
        Tensor: Of that shape, float32.
    """
    rank, world_size = get_dist_info()
    rows, *row_shape = shape
    table = draw([rows * world_size, *row_shape], device=device)
    return table[rank::world_size]


def frame_noise(
    seeds: Tensor, num_frames: int, width: int, device: torch.device
) -> Tensor:
    """Draw rows of normal numbers for the frames of clips.

    Those of a clip depend on its seed and ``num_frames`` alone, on devices of
    one kind.

    Args:
        seeds (Tensor): Of N clips, int64 [N].
        num_frames (int): Frames a clip, T.
        width (int): Numbers a frame.
        device (torch.device): Where to draw.

    Returns:
        Tensor: [N * T, width], float32.
    """
    table = torch.empty(len(seeds), num_frames, width, device=device)
    generator = torch.Generator(device)
    for clip, seed in zip(table, seeds.tolist()):
        clip.normal_(generator=generator.manual_seed(seed))
    return table.flatten(0, 1)
