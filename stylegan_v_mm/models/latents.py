"""Latents determine a video at every time: styles, motion noise, label."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ..errors import InputError
from ..files import atomic_write
from .noise import MotionNoise


@dataclass(eq=False)
class Latents:
    """All that a generator needs to render N videos at any time.

    Attributes:
        ws (Tensor): Style vectors [N, num_ws, w_dim].
        motions (list): Motion noise of the N videos.
        c (Tensor, optional): One-hot labels [N, c_dim].
    """

    ws: Tensor
    motions: Sequence[MotionNoise]
    c: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ws)

    def __getitem__(self, videos: slice) -> 'Latents':
        """Select videos by a slice."""
        c = None if self.c is None else self.c[videos]
        return Latents(self.ws[videos], self.motions[videos], c)

    def save(self, path: str | os.PathLike) -> None:
        """Write a file ``NAME.safetensors``, complete or not at all.

        It holds the tensors ``ws``; ``c`` if there are labels;
        ``motion_seed``, ``first_code`` and ``period`` (0 for none), int64
        [N]; and ``motion_z.i`` [L, motion_z_dim] for each video i with given
        codes.

        Args:
            path: The file.

        Raises:
            InputError: It cannot be written.
        """
        tensors = {
            'ws': self.ws.detach().cpu().float().contiguous(),
            'motion_seed': torch.tensor([m.seed for m in self.motions]),
            'first_code': torch.tensor([m.first_code for m in self.motions]),
            'period': torch.tensor([m.period or 0 for m in self.motions]),
        }
        if self.c is not None:
            tensors['c'] = self.c.detach().cpu().float().contiguous()
        for i, motion in enumerate(self.motions):
            if motion.codes is not None:
                codes = motion.codes.detach().cpu().float()
                tensors[f'motion_z.{i}'] = codes.contiguous()
        with atomic_write(Path(path)) as temporary:
            # safetensors' save_file makes files that only their owner reads.
            temporary.write_bytes(save(tensors))

    @classmethod
    def load(cls, path: str | os.PathLike, generator: nn.Module) -> 'Latents':
        """Read a file of :meth:`save`.

        Args:
            path: The file.
            generator (nn.Module): The ``StyleGANVGenerator`` that the latents
                have to fit.

        Returns:
            Latents: On the generator's device.

        Raises:
            InputError: The file is missing, damaged, or of another generator.
        """
        if not Path(path).is_file():
            raise InputError(
                f'there is no file {path}: tools/invert.py and '
                'tools/generate.py --save-latents make such files'
            )
        try:
            data = load_file(path)
            ws, c = data['ws'], data.get('c')
            table = zip(
                *(
                    data[name].tolist()
                    for name in ('motion_seed', 'first_code', 'period')
                )
            )
            motions = [
                MotionNoise(
                    seed, data.get(f'motion_z.{i}'), first, period or None
                )
                for i, (seed, first, period) in enumerate(table)
            ]
            if any(
                type(n) is not int or n < 0
                for motion in motions
                for n in (motion.seed, motion.first_code, motion.period or 0)
            ):
                raise TypeError('a seed or position is not a whole number')
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise InputError(
                f'{path} is not a file of latents: {error}'
            ) from error
        n = len(motions)
        shapes: dict[str, tuple[Tensor, tuple[int, ...]]] = {}
        shapes['ws'] = (ws, (n, generator.num_ws, generator.w_dim))
        if generator.c_dim > 0 or c is not None:
            c = torch.empty(0) if c is None else c
            shapes['c'] = c, (n, generator.c_dim)
        encoder = generator.motion_encoder
        for i, motion in enumerate(motions):
            if encoder is not None and motion.codes is not None:
                wanted = (*motion.codes.shape[:1], encoder.motion_z_dim)
                shapes[f'motion_z.{i}'] = motion.codes, wanted
        for name, (tensor, shape) in shapes.items():
            if tensor.shape != shape:
                raise InputError(
                    f'{path} is of another generator: {name} is '
                    f'{list(tensor.shape)}, this one wants {list(shape)}'
                )
        ws = ws.to(next(generator.parameters()).device)
        return cls(ws, motions, c)


def random_labels(seeds: Sequence[int], c_dim: int) -> Tensor | None:
    """Draw a class for each seed; all classes are equally likely.

    Args:
        seeds (sequence): N integers.
        c_dim (int): Number of classes.

    Returns:
        Tensor, optional: One-hot [N, c_dim]; None without classes.
    """
    if c_dim == 0:
        return None
    classes = [
        int(
            torch.randint(
                c_dim, [1], generator=torch.Generator().manual_seed(seed)
            )
        )
        for seed in seeds
    ]
    return torch.eye(c_dim)[classes]


def label_vectors(
    labels: int | Sequence[int] | Tensor | None,
    seeds: Sequence[int],
    c_dim: int,
) -> Tensor | None:
    """Turn labels into vectors.

    Args:
        labels (int, sequence or Tensor, optional): One class for all videos,
            N classes, or label vectors [N, c_dim]; None for
            :func:`random_labels`.
        seeds (sequence): Seeds of the N videos.
        c_dim (int): Number of classes.

    Returns:
        Tensor, optional: Float32 [N, c_dim]; None without classes.

    Raises:
        InputError: There is no such class, or the number of labels is wrong.
    """
    if labels is None:
        return random_labels(seeds, c_dim)
    labels = torch.as_tensor(labels)
    if labels.ndim == 0:
        labels = labels.repeat(len(seeds))
    if labels.ndim == 1:
        if len(labels) and not 0 <= labels.min() <= labels.max() < c_dim:
            raise InputError(
                f'labels {labels.tolist()}: the model has {c_dim} classes'
            )
        labels = torch.eye(c_dim)[labels.long()]
    if labels.shape != (len(seeds), c_dim):
        raise InputError(
            f'labels of shape {list(labels.shape)} for {len(seeds)} videos of '
            f'a model with {c_dim} classes'
        )
    return labels.float()


def decompose(latents: Latents) -> Latents:
    """Pair every motion with every content.

    Args:
        latents (Latents): Latents of n videos.

    Returns:
        Latents: Latents of n^2 videos, row by row: a row shares a motion, and
        a column shares a content.
    """
    n = len(latents)
    c = None if latents.c is None else latents.c.repeat(n, 1)
    motions = [motion for motion in latents.motions for _ in range(n)]
    return Latents(latents.ws.repeat(n, 1, 1), motions, c)
