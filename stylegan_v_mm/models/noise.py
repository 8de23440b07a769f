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
        seed (int): Seed of the video, at least 0.
        stream (int): ``CONTENT`` for ``z``, ``MOTION`` for ``motion_z``.
        first (int): Index of the first row.
        count (int): Number of rows.
        width (int): Numbers per row.

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
    """The endless sequence of noise codes of a video.

    Attributes:
        seed (int): Seed of the codes that are not in ``codes``, at least 0.
        codes (Tensor, optional): Given codes [L, motion_z_dim], such as those
            of an inversion. Defaults to None.
        first_code (int): Index of ``codes[0]``. Defaults to 0.
        period (int, optional): Number of codes after which the noise repeats,
            which makes the video a loop. Defaults to None, no repetition.
    """

    seed: int
    codes: Tensor | None = None
    first_code: int = 0
    period: int | None = None

    def rows(self, first: int, count: int, width: int) -> Tensor:
        """Return codes ``first``, ``first + 1``, ...: [count, width]."""
        indices = range(first, first + count)
        if self.period is not None:
            indices = [index % self.period for index in indices]
        return torch.stack([self._row(index, width) for index in indices])

    def _row(self, index: int, width: int) -> Tensor:
        given = index - self.first_code
        if self.codes is not None and 0 <= given < len(self.codes):
            return self.codes[given].cpu().float()
        rows = seeded_noise(
            self.seed, stream=MOTION, first=index, count=1, width=width
        )
        return rows[0]


def own_rows(
    draw: Callable, shape: Sequence[int], device: torch.device
) -> Tensor:
    """Draw rows for all processes and return the shard of this one.

    Row i of process r is row ``i * number of processes + r`` of the whole
    table, which is how ``ClipSampler`` distributes clips. The random states
    of all processes must be equal.

    Args:
        draw (callable): ``torch.rand``, ``torch.randn`` or the like.
        shape (sequence): Number of rows of this process, then the shape of a
            row.
        device (torch.device): Device to draw on.

    Returns:
        Tensor: Of this shape, float32.
    """
    rank, world_size = get_dist_info()
    rows, *row_shape = shape
    table = draw([rows * world_size, *row_shape], device=device)
    return table[rank::world_size]


def layer_noise(
    seeds: Tensor, num_frames: int, maps: Sequence[Tensor]
) -> list[Tensor]:
    """Draw normal noise for each layer, frame and pixel.

    On one kind of device, the noise of a clip depends on its seed,
    ``num_frames`` and the sizes of the layers alone.

    Args:
        seeds (Tensor): Seeds of the clips, int64 [N].
        num_frames (int): Frames per clip, T.
        maps (sequence): A tensor [H, W] for each layer, on the device to draw
            on.

    Returns:
        list: [N * T, 1, H, W] for each layer, float32.
    """
    sizes, device = [each.numel() for each in maps], maps[0].device
    table = torch.empty(len(seeds), num_frames, sum(sizes), device=device)
    generator = torch.Generator(device)
    for clip, seed in zip(table, seeds.tolist()):
        clip.normal_(generator=generator.manual_seed(seed))
    return [
        part.reshape(-1, 1, *each.shape)
        for part, each in zip(table.split(sizes, 2), maps)
    ]
