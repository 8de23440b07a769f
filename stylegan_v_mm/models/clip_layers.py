"""Parts of the discriminator that see several frames of a clip."""

import math

import torch
from torch import Tensor, nn

from ..errors import InputError


class FixedTimeEncoder(nn.Module):
    """Sines and cosines of time differences.

    Args:
        max_num_frames (int): Upper bound of the differences, in frames.
        skip_small_t_freqs (int): How many of the highest frequencies are left
            out.
    """

    def __init__(self, max_num_frames: int, skip_small_t_freqs: int):
        super().__init__()
        num_freqs = math.ceil(math.log2(max_num_frames))
        powers = 2.0 ** torch.arange(num_freqs)
        if skip_small_t_freqs > num_freqs:
            raise InputError(
                f'discriminator.skip_small_t_freqs={skip_small_t_freqs} must '
                f'be at most {num_freqs} with max_num_frames={max_num_frames}'
            )
        coefs = powers * math.pi / 2**num_freqs
        coefs = coefs[: num_freqs - skip_small_t_freqs]
        self.register_buffer('fourier_coefs', coefs[None].float())

    def forward(self, diffs: Tensor) -> Tensor:
        """Encode [M] differences in frames as [M, 2 * num_freqs]."""
        angles = diffs[:, None].to(self.fourier_coefs) * self.fourier_coefs
        return torch.cat([angles.sin(), angles.cos()], 1)


class TemporalDifferenceEncoder(nn.Module):
    """Encode how far apart the frames of a clip are.

    Args:
        max_num_frames (int): Upper bound of the differences, in frames; they
            are less than this.
        embed_dim (int): Width of the learned part.
        skip_small_t_freqs (int): See :class:`FixedTimeEncoder`.
    """

    def __init__(
        self,
        max_num_frames: int,
        embed_dim: int,
        skip_small_t_freqs: int,
    ):
        super().__init__()
        self.const_embed = nn.Embedding(max_num_frames, embed_dim)
        self.time_encoder = FixedTimeEncoder(
            max_num_frames, skip_small_t_freqs
        )
        num_freqs = self.time_encoder.fourier_coefs.shape[1]
        self.dim = embed_dim + 2 * num_freqs

    def check(self, diffs: Tensor) -> None:
        """Check differences between neighbouring frames, of any shape.

        Raises:
            InputError: Times decrease, or increase by ``max_num_frames`` or
                more.
        """
        steps = diffs.round().long()
        limit = self.const_embed.num_embeddings
        wrong = steps[(steps < 0) | (steps >= limit)]
        if len(wrong) > 0:
            raise InputError(
                f'frames of a clip lie {int(wrong[0])} frames apart: their '
                'times must rise, by less than '
                f'discriminator.max_num_frames={limit}'
            )

    def forward(self, diffs: Tensor) -> Tensor:
        """Encode the differences between neighbouring frames.

        Args:
            diffs (Tensor): [N, K], in frames, integer up to rounding.

        Returns:
            Tensor: [N, K * dim], for each difference the learned part, then
            the sines and cosines.

        Raises:
            InputError: See :meth:`check`; only for differences on the CPU, as
                values on a GPU would have to be waited for.
        """
        if diffs.device.type == 'cpu':
            self.check(diffs)
        learned = self.const_embed(diffs.round().long().flatten())
        fixed = self.time_encoder(diffs.flatten()).to(learned.dtype)
        return torch.cat([learned, fixed], 1).reshape(len(diffs), -1)


def temporal_shift(x: Tensor, num_frames: int) -> Tensor:
    """Let neighbouring frames exchange channels (Lin et al. 2019, "TSM").

    An eighth of the channels come from the frame before, and another eighth
    from the frame after. There are zeros where there is none.

    Args:
        x (Tensor): Features [N * T, C, H, W] of the frames of N clips.
        num_frames (int): T.

    Returns:
        Tensor: Of the same shape and layout.
    """
    count = x.shape[1] // 8
    before, after = slice(count), slice(count, 2 * count)
    shifted = x.clone()
    source = x.unflatten(0, (-1, num_frames))
    target = shifted.unflatten(0, (-1, num_frames))
    target[:, 1:, before] = source[:, :-1, before]
    target[:, :-1, after] = source[:, 1:, after]
    target[:, 0, before] = 0
    target[:, -1, after] = 0
    return shifted
