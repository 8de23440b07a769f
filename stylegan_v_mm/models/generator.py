"""The generator: from content latent and motion codes to frames.

Skorokhodov et al., "StyleGAN-V" (CVPR 2022), section 3.1, on top of the skip
architecture of StyleGAN2 (Karras et al. 2020). Parameter names are those of
the published model.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, check_at_least, check_choice
from ..registry import MODELS
from .layers import (
    HALF_CHOICES,
    CoordinateEmbedding,
    FullyConnected,
    MappingNetwork,
    block_dtype,
    block_resolutions,
    half_resolution,
    modulated_conv2d,
    num_channels,
    published_channel_base,
)
from .motion import MotionEncoder
from .noise import layer_noise
from .ops import bias_act, fir_filter, upfirdn2d


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
            noise = torch.randn(noise_res, noise_res)
            self.register_buffer('noise_const', noise)
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
        """Map codes [M, out_dim] to [M, channels + out_dim, 4, 4]."""
        const = self.const.expand(len(motion_v), -1, -1, -1)
        motion = motion_v[:, :, None, None].expand(-1, -1, 4, 4)
        return torch.cat([const, motion.to(const.dtype)], 1)


class SynthesisInput(nn.Module):
    """The constant, under its published name, and what lies beside it."""

    def __init__(self, channels: int, temporal: bool, coord_dim: int):
        super().__init__()
        if temporal:
            self.input: nn.Module | Tensor = ConstantInput(channels)
        else:
            self.input = nn.Parameter(torch.randn(channels, 4, 4))
        if coord_dim > 0:
            self.coords = CoordinateEmbedding(coord_dim)

    def forward(self, num_frames: int, motion_v: Tensor | None) -> Tensor:
        """Return features [num_frames, C, 4, 4]."""
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
        layer = partial(
            SynthesisLayer,
            out_channels=out_channels,
            w_dim=w_dim,
            conv_clamp=conv_clamp,
            noise_res=noise_res,
        )
        if input is not None:
            self.input = input
        else:
            self.conv0 = layer(in_channels, up=2)
            in_channels = out_channels
        self.conv1 = layer(in_channels)
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

    Its arguments are those of :class:`StyleGANVGenerator`, but for
    ``motion_encoder``, which is None for a generator of images.
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
                w_dim=style_dim,
                conv_clamp=conv_clamp,
                half_dtype=half_dtype if use_half else None,
                noise_res=res if use_noise else 0,
                input=source,
            )
            self.add_module(f'b{res}', block)
            self.block_names.append(f'b{res}')
            self.num_ws += block.num_conv
            in_channels = out_channels

    def noise(
        self, num_clips: int, num_frames: int, seeds: Tensor | None
    ) -> Sequence[Tensor | None]:
        """Choose the noise of each of the ``num_ws - 1`` layers.

        Random noise [N * T, 1, H, W] in training mode and for seeds; else the
        stored maps [H, W], or none.
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
        return layer_noise(seeds, num_frames, maps)

    def forward(
        self,
        ws: Tensor,
        motion_v: Tensor | None,
        num_frames: int,
        noise_seeds: Tensor | None = None,
    ) -> Tensor:
        """Render frames [N * num_frames, 3, H, W], about [-1, 1].

        The arguments are those of :meth:`StyleGANVGenerator.render`.
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
        cond_type (str): Where motion codes enter: beside the learned constant
            ('concat_const'), or at every layer's style, beside it
            ('concat_w') or added to it ('sum_w'). Defaults to 'concat_const'.
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
        coord_dim (int): Channels of an embedding of the pixel coordinates,
            beside the constant and the motion at 4x4; an ablation, which the
            published model does not have. Defaults to 0, none.
        use_noise (bool): Whether each layer adds noise, the same to all
            channels of a pixel, with a learned strength, as StyleGAN2 does
            and the released models do not. In training mode it is drawn for
            each frame; in eval mode it is stored with the weights, the same
            for all frames, so that nothing flickers. Defaults to False.
        noise_mode (str): What ``use_noise`` adds in eval mode: 'const', the
            stored noise, or 'none'. Defaults to 'const'.

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
        channel_base: int | None = None,
        channel_max: int = 512,
        conv_clamp: float | None = 256,
        num_fp16_res: int = 0,
        half_dtype: str = 'auto',
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
        ways = ['concat_const', 'concat_w', 'sum_w']
        check_choice('generator', ways, cond_type=cond_type)
        check_choice('generator', HALF_CHOICES, half_dtype=half_dtype)
        check_choice('generator', ['const', 'none'], noise_mode=noise_mode)
        if noise_mode == 'none' and not use_noise:
            raise InputError("noise_mode='none' needs use_noise=True")
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
                c_dim=c_dim,
                motion_z_dim=motion_z_dim,
                motion_v_dim=motion_v_dim,
                motion_z_distance=motion_z_distance,
                motion_type=motion_type,
                motion_kernel_size=motion_kernel_size,
                fourier=fourier,
                time_enc_dim=time_enc_dim,
                min_period_len=min_period_len,
                max_period_len=max_period_len,
            )
            motion_dim = motion_encoder.out_dim
            if cond_type == 'sum_w' and motion_dim != w_dim:
                name = '2 * time_enc_dim' if fourier else 'motion_v_dim'
                raise InputError(
                    f'cond_type=sum_w adds motion to w: {name}={motion_dim} '
                    f'must equal w_dim={w_dim}'
                )
        self.synthesis = SynthesisNetwork(
            resolution=resolution,
            w_dim=w_dim,
            channel_base=channel_base or published_channel_base(resolution),
            channel_max=channel_max,
            motion_encoder=motion_encoder,
            cond_type=cond_type,
            conv_clamp=conv_clamp,
            num_fp16_res=num_fp16_res,
            half_dtype=half_dtype,
            coord_dim=coord_dim,
            use_noise=use_noise,
            noise_mode=noise_mode,
        )
        self.mapping = MappingNetwork(
            z_dim, c_dim, w_dim, mapping_layers, w_avg_beta=0.995
        )

    @property
    def num_ws(self) -> int:
        """Number of style vectors that the synthesis takes."""
        return self.synthesis.num_ws

    @property
    def motion_encoder(self) -> MotionEncoder | None:
        """The motion encoder; None for a generator of images."""
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
            center (Tensor, optional): What truncation pulls to, [N, w_dim].
                Defaults to None, the running mean ``w_avg``.

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

    def render(
        self,
        ws: Tensor,
        motion_v: Tensor | None,
        num_frames: int,
        noise_seeds: Tensor | None = None,
    ) -> Tensor:
        """Render videos from style vectors and motion codes.

        Args:
            ws (Tensor): [N, num_ws, w_dim].
            motion_v (Tensor, optional): Motion codes [N * num_frames, out_dim
                of the motion encoder]; None without one.
            num_frames (int): Frames of a clip, T.
            noise_seeds (Tensor, optional): Seeds of the clips' random noise,
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
        """Generate videos from noise.

        Args:
            z (Tensor): Content noise [N, z_dim], normal.
            c (Tensor, optional): One-hot labels [N, c_dim].
            t (Tensor): Times [N, T], in frames, at least 0.
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
