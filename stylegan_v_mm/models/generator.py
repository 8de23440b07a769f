"""The generator: content latent and motion codes to frames.

Skorokhodov et al., "StyleGAN-V" (CVPR 2022), section 3.1, on the skip
architecture of StyleGAN2 (Karras et al. 2020). Parameter names are those of
the published model.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, check_at_least
from ..registry import MODELS
from .layers import (
    HALF_DTYPES,
    Conv2d,
    FullyConnected,
    MappingNetwork,
    block_dtype,
    block_resolutions,
    half_resolution,
    modulated_conv2d,
    num_channels,
)
from .motion import MotionEncoder
from .noise import frame_noise
from .ops import bias_act, fir_filter, upfirdn2d

# Elements of the largest tensor while frames are rendered: 1 GiB in float32.
# All that is there at a time is less than four times that. mmcv's kernels
# refuse 2^31.
_MOST_ELEMENTS = 2**28


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU, clamp.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        w_dim (int): Width of a style vector.
        up (int): 1, or 2 to double the size. Defaults to 1.
        conv_clamp (float, optional): Largest magnitude of the output.
        noise_res (int): Width and height of the output, for a layer that
            noise is added in. Defaults to 0, none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        up: int = 1,
        conv_clamp: float | None = None,
        noise_res: int = 0,
    ):
        super().__init__()
        self.up = up
        self.conv_clamp = conv_clamp
        self.affine = FullyConnected(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(
            torch.randn(out_channels, in_channels, 3, 3)
        )
        self.bias = nn.Parameter(torch.zeros(out_channels))
        if noise_res > 0:
            self.register_buffer(
                'noise_const', torch.randn(noise_res, noise_res)
            )
            self.noise_strength = nn.Parameter(torch.zeros([]))

    def forward(
        self, x: Tensor, w: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """Map frames to features of the same size, or of twice the size.

        Args:
            x (Tensor): [S * F, in, H, W].
            w (Tensor): Style vectors [S, w_dim].
            noise (Tensor, optional): What ``noise_strength`` scales, normal,
                broadcast to the output: [S * F, 1, H * up, W * up] or
                [H * up, W * up].

        Returns:
            Tensor: [S * F, out, H * up, W * up].
        """
        x = modulated_conv2d(x, self.weight, self.affine(w), up=self.up)
        if noise is not None:
            x = x.add_((noise * self.noise_strength).to(x.dtype))
        return bias_act(
            x, self.bias, 'lrelu', clamp=self.conv_clamp, inplace=True
        )


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to three colours, without demodulation.

    Args:
        in_channels (int): Channels of the input.
        w_dim (int): Width of a style vector.
        conv_clamp (float, optional): Largest magnitude of the output.
    """

    def __init__(
        self, in_channels: int, w_dim: int, conv_clamp: float | None = None
    ):
        super().__init__()
        self.conv_clamp = conv_clamp
        self.affine = FullyConnected(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(3, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.style_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map frames [S * F, in, H, W] to [S * F, 3, H, W]."""
        styles = self.affine(w) * self.style_gain
        x = modulated_conv2d(x, self.weight, styles, demodulate=False)
        return bias_act(x, self.bias, clamp=self.conv_clamp, inplace=True)


class ConstantInput(nn.Module):
    """The learned constant, with the motion code of each frame beside it.

    Args:
        channels (int): Channels of the constant.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.const = nn.Parameter(torch.randn(1, channels, 4, 4))

    def forward(self, motion_v: Tensor) -> Tensor:
        """Give [M, channels + motion_v_dim, 4, 4] for ``motion_v`` [M, :]."""
        const = self.const.expand(len(motion_v), -1, -1, -1)
        motion = motion_v[:, :, None, None].expand(-1, -1, 4, 4)
        return torch.cat([const, motion.to(const.dtype)], 1)


class CoordinateEmbedding(nn.Module):
    """Two 3x3 convolutions over the coordinates of the pixels at 4x4.

    Args:
        dim (int): Channels of the embedding.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.conv0 = Conv2d(2, dim, 3, act='lrelu')
        self.conv1 = Conv2d(dim, dim, 3, act='lrelu')
        line = torch.linspace(-1, 1, 4)
        grid = torch.stack([line.expand(4, 4), line[:, None].expand(4, 4)])
        self.register_buffer('grid', grid[None], persistent=False)

    def forward(self) -> Tensor:
        """Embed x (to the right) and y (down) in [-1, 1]: [1, dim, 4, 4]."""
        return self.conv1(self.conv0(self.grid))


class SynthesisInput(nn.Module):
    """The first block's input: under its published name, and coordinates."""

    def __init__(self, channels: int, temporal: bool, coord_dim: int):
        super().__init__()
        if temporal:
            self.input: nn.Module | Tensor = ConstantInput(channels)
        else:
            self.input = nn.Parameter(torch.randn(channels, 4, 4))
        if coord_dim > 0:
            self.coords = CoordinateEmbedding(coord_dim)

    def forward(self, num_frames: int, motion_v: Tensor | None) -> Tensor:
        """Give the features [num_frames, C, 4, 4] to start from."""
        if isinstance(self.input, ConstantInput):
            x = self.input(motion_v)
        else:
            x = self.input.expand(num_frames, -1, -1, -1)
        if hasattr(self, 'coords'):
            coords = self.coords().expand(num_frames, -1, -1, -1)
            x = torch.cat([x, coords], 1)
        return x


class SynthesisBlock(nn.Module):
    """One resolution: upsampling layer (but at 4x4), layer, and colours.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        w_dim (int): Width of a style vector.
        conv_clamp (float, optional): Largest magnitude of layer outputs.
        half_dtype (str, optional): 'float16' or 'bfloat16' to compute the
            convolutions in; None for float32.
        noise_res (int): See :class:`SynthesisLayer`.
        input (SynthesisInput, optional): For the first block.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        conv_clamp: float | None,
        half_dtype: str | None,
        noise_res: int,
        input: SynthesisInput | None = None,
    ):
        super().__init__()
        self.half_dtype = half_dtype
        self.num_conv = 1 if input is not None else 2
        if input is not None:
            self.input = input
        else:
            self.conv0 = SynthesisLayer(
                in_channels, out_channels, w_dim, 2, conv_clamp, noise_res
            )
            in_channels = out_channels
        self.conv1 = SynthesisLayer(
            in_channels, out_channels, w_dim, 1, conv_clamp, noise_res
        )
        self.torgb = ToRGB(out_channels, w_dim, conv_clamp)

    def forward(
        self,
        x: Tensor,
        rgb: Tensor | None,
        ws: Tensor,
        noise: Sequence[Tensor | None] = (None, None),
    ) -> tuple[Tensor, Tensor]:
        """Double the size and add detail.

        Args:
            x (Tensor): Features [S * F, in, H, W].
            rgb (Tensor, optional): Colours so far [S * F, 3, H, W].
            ws (Tensor): Style vectors [S, num_conv + 1, w_dim].
            noise (sequence): Of ``num_conv`` layers, see
                :class:`SynthesisLayer`. Defaults to none.

        Returns:
            tuple: Features and colours (at least float32) at twice the size
            (at the same size for the first block).
        """
        wide = torch.promote_types(x.dtype, torch.float32)
        x = x.to(block_dtype(x.device, self.half_dtype, wide))
        ws, noise = list(ws.unbind(1)), list(noise)
        if self.num_conv == 2:
            x = self.conv0(x, ws.pop(0), noise.pop(0))
        x = self.conv1(x, ws.pop(0), noise.pop(0))
        y = self.torgb(x, ws.pop(0)).to(wide)
        if rgb is not None:
            fir = fir_filter(rgb.device)
            y = y + upfirdn2d(rgb, fir, up=2, padding=(2, 1, 2, 1), gain=4)
        return x, y


class SynthesisNetwork(nn.Module):
    """Blocks from 4x4 up, and the motion encoder.

    Args: see :class:`StyleGANVGenerator`; ``motion_encoder`` may be None.
    """

    def __init__(
        self,
        resolution: int,
        w_dim: int,
        channel_base: int,
        channel_max: int,
        motion_encoder: MotionEncoder | None,
        cond_type: str,
        conv_clamp: float | None,
        num_fp16_res: int,
        half_dtype: str,
        coord_dim: int,
        use_noise: bool,
        noise_mode: str,
    ):
        super().__init__()
        self.cond_type = cond_type
        self.use_noise = use_noise
        self.noise_mode = noise_mode
        motion_dim = 0
        if motion_encoder is not None:
            self.motion_encoder = motion_encoder
            motion_dim = motion_encoder.out_dim
        style_dim = w_dim + (motion_dim if cond_type == 'concat_w' else 0)
        temporal = motion_encoder is not None and cond_type == 'concat_const'
        self.block_names = []
        self.num_ws = 1
        in_channels = 0
        for res in block_resolutions(resolution):
            out_channels = num_channels(res, channel_base, channel_max)
            source = None
            if res == 4:
                source = SynthesisInput(out_channels, temporal, coord_dim)
                in_channels = out_channels + (motion_dim if temporal else 0)
                in_channels += coord_dim
            use_half = res >= half_resolution(resolution, num_fp16_res)
            block = SynthesisBlock(
                in_channels,
                out_channels,
                style_dim,
                conv_clamp,
                half_dtype if use_half else None,
                res if use_noise else 0,
                source,
            )
            self.add_module(f'b{res}', block)
            self.block_names.append(f'b{res}')
            self.num_ws += block.num_conv
            in_channels = out_channels

    def noise(
        self, num_clips: int, num_frames: int, seeds: Tensor | None
    ) -> list[Tensor | None]:
        """Find the noise of each layer.

        Args:
            num_clips (int): N.
            num_frames (int): Frames a clip, T.
            seeds (Tensor, optional): Of the random noise of N clips; drawn if
                None in training mode. In eval mode there then is none, but
                the stored maps, or nothing with ``noise_mode='none'``.

        Returns:
            list: Of ``num_ws - 1`` layers: [N * T, 1, H, W] for random noise,
            [H, W] for a stored map, None for nothing.
        """
        random = self.training or seeds is not None
        if not self.use_noise or (self.noise_mode == 'none' and not random):
            return [None] * (self.num_ws - 1)
        maps = [
            module.noise_const
            for module in self.modules()
            if isinstance(module, SynthesisLayer)
        ]
        if not random:
            return maps
        if seeds is None:
            seeds = torch.randint(2**63 - 1, [num_clips])
        sizes = [each.numel() for each in maps]
        table = frame_noise(seeds, num_frames, sum(sizes), maps[0].device)
        return [
            part.reshape(-1, 1, *each.shape)
            for part, each in zip(table.split(sizes, 1), maps)
        ]

    def forward(
        self,
        ws: Tensor,
        motion_v: Tensor | None,
        num_frames: int,
        noise_seeds: Tensor | None = None,
    ) -> Tensor:
        """Render the frames of clips.

        Args:
            ws (Tensor): [N, num_ws, w_dim].
            motion_v (Tensor, optional): [N * num_frames, out_dim of the
                motion encoder]; None without one.
            num_frames (int): Frames a clip.
            noise_seeds (Tensor, optional): See :meth:`noise`.

        Returns:
            Tensor: Frames [N * num_frames, 3, H, W], float32, about [-1, 1].
        """
        noise = self.noise(len(ws), num_frames, noise_seeds)
        if motion_v is not None and self.cond_type != 'concat_const':
            # Here each frame has styles of its own.
            ws = ws.repeat_interleave(num_frames, 0)
            motion = motion_v[:, None].to(ws.dtype)
            if self.cond_type == 'sum_w':
                ws = ws + motion
            else:
                motion = motion.expand(-1, ws.shape[1], -1)
                ws = torch.cat([ws, motion], 2)
            num_frames = 1
        x = self.b4.input(len(ws) * num_frames, motion_v)
        x = x.contiguous(memory_format=torch.channels_last)
        rgb: Any = None
        first = 0
        for name in self.block_names:
            block = getattr(self, name)
            # The last style of a block is also the first of the next one.
            end = first + block.num_conv
            x, rgb = block(x, rgb, ws[:, first : end + 1], noise[first:end])
            first = end
        return rgb


@MODELS.register_module()
class StyleGANVGenerator(nn.Module):
    """StyleGAN-V generator: content ``z``, label ``c``, times ``t`` -> videos.

    Args:
        resolution (int): Width and height of a frame, a power of two from 16
            to 1024.
        z_dim (int): Width of the content noise. Defaults to 512.
        w_dim (int): Width of ``w``. Defaults to 512.
        c_dim (int): Number of classes (width of the label); 0 for an
            unconditional model. Defaults to 0.
        mapping_layers (int): Layers of the content mapping. Defaults to 2.
        channel_base (int): Feature maps at a resolution r are
            ``channel_base / r``, at most ``channel_max``. Defaults to 16384
            (32768 in the published 512 and 1024 models).
        channel_max (int): Defaults to 512.
        conv_clamp (float, optional): Largest magnitude of layer outputs.
            Defaults to 256.
        num_fp16_res (int): How many of the highest resolutions compute in
            half precision. Defaults to 0.
        half_dtype (str): 'float16' (float32 on CPUs) or 'bfloat16'.
        cond_type (str): How motion enters: 'concat_const' beside the learned
            constant, 'concat_w' or 'sum_w' at every layer's style. Defaults
            to 'concat_const'.
        motion_v_dim (int): Width of a motion code, see
            :class:`MotionEncoder`; 0 makes a generator of images: every frame
            of a clip is the same. Defaults to 512.
        motion_z_dim (int): Width of the motion noise. Defaults to 512.
        motion_z_distance (float): Frames between two noise codes. Defaults
            to 16.
        motion_type (str): 'conv' or 'lstm'. Defaults to 'conv'.
        motion_kernel_size (int): Taps of the motion convolutions. Defaults
            to 11.
        fourier (bool): Whether motion codes are time encodings. Defaults to
            True.
        time_enc_dim (int): Number of frequencies. Defaults to 256.
        min_period_len (float): Shortest period, in frames. Defaults to 16.
        max_period_len (float): Longest period, in frames. Defaults to 1024.
        coord_dim (int): Channels of a convolutional embedding of the pixel
            coordinates, behind the constant and the motion at 4x4. Summaries
            of the paper describe one; the published model has none. Defaults
            to 0, none.
        use_noise (bool): Whether noise is added to the features of each
            layer, all channels of a pixel the same, with a strength that is
            learned: StyleGAN2 has it, the released models do not. Random in
            training mode, anew for each frame; in eval mode the maps that are
            stored with the weights, the same for all frames, so that nothing
            flickers. Defaults to False.
        noise_mode (str): What ``use_noise`` adds in eval mode: 'const', the
            stored maps, or 'none'. Defaults to 'const'.

    Raises:
        InputError: A value is out of range or contradicts another.
    """

    def __init__(
        self,
        resolution: int,
        z_dim: int = 512,
        w_dim: int = 512,
        c_dim: int = 0,
        mapping_layers: int = 2,
        channel_base: int = 16384,
        channel_max: int = 512,
        conv_clamp: float | None = 256,
        num_fp16_res: int = 0,
        half_dtype: str = 'float16',
        cond_type: str = 'concat_const',
        motion_v_dim: int = 512,
        motion_z_dim: int = 512,
        motion_z_distance: float = 16,
        motion_type: str = 'conv',
        motion_kernel_size: int = 11,
        fourier: bool = True,
        time_enc_dim: int = 256,
        min_period_len: float = 16,
        max_period_len: float = 1024,
        coord_dim: int = 0,
        use_noise: bool = False,
        noise_mode: str = 'const',
    ):
        super().__init__()
        if cond_type not in ('concat_const', 'concat_w', 'sum_w'):
            raise InputError(
                f'cond_type={cond_type!r}: choose concat_const, concat_w or '
                'sum_w'
            )
        if half_dtype not in HALF_DTYPES:
            raise InputError(
                f'half_dtype={half_dtype!r}: choose float16 or bfloat16'
            )
        if noise_mode not in ('const', 'none'):
            raise InputError(
                f'noise_mode={noise_mode!r}: choose const or none'
            )
        if noise_mode == 'none' and not use_noise:
            raise InputError(
                'noise_mode=none is for a generator with use_noise=True'
            )
        check_at_least(
            0,
            'generator',
            c_dim=c_dim,
            num_fp16_res=num_fp16_res,
            motion_v_dim=motion_v_dim,
            coord_dim=coord_dim,
        )
        check_at_least(
            1,
            'generator',
            z_dim=z_dim,
            w_dim=w_dim,
            mapping_layers=mapping_layers,
            motion_z_dim=motion_z_dim,
            time_enc_dim=time_enc_dim,
        )
        if conv_clamp is not None and conv_clamp <= 0:
            raise InputError(
                f'generator.conv_clamp={conv_clamp} must be positive, or None'
            )
        self.resolution = resolution
        self.z_dim = z_dim
        self.w_dim = w_dim
        self.c_dim = c_dim
        motion_encoder = None
        if motion_v_dim > 0:
            motion_encoder = MotionEncoder(
                c_dim,
                motion_z_dim,
                motion_v_dim,
                motion_z_distance,
                motion_type,
                motion_kernel_size,
                fourier,
                time_enc_dim,
                min_period_len,
                max_period_len,
            )
            motion_dim = motion_encoder.out_dim
            if cond_type == 'sum_w' and motion_dim != w_dim:
                name = '2 * time_enc_dim' if fourier else 'motion_v_dim'
                raise InputError(
                    f'cond_type=sum_w adds motion to w: {name}={motion_dim} '
                    f'must equal w_dim={w_dim}'
                )
        self.synthesis = SynthesisNetwork(
            resolution,
            w_dim,
            channel_base,
            channel_max,
            motion_encoder,
            cond_type,
            conv_clamp,
            num_fp16_res,
            half_dtype,
            coord_dim,
            use_noise,
            noise_mode,
        )
        self.mapping = MappingNetwork(
            z_dim, c_dim, w_dim, mapping_layers, w_avg_beta=0.995
        )

    @property
    def num_ws(self) -> int:
        """How many style vectors the synthesis takes."""
        return self.synthesis.num_ws

    def frames_at_once(self, times_memory: int = 1) -> int:
        """Count the frames that may be rendered in one pass.

        They need less than 4 GiB, whatever the resolution, unless a single
        one needs more.

        Args:
            times_memory (int): How many times as much a pass takes as one
                that only renders. Defaults to 1.

        Returns:
            int: At least 1.
        """
        largest = max(
            # An upsampling convolution gives a row and a column more.
            getattr(self.synthesis, name).conv1.weight.shape[0]
            * (int(name.removeprefix('b')) + 1) ** 2
            for name in self.synthesis.block_names
        )
        return max(1, _MOST_ELEMENTS // times_memory // largest)

    @property
    def motion_encoder(self) -> MotionEncoder | None:
        """The motion network, None for a generator of images."""
        return getattr(self.synthesis, 'motion_encoder', None)

    def map(
        self,
        z: Tensor,
        c: Tensor | None = None,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        center: Tensor | None = None,
    ) -> Tensor:
        """Compute style vectors from content noise.

        Args:
            z (Tensor): [N, z_dim], normal.
            c (Tensor, optional): [N, c_dim], one-hot labels.
            truncation_psi (float): 1 for none, below 1 for less variety and
                better looks. Defaults to 1.
            truncation_cutoff (int, optional): Number of truncated layers.
            center (Tensor, optional): Where truncation pulls to [N, w_dim];
                the running mean ``w_avg`` if None. See :meth:`class_center`.

        Returns:
            Tensor: ``ws`` [N, num_ws, w_dim].

        Raises:
            InputError: There are fewer layers than ``truncation_cutoff``.
        """
        if not 0 <= (truncation_cutoff or 0) <= self.num_ws:
            raise InputError(
                f'truncation_cutoff={truncation_cutoff} must be from 0 to '
                f'{self.num_ws}, the number of layers'
            )
        w = self.mapping(z, c)
        ws = w[:, None].expand(-1, self.num_ws, -1)
        return self.mapping.truncate(
            ws, truncation_psi, truncation_cutoff, center
        )

    @torch.no_grad()
    def class_center(self, c: Tensor, num_samples: int = 1000) -> Tensor:
        """Average ``w`` over random contents of each row's own class.

        Args:
            c (Tensor): [N, c_dim].
            num_samples (int): Contents to average over; the same ones for
                all rows, from a fixed seed. Defaults to 1000.

        Returns:
            Tensor: [N, w_dim].
        """
        generator = torch.Generator().manual_seed(0)
        z = torch.randn(num_samples, self.z_dim, generator=generator).to(c)
        classes, row = c.unique(dim=0, return_inverse=True)
        centers = [
            self.mapping(z, label.expand(num_samples, -1)).mean(0)
            for label in classes
        ]
        return torch.stack(centers)[row]

    def render(
        self,
        ws: Tensor,
        motion_v: Tensor | None,
        num_frames: int,
        noise_seeds: Tensor | None = None,
    ) -> Tensor:
        """Make videos from style vectors and motion codes.

        Args:
            ws (Tensor): [N, num_ws, w_dim].
            motion_v (Tensor, optional): See :class:`MotionEncoder`
                [N * num_frames, out_dim].
            num_frames (int): Frames a clip, T.
            noise_seeds (Tensor, optional): Of the random noise of the clips,
                int64 [N], see :meth:`SynthesisNetwork.noise`.

        Returns:
            Tensor: Videos [N, T, 3, H, W], float32, about [-1, 1].
        """
        frames = self.synthesis(ws, motion_v, num_frames, noise_seeds)
        return frames.unflatten(0, (len(ws), num_frames))

    def forward(
        self,
        z: Tensor,
        c: Tensor | None,
        t: Tensor,
        motion_z: Tensor | None = None,
        first_code: Tensor | int = 0,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """Make videos from noise.

        Args:
            z (Tensor): Content noise [N, z_dim], normal.
            c (Tensor, optional): One-hot labels [N, c_dim].
            t (Tensor): Times [N, T], in frames, at least 0, fractional or
                not.
            motion_z (Tensor, optional): Motion noise [N, L, motion_z_dim];
                drawn if None.
            first_code (Tensor | int): See :meth:`MotionEncoder.forward`.
            truncation_psi (float): See :meth:`map`.
            truncation_cutoff (int, optional): See :meth:`map`.

        Returns:
            Tensor: Videos [N, T, 3, H, W], float32, about [-1, 1].
        """
        ws = self.map(z, c, truncation_psi, truncation_cutoff)
        motion_v = None
        if self.motion_encoder is not None:
            motion_v = self.motion_encoder(c, t, motion_z, first_code)
        return self.render(ws, motion_v, t.shape[1])
