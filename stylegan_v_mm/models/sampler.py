"""From latents and times to frames: all sampling goes through here."""

import copy
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from ..video.pixels import to_bytes
from .latents import Latents
from .noise import CONTENT, MotionNoise, seeded_noise

# Elements of the largest tensor while frames are rendered: 1 GiB in float32.
# All tensors of a pass take less than four times that. mmcv's kernels fail
# from 2^31 elements on.
_MOST_ELEMENTS = 2**28


class Sampler:
    """Render videos with a trained generator.

    A frame depends on its styles, motion noise, label and time alone. Motion
    codes are computed in float64: they do not depend on how the times are
    chunked, and phases stay accurate for millions of frames.

    Args:
        generator (nn.Module): A ``StyleGANVGenerator`` in eval mode. The
            sampler copies its motion encoder: when the weights change, make a
            new sampler.

    Attributes:
        generator (nn.Module): The generator.
        motion_encoder (nn.Module, optional): Float64 copy of its motion
            encoder; None for a generator of images.
        device (torch.device): The device of both.
        videos_at_once (int): How many videos may share a pass: one on a CPU,
            any number on a GPU.
    """

    def __init__(self, generator: nn.Module):
        self.generator = generator
        encoder = generator.motion_encoder
        self.motion_encoder = (
            None if encoder is None else copy.deepcopy(encoder).double()
        )
        self.device = next(generator.parameters()).device
        # A video alone has one weight per layer, which is faster on a CPU, and
        # no other video has an effect on its frames, not even on rounding.
        self.videos_at_once = 1 if self.device.type == 'cpu' else sys.maxsize

    @torch.no_grad()
    def latents(
        self,
        seeds: Sequence[int],
        c: Tensor | None = None,
        motion_seeds: Sequence[int] | None = None,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        period: int | None = None,
    ) -> Latents:
        """Compute the latents of seeds.

        Args:
            seeds (sequence): N integers, at least 0.
            c (Tensor, optional): One-hot labels [N, c_dim].
            motion_seeds (sequence, optional): N integers, at least 0.
                Defaults to None, ``seeds``.
            truncation_psi (float): See the generator's ``map``. Defaults to
                1. A conditional model truncates towards the mean of the
                class.
            truncation_cutoff (int, optional): See there.
            period (int, optional): Motion codes until the noise repeats
                itself, which makes a loop. Defaults to None, never.

        Returns:
            Latents: Latents of N videos, on the generator's device.
        """
        network = self.generator
        first_row = dict(first=0, count=1, width=network.z_dim)
        z = [seeded_noise(seed, CONTENT, **first_row) for seed in seeds]
        z = torch.cat(z).to(self.device)
        if c is not None:
            c = c.to(self.device, torch.float32)
        center = None
        if c is not None and network.c_dim > 0 and truncation_psi != 1:
            center = self.class_center(c)
        ws = network.map(
            z,
            c,
            truncation_psi=truncation_psi,
            truncation_cutoff=truncation_cutoff,
            center=center,
        )
        motion_seeds = seeds if motion_seeds is None else motion_seeds
        motions = [MotionNoise(s, period=period) for s in motion_seeds]
        return Latents(ws, motions, c)

    @torch.no_grad()
    def class_center(self, c: Tensor, num_samples: int = 1000) -> Tensor:
        """Average ``w`` over random contents of a class.

        Args:
            c (Tensor): One-hot labels [N, c_dim], on the device.
            num_samples (int): Number of contents, which come from a fixed
                seed and are the same for all classes. Defaults to 1000.

        Returns:
            Tensor: [N, w_dim].
        """
        source = torch.Generator().manual_seed(0)
        z_dim = self.generator.z_dim
        z = torch.randn(num_samples, z_dim, generator=source).to(c)
        classes, row = c.unique(dim=0, return_inverse=True)
        centers = [
            self.generator.mapping(z, label.expand(num_samples, -1)).mean(0)
            for label in classes
        ]
        return torch.stack(centers)[row]

    @torch.no_grad()
    def motion_codes(self, latents: Latents, t: Tensor) -> Tensor | None:
        """Compute the motion codes of videos.

        Args:
            latents (Latents): Latents of N videos.
            t (Tensor): Times [T] of all videos, or [N, T]; in frames, at
                least 0, in any order.

        Returns:
            Tensor, optional: ``motion_v`` [N, T, out_dim], float32; None for
            a generator of images.

        Raises:
            InputError: A time is negative, or LSTM motion codes are to loop.
        """
        encoder, motions = self.motion_encoder, latents.motions
        if encoder is None:
            return None
        # Times are looked at where that is no wait for a GPU.
        t = t.to('cpu', torch.float64).expand(len(motions), -1)
        t = encoder.wrap(t, [motion.period for motion in motions])
        first, count = encoder.code_range(t)
        few = count <= (2 + encoder.extra_codes) * t.shape[1]
        if not few and not encoder.recurrent:
            # Times far apart need a few codes each, not all between them.
            alone: list[Any] = [
                self.motion_codes(latents, each) for each in t.split(1, 1)
            ]
            return torch.cat(alone, 1)
        rows = [
            motion.rows(place, count, encoder.motion_z_dim)
            for motion, place in zip(motions, first.tolist())
        ]
        c = None if latents.c is None else latents.c.to(self.device)
        motion_v = encoder(
            c,
            t.to(self.device),
            torch.stack(rows).to(self.device),
            first,
        )
        return motion_v.float().unflatten(0, t.shape)

    def frames_at_once(self, times_memory: int = 1) -> int:
        """Compute how many frames may be rendered in one pass.

        They take less than 4 GiB, whatever the resolution, unless a single
        frame takes more.

        Args:
            times_memory (int): Memory of a pass, as a multiple of what
                rendering alone takes. Defaults to 1.

        Returns:
            int: At least 1.
        """
        synthesis = self.generator.synthesis
        largest = max(
            # An upsampling convolution adds a row and a column.
            getattr(synthesis, name).conv1.weight.shape[0]
            * (int(name.removeprefix('b')) + 1) ** 2
            for name in synthesis.block_names
        )
        return max(1, _MOST_ELEMENTS // times_memory // largest)

    def frames(self, latents: Latents, t: Tensor) -> Tensor:
        """Render videos in one pass, with gradients for ``latents.ws``.

        Args:
            latents (Latents): Latents of N videos.
            t (Tensor): See :meth:`motion_codes`.

        Returns:
            Tensor: Float32 [N, T, 3, H, W], about [-1, 1].

        Raises:
            InputError: See :meth:`motion_codes`.
        """
        motion_v = self.motion_codes(latents, t)
        if motion_v is not None:
            motion_v = motion_v.flatten(0, 1)
        ws = latents.ws.to(self.device)
        return self.generator.render(ws, motion_v, t.shape[-1])

    @torch.no_grad()
    def render(
        self, latents: Latents, t: Tensor, chunk: int = 16
    ) -> Iterator[Tensor]:
        """Render videos chunk by chunk.

        Memory does not depend on the length, and every frame takes the same
        time, wherever it lies (except with LSTM motion codes, whose states
        are computed from time 0).

        Args:
            latents (Latents): Latents of N videos.
            t (Tensor): See :meth:`motion_codes`.
            chunk (int): Frames of each video in a pass; fewer if the pass
                would take more than 4 GiB. Defaults to 16.

        Yields:
            Tensor: The next frames, float32 [N, <= T, 3, H, W], about
            [-1, 1]; at least one of each video.

        Raises:
            InputError: See :meth:`motion_codes`.
        """
        network = self.generator
        ws = latents.ws.to(self.device)
        at_once = self.frames_at_once()
        together = min(at_once, self.videos_at_once, len(ws))
        # What is yielded at once takes at most an eighth of a pass.
        frame = 3 * network.resolution**2
        most = _MOST_ELEMENTS // 8 // (frame * len(ws))
        for times in t.split(
            max(1, min(chunk, at_once // together, most)), -1
        ):
            motion_v = self.motion_codes(latents, times)
            videos = []
            for i in range(0, len(ws), together):
                part = slice(i, i + together)
                codes = motion_v
                if codes is not None:
                    codes = codes[part].flatten(0, 1)
                videos.append(network.render(ws[part], codes, times.shape[-1]))
            yield torch.cat(videos)

    def stream(
        self, latents: Latents, t: Tensor, chunk: int = 16
    ) -> Iterator[Tensor]:
        """Render videos chunk by chunk, as bytes.

        Args:
            latents (Latents): Latents of N videos.
            t (Tensor): See :meth:`motion_codes`.
            chunk (int): See :meth:`render`.

        Yields:
            Tensor: The next frames, uint8 [N, <= T, 3, H, W], on the CPU; at
            least one of each video.

        Raises:
            InputError: See :meth:`motion_codes`.
        """
        for videos in self.render(latents, t, chunk):
            yield to_bytes(videos).cpu()

    def sample_video(
        self,
        seed: int,
        t: Tensor,
        c: Tensor | None = None,
        motion_seed: int | None = None,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        chunk: int = 16,
    ) -> Iterator[Tensor]:
        """Render the video of a seed, chunk by chunk.

        Args:
            seed (int): Determines content and motion.
            t (Tensor): Times [T], in frames, at least 0, in any order.
            c (Tensor, optional): One-hot label [c_dim].
            motion_seed (int, optional): Determines the motion instead of
                ``seed``.
            truncation_psi (float): See :meth:`latents`. Defaults to 1.
            truncation_cutoff (int, optional): See there.
            chunk (int): Frames rendered at a time. Defaults to 16.

        Yields:
            Tensor: The next frames, uint8 [<= chunk, 3, H, W], on the CPU.
        """
        latents = self.latents(
            [seed],
            c=None if c is None else c[None],
            motion_seeds=None if motion_seed is None else [motion_seed],
            truncation_psi=truncation_psi,
            truncation_cutoff=truncation_cutoff,
        )
        for videos in self.stream(latents, t, chunk):
            yield videos[0]

    def sample_clips(
        self, seeds: Sequence[int], t: Sequence[Tensor], c: Sequence[Tensor]
    ) -> Iterator[Tensor]:
        """Render a clip for each seed.

        Args:
            seeds (sequence): N integers, at least 0.
            t (sequence): Times [T] of each clip, in frames. Clips of one
                length that follow one another may share chunks.
            c (sequence): One-hot label [c_dim] of each clip.

        Yields:
            Tensor: The next clip, uint8 [T, 3, H, W], on the CPU.
        """
        clips = zip(seeds, t, c)
        for _, group in groupby(clips, lambda clip: len(clip[1])):
            same_length = list(group)
            at_once = min(len(same_length), self.videos_at_once)
            for i in range(0, len(same_length), at_once):
                some, times, labels = zip(*same_length[i : i + at_once])
                latents = self.latents(some, torch.stack(labels))
                chunks = self.stream(latents, torch.stack(times))
                yield from torch.cat(list(chunks), 1)
