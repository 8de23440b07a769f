"""Fake clips for training: their noise, and how they are made of it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import InputError
from .batch import Batch
from .noise import own_rows


class Fakes(NamedTuple):
    """Generated clips, and what they were made of.

    Attributes:
        videos (Tensor): [N, T, 3, H, W], about [-1, 1].
        ws (Tensor): Style vectors [N, num_ws, w_dim].
        c (Tensor): Labels [N, c_dim].
        t (Tensor): Times [N, T], in frames.
    """

    videos: Tensor
    ws: Tensor
    c: Tensor
    t: Tensor


def count_codes(generator: nn.Module, data: dict[str, Tensor]) -> int:
    """Return how many motion codes the fake clips of a batch need.

    Args:
        generator (nn.Module): The ``StyleGANVGenerator`` that will take it.
        data (dict): See :func:`make_batch`, still on the CPU: times are read
            and checked.

    Returns:
        int: 0 for a generator of images, or with the noise in ``data``.

    Raises:
        InputError: A time is negative.
    """
    encoder, gen_t = generator.motion_encoder, data['gen_t']
    if encoder is None or 'gen_z' in data:
        return 0
    return encoder.code_range(gen_t.flatten(0, 1))[1]


def make_batch(
    generator: nn.Module,
    data: dict[str, Tensor],
    style_mixing_prob: float = 0,
    num_codes: int | None = None,
    video_len: int = 1024,
) -> Batch:
    """Complete a batch with the noise of its fake clips.

    The random states of all processes have to be equal: each process draws
    for all of them and keeps its share.

    Args:
        generator (nn.Module): The ``StyleGANVGenerator`` that will take it.
        data (dict): The fields of :class:`Batch` up to ``gen_c``. Noise is
            drawn unless they hold ``gen_z``.
        style_mixing_prob (float): How often styles are mixed. Defaults to 0.
        num_codes (int, optional): What :func:`count_codes` returned while the
            batch was on the CPU. If None, it is called.
        video_len (int): Frames of the longest video in the data: so long a
            motion is drawn in all processes. Defaults to 1024.

    Returns:
        Batch: Without noise that the generator does not take.

    Raises:
        InputError: A clip is of a video longer than ``video_len``.
    """
    if 'gen_z' in data:
        return Batch(**data)
    if num_codes is None:
        num_codes = count_codes(generator, data)
    gen_t = data['gen_t']
    shape, device = gen_t.shape[:2], gen_t.device
    z_shape = (*shape, generator.z_dim)
    noise = {'gen_z': own_rows(torch.randn, z_shape, device)}
    encoder = generator.motion_encoder
    if encoder is not None:
        # The size of the table is the same in all processes; what this one
        # does not need of it costs no more than the drawing.
        most = encoder.most_codes(video_len)
        if num_codes > most:
            raise InputError(
                f'a clip needs {num_codes} motion codes, but videos of '
                f'model.max_num_frames={video_len} have {most}'
            )
        table = own_rows(
            torch.randn, (*shape, most, encoder.motion_z_dim), device
        )
        noise['motion_z'] = table[:, :, :num_codes]
        noise['first_code'] = encoder.first_codes(gen_t)
    if style_mixing_prob > 0:
        noise['mixing_z'] = own_rows(torch.randn, z_shape, device)
        chance, place = own_rows(torch.rand, (*shape, 2), device).unbind(2)
        layer = 1 + (place * (generator.num_ws - 1)).long()
        noise['crossover'] = layer.where(
            chance < style_mixing_prob, generator.num_ws
        )
    if generator.synthesis.use_noise:
        # The numbers of all pixels would fill the memory: seeds of clips.
        draw: Callable = partial(torch.randint, 2**63 - 1)
        noise['noise_seeds'] = own_rows(draw, shape, torch.device('cpu'))
    return Batch(**(data | noise))


def make_fakes(generator: nn.Module, batch: Batch, which: int) -> Fakes:
    """Generate one of the two fake batches.

    Args:
        generator (nn.Module): A ``StyleGANVGenerator``.
        batch (Batch): Times, labels and noise of both.
        which (int): 0 for the generator's step, 1 for the discriminator's.

    Returns:
        Fakes: N clips, with gradients of the generator.
    """

    def own(values: Tensor | None) -> Any:
        return None if values is None else values[:, which]

    c, t = own(batch.gen_c), own(batch.gen_t)
    ws = generator.map(own(batch.gen_z), c)
    if batch.mixing_z is not None:
        other = generator.mapping(own(batch.mixing_z), c, update_w_avg=False)
        layers = torch.arange(generator.num_ws, device=ws.device)
        mixed = layers >= own(batch.crossover)[:, None]  # N, num_ws
        ws = torch.where(mixed[:, :, None], other[:, None], ws)
    motion_v = None
    if generator.motion_encoder is not None:
        first_code = 0 if batch.first_code is None else own(batch.first_code)
        motion_v = generator.motion_encoder(
            c, t, own(batch.motion_z), first_code
        )
    videos = generator.render(
        ws, motion_v, t.shape[1], noise_seeds=own(batch.noise_seeds)
    )
    return Fakes(videos, ws, c, t)
