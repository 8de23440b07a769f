"""The holistic discriminator: one logit for all frames of a clip.

Skorokhodov et al., "StyleGAN-V" (CVPR 2022), section 3.2, based on the
residual discriminator of StyleGAN2 (Karras et al. 2020). Parameter names are
those of the published model.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, check_at_least, check_choice
from ..registry import MODELS
from .clip_layers import TemporalDifferenceEncoder, temporal_shift
from .layers import (
    HALF_CHOICES,
    Conv2d,
    FullyConnected,
    MappingNetwork,
    block_dtype,
    block_resolutions,
    half_resolution,
    minibatch_stddev,
    num_channels,
    published_channel_base,
)

#: Ways to make features of a clip of those of its frames.
FUSIONS = ('concat', 'mean')


class DiscriminatorBlock(nn.Module):
    """Residual block that halves the size of its input.

    Args:
        in_channels (int): Channels of the input; 0 for frames.
        mid_channels (int): Channels at this resolution.
        out_channels (int): Channels of the output.
        conv_clamp (float, optional): Largest magnitude of layer outputs.
        half_dtype (str, optional): 'float16' or 'bfloat16' to compute in;
            None for float32.
        shift_frames (int): Frames of a clip that exchange channels, see
            :func:`temporal_shift`. Defaults to 1, none.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        conv_clamp: float | None,
        half_dtype: str | None,
        shift_frames: int = 1,
    ):
        super().__init__()
        self.half_dtype = half_dtype
        self.shift_frames = shift_frames
        if in_channels == 0:
            self.fromrgb = Conv2d(
                3, mid_channels, 1, act='lrelu', conv_clamp=conv_clamp
            )
            in_channels = mid_channels
        self.conv0 = Conv2d(
            in_channels, mid_channels, 3, act='lrelu', conv_clamp=conv_clamp
        )
        self.conv1 = Conv2d(
            mid_channels,
            out_channels,
            3,
            act='lrelu',
            down=2,
            conv_clamp=conv_clamp,
        )
        self.skip = Conv2d(in_channels, out_channels, 1, bias=False, down=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map [M, in, H, W] (or frames [M, 3, H, W]) to [M, out, H/2, W/2]."""
        wide = torch.promote_types(x.dtype, torch.float32)
        x = x.to(block_dtype(x.device, self.half_dtype, wide))
        if hasattr(self, 'fromrgb'):
            x = self.fromrgb(x)
        y = self.skip(x, gain=math.sqrt(0.5))
        if self.shift_frames > 1:
            x = temporal_shift(x, self.shift_frames)
        x = self.conv1(self.conv0(x), gain=math.sqrt(0.5))
        return y + x


class DiscriminatorEpilogue(nn.Module):
    """The last block, at 4x4: statistics over the batch, then one logit.

    Args:
        channels (int): Channels of the input.
        cmap_dim (int): Width of the condition to project on; 0 for none.
        mbstd_group_size (int, optional): Clips per group; None for all.
        conv_clamp (float, optional): Largest magnitude of the convolution.
    """

    def __init__(
        self,
        channels: int,
        cmap_dim: int,
        mbstd_group_size: int | None,
        conv_clamp: float | None,
    ):
        super().__init__()
        self.mbstd_group_size = mbstd_group_size
        self.conv = Conv2d(
            channels + 1, channels, 3, act='lrelu', conv_clamp=conv_clamp
        )
        self.fc = FullyConnected(channels * 4**2, channels, act='lrelu')
        self.out = FullyConnected(channels, cmap_dim or 1)

    def forward(self, x: Tensor, cmap: Tensor | None) -> Tensor:
        """Map [N, channels, 4, 4] to logits [N].

        With a condition ``cmap`` [N, cmap_dim] the logit is a projection on
        it (Miyato & Koyama 2018).
        """
        x = minibatch_stddev(x, self.mbstd_group_size)
        x = self.out(self.fc(self.conv(x).flatten(1)))
        if cmap is None:
            return x[:, 0]
        return (x * cmap).sum(1) / math.sqrt(cmap.shape[1])


@MODELS.register_module()
class StyleGANVDiscriminator(nn.Module):
    """StyleGAN-V discriminator: videos, label ``c``, times ``t`` -> logits.

    Each frame is processed on its own down to ``concat_res``, where the
    features of all frames of a clip are concatenated. The logit is
    conditioned on the distances between the frames, not on absolute times.

    Args:
        resolution (int): Width and height of a frame, a power of two from 16
            to 1024.
        num_frames (int): Frames per clip. Defaults to 3.
        c_dim (int): Number of classes; 0 for none. Defaults to 0.
        channel_base (int, optional): Feature maps at a resolution r are
            ``channel_base / r``, at most ``channel_max``. Defaults to None:
            16384, and 32768 from 512 px on, as published.
        channel_max (int): Defaults to 512.
        conv_clamp (float, optional): Largest magnitude of layer outputs.
            Defaults to 256.
        num_fp16_res (int): How many of the highest resolutions compute in
            half precision. Defaults to 0.
        half_dtype (str): 'float16' (float32 on CPUs), 'bfloat16', or 'auto':
            float16, but bfloat16 on CPUs that have instructions for it.
            Defaults to 'auto'.
        concat_res (int, optional): Resolution at which the frames are
            concatenated, a power of two from 8 to resolution / 2. Defaults to
            None, which is 16, or 8 at a resolution of 16.
        frame_fusion (str): How the features of frames become those of a clip
            at ``concat_res``: 'concat', as published, or 'mean' (Zhang et al.
            2023, "StyleSV"), with which one network takes clips of any number
            of frames, and an image too. Defaults to 'concat'.
        temporal_shift (bool): Whether frames exchange channels before
            ``concat_res`` (ibid.), see
            :func:`~stylegan_v_mm.models.layers.temporal_shift`. Defaults to
            False.
        num_frames_div_factor (int): The channels of each frame at
            ``concat_res`` are divided by this number. Defaults to 2.
        mapping_layers (int): Layers of the condition mapping. Defaults to 2.
        mbstd_group_size (int, optional): Clips per group of the minibatch
            statistics, or the whole batch if that is smaller; None for the
            whole batch. Defaults to 4.
        max_num_frames (int): Length of the longest video in the data, in
            frames; the frames of a clip are less than this apart. Defaults to
            1024.
        time_embed_dim (int): Width of the learned part of the time
            difference encoding. Labels are concatenated with it, and in a
            small network a wide encoding drowns them out. Defaults to 256.
        skip_small_t_freqs (int): How many of the highest frequencies of the
            time difference encoding are left out, an ablation. Defaults to 0.
        uniform_gaps (bool): Whether all gaps of a clip are equal, so that
            only the first one is encoded, an ablation. Defaults to False.
        dummy_c (bool): Whether the condition is set to zero, an ablation of
            the paper. Defaults to False.
        freeze_layers (int): How many layers are not trained, counted from the
            input: ``fromrgb`` of the first block, then ``conv0``, ``conv1``
            and ``skip`` of each block (Mo et al. 2020, "Freeze the
            Discriminator"). For training that starts from other weights.
            Defaults to 0.

    Raises:
        InputError: A value is out of range.
    """

    def __init__(
        self,
        resolution: int,
        num_frames: int = 3,
        c_dim: int = 0,
        channel_base: int | None = None,
        channel_max: int = 512,
        conv_clamp: float | None = 256,
        num_fp16_res: int = 0,
        half_dtype: str = 'auto',
        concat_res: int | None = None,
        frame_fusion: str = 'concat',
        temporal_shift: bool = False,
        num_frames_div_factor: int = 2,
        mapping_layers: int = 2,
        mbstd_group_size: int | None = 4,
        max_num_frames: int = 1024,
        time_embed_dim: int = 256,
        skip_small_t_freqs: int = 0,
        uniform_gaps: bool = False,
        dummy_c: bool = False,
        freeze_layers: int = 0,
    ):
        super().__init__()
        resolutions = block_resolutions(resolution)[:0:-1]  # R, ..., 8
        check_at_least(
            1,
            'discriminator',
            num_frames=num_frames,
            num_frames_div_factor=num_frames_div_factor,
            mbstd_group_size=mbstd_group_size,
            mapping_layers=mapping_layers,
            max_num_frames=max_num_frames,
            time_embed_dim=time_embed_dim,
        )
        check_at_least(
            0,
            'discriminator',
            c_dim=c_dim,
            num_fp16_res=num_fp16_res,
            skip_small_t_freqs=skip_small_t_freqs,
        )
        if conv_clamp is not None and conv_clamp <= 0:
            raise InputError(
                f'discriminator.conv_clamp={conv_clamp} must be positive, or '
                'None'
            )
        check_choice('discriminator', HALF_CHOICES, half_dtype=half_dtype)
        check_choice('discriminator', FUSIONS, frame_fusion=frame_fusion)
        if temporal_shift and num_frames == 1:
            raise InputError(
                'discriminator.temporal_shift=True needs num_frames of at '
                'least 2'
            )
        channel_base = channel_base or published_channel_base(resolution)
        concat_res = concat_res or min(16, resolution // 2)
        if concat_res not in resolutions[1:]:
            raise InputError(
                f'concat_res={concat_res} must be one of {resolutions[1:]} '
                f'at resolution={resolution}'
            )
        self.resolution = resolution
        self.num_frames = num_frames
        self.c_dim = c_dim
        self.concat_res = concat_res
        self.averages_frames = frame_fusion == 'mean'
        self.takes_any_length = self.averages_frames and not temporal_shift
        self.mbstd_group_size = mbstd_group_size
        self.dummy_c = dummy_c

        self.num_diffs = min(num_frames - 1, 1 if uniform_gaps else num_frames)
        if self.averages_frames:
            self.num_diffs = 1  # their mean
        cond_dim = c_dim
        if self.num_diffs > 0:
            self.time_encoder = TemporalDifferenceEncoder(
                max_num_frames, time_embed_dim, skip_small_t_freqs
            )
            cond_dim += self.num_diffs * self.time_encoder.dim

        self.resolutions = resolutions
        in_channels = 0
        for res in resolutions:
            mid = num_channels(res, channel_base, channel_max)
            out = num_channels(res // 2, channel_base, channel_max)
            if res // 2 == concat_res:
                if out < num_frames_div_factor:
                    raise InputError(
                        f'num_frames_div_factor={num_frames_div_factor} '
                        f'must be at most {out}, the number of channels at '
                        f'{concat_res}x{concat_res}'
                    )
                out //= num_frames_div_factor
            if res == concat_res and not self.averages_frames:
                in_channels *= num_frames
            use_half = res >= half_resolution(resolution, num_fp16_res)
            block = DiscriminatorBlock(
                in_channels=in_channels,
                mid_channels=mid,
                out_channels=out,
                conv_clamp=conv_clamp,
                half_dtype=half_dtype if use_half else None,
                shift_frames=(
                    num_frames if temporal_shift and res > concat_res else 1
                ),
            )
            self.add_module(f'b{res}', block)
            in_channels = out

        cmap_dim = (
            num_channels(4, channel_base, channel_max) if cond_dim else 0
        )
        if cond_dim:
            self.mapping = MappingNetwork(
                0, cond_dim, cmap_dim, mapping_layers
            )
        self.b4 = DiscriminatorEpilogue(
            in_channels, cmap_dim, mbstd_group_size, conv_clamp
        )

        layers = [f'b{resolution}.fromrgb']
        for res in resolutions:
            layers += [f'b{res}.{name}' for name in ('conv0', 'conv1', 'skip')]
        if not 0 <= freeze_layers <= len(layers):
            raise InputError(
                f'freeze_layers={freeze_layers} must be from 0 to '
                f'{len(layers)}, the layers before the last block at '
                f'resolution={resolution}'
            )
        self.frozen_layers = layers[:freeze_layers]
        self.requires_grad_(True)

    def requires_grad_(
        self, requires_grad: bool = True
    ) -> 'StyleGANVDiscriminator':
        """Set whether parameters are trained, except in frozen layers."""
        super().requires_grad_(requires_grad)
        for name in self.frozen_layers:
            self.get_submodule(name).requires_grad_(False)
        return self

    def check_times(self, t: Tensor) -> None:
        """Check times [..., T], see the time encoder's ``check``."""
        if self.num_diffs > 0:
            self.time_encoder.check(t.diff())

    def condition(self, c: Tensor | None, t: Tensor) -> Tensor | None:
        """Map label and time differences to the condition of the logit.

        Args:
            c (Tensor, optional): [N, c_dim].
            t (Tensor): Times of the frames [N, T], in frames.

        Returns:
            Tensor: [N, cmap_dim], or None if there is no condition.
        """
        if not hasattr(self, 'mapping'):
            return None
        parts: list[Any] = [c] if self.c_dim > 0 else []
        if self.num_diffs > 0:
            diffs = t[:, 1:] - t[:, :-1]
            if self.averages_frames:
                parts.append(self._mean_encoding(diffs))
            else:
                parts.append(self.time_encoder(diffs[:, : self.num_diffs]))
        cond = torch.cat(parts, 1)
        return self.mapping(None, cond * 0 if self.dummy_c else cond)

    def _mean_encoding(self, diffs: Tensor) -> Tensor:
        """Average the encodings of [N, K] differences; 0 if K is 0."""
        dim = self.time_encoder.dim
        if diffs.shape[1] == 0:
            return self.time_encoder.const_embed.weight.new_zeros(
                len(diffs), dim
            )
        return self.time_encoder(diffs).unflatten(1, (-1, dim)).mean(1)

    def forward(self, videos: Tensor, c: Tensor | None, t: Tensor) -> Tensor:
        """Compute the logit of each clip.

        Args:
            videos (Tensor): [N, T, 3, H, W], about [-1, 1].
            c (Tensor, optional): One-hot labels [N, c_dim].
            t (Tensor): Times of the frames [N, T], in frames; only their
                differences matter.

        Returns:
            Tensor: Logits [N], positive for real clips.

        Raises:
            InputError: The clips do not have ``num_frames`` frames of size
                ``resolution``; with frames that are averaged and not
                shifted, their number may be any.
        """
        n, num_frames, _, height, width = videos.shape
        wanted = num_frames if self.takes_any_length else self.num_frames
        if num_frames != wanted or {height, width} != {self.resolution}:
            raise InputError(
                f'the discriminator takes clips of {self.num_frames} frames '
                f'of {self.resolution}x{self.resolution}, got {num_frames} '
                f'of {width}x{height}'
            )
        x = videos.flatten(0, 1)
        x = x.contiguous(memory_format=torch.channels_last)
        for res in self.resolutions:
            if res == self.concat_res and self.averages_frames:
                x = x.unflatten(0, (n, num_frames)).mean(1)
            elif res == self.concat_res:
                x = x.reshape(n, -1, res, res)  # frame-major channels
                x = x.contiguous(memory_format=torch.channels_last)
            x = getattr(self, f'b{res}')(x)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return self.b4(x, self.condition(c, t))
