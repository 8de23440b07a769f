"""Layers that the generator and the discriminator share.

All of them use the equalised learning rate (Karras et al. 2018, section 4.1):
weights are stored with standard deviation ``1 / lr_multiplier`` and scaled at
run time.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from .convolution import conv2d
from .ops import bias_act, fir_filter, is_exporting, upfirdn2d

HALF_DTYPES = {'float16': torch.float16, 'bfloat16': torch.bfloat16}
#: What networks take as ``half_dtype``.
HALF_CHOICES = ('auto', *HALF_DTYPES)


def block_resolutions(resolution: int) -> list[int]:
    """List the resolutions 4, 8, ..., ``resolution`` of the blocks.

    Raises:
        InputError: ``resolution`` is not a power of two from 16 to 1024.
    """
    if resolution not in [2**i for i in range(4, 11)]:
        raise InputError(
            f'resolution={resolution} is not a power of two from 16 to 1024: '
            'choose 16, 32, 64, 128, 256, 512 or 1024'
        )
    return [2**i for i in range(2, int(math.log2(resolution)) + 1)]


def published_channel_base(resolution: int) -> int:
    """Return the published ``channel_base``, twice as much from 512 px on."""
    return 16384 if resolution < 512 else 32768


def num_channels(resolution: int, channel_base: int, channel_max: int) -> int:
    """Compute the number of feature maps at a resolution.

    It is ``channel_base // resolution``, at most ``channel_max``.

    Raises:
        InputError: The number is 0.
    """
    channels = min(channel_base // resolution, channel_max)
    if channels < 1:
        raise InputError(
            f'channel_base={channel_base} and channel_max={channel_max} leave '
            f'no feature map at {resolution}x{resolution}: raise them'
        )
    return channels


def half_resolution(resolution: int, num_fp16_res: int) -> int:
    """Find the lowest resolution whose block runs in half precision.

    The ``num_fp16_res`` highest resolutions do, but none below 8.
    """
    if num_fp16_res == 0:
        return 2 * resolution
    return max(2 * resolution >> num_fp16_res, 8)


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Return whether this CPU multiplies in bfloat16 (AVX512-BF16 or AMX)."""
    names = ('_is_avx512_bf16_supported', '_is_amx_tile_supported')
    return any(getattr(torch.cpu, name, bool)() for name in names)


def block_dtype(
    device: torch.device, half_dtype: str | None, wide: torch.dtype
) -> torch.dtype:
    """Choose the dtype in which a block computes on ``device``.

    CPUs compute float16 convolutions slower than float32 ones or not at all,
    so float16 blocks run in float32 on a CPU. 'auto' is float16, but bfloat16
    on CPUs that have instructions for it.
    """
    if half_dtype is None or wide == torch.float64:
        return wide
    if half_dtype == 'auto':
        on_cpu = device.type == 'cpu' and cpu_has_bfloat16()
        half_dtype = 'bfloat16' if on_cpu else 'float16'
    if device.type == 'cpu' and half_dtype == 'float16':
        return wide
    return HALF_DTYPES[half_dtype]


def normalize_2nd_moment(x: Tensor) -> Tensor:
    """Scale each row of ``x`` [N, C] to mean square 1."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class FullyConnected(nn.Module):
    """Equalised linear layer with bias and activation.

    Args:
        in_features (int): Width of the input.
        out_features (int): Width of the output.
        bias (bool): Whether a bias is added. Defaults to True.
        act (str): 'linear' or 'lrelu'. Defaults to 'linear'.
        lr_multiplier (float): Learning rate of this layer relative to the
            global one. Defaults to 1.
        bias_init (float): Initial value of the stored bias. Defaults to 0.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        act: str = 'linear',
        lr_multiplier: float = 1,
        bias_init: float = 0,
    ):
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(out_features, in_features) / lr_multiplier
        )
        self.bias = None
        if bias:
            self.bias = nn.Parameter(
                torch.full([out_features], bias_init * 1.0)
            )
        self.act = act
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_features] to [N, out_features]."""
        weight = self.weight.to(x.dtype) * self.weight_gain
        bias = self.bias
        if bias is not None:
            bias = bias.to(x.dtype) * self.bias_gain
        if self.act == 'linear':
            return F.linear(x, weight, bias)
        return bias_act(F.linear(x, weight), bias, self.act, inplace=True)


class Conv2d(nn.Module):
    """Equalised convolution, bias, activation; optionally downsampling by 2.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        kernel_size (int): 1 or 3.
        bias (bool): Whether a bias is added. Defaults to True.
        act (str): 'linear' or 'lrelu'. Defaults to 'linear'.
        down (int): 1, or 2 to filter and halve the size. Defaults to 1.
        conv_clamp (float, optional): Largest magnitude of the output.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool = True,
        act: str = 'linear',
        down: int = 1,
        conv_clamp: float | None = None,
    ):
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(out_channels, in_channels, kernel_size, kernel_size)
        )
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.act = act
        self.down = down
        self.conv_clamp = conv_clamp
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)

    def forward(self, x: Tensor, gain: float = 1) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H/down, W/down].

        Args:
            x (Tensor): Features.
            gain (float): Extra factor on the output and on its clamp.
        """
        kernel_size = self.weight.shape[-1]
        # Scaling in float32 before the cast keeps half weights exact.
        weight = (self.weight * self.weight_gain).to(x.dtype)
        pad = kernel_size // 2
        if self.down == 1:
            x = conv2d(x, weight, padding=pad)
        elif kernel_size == 1:
            x = upfirdn2d(x, fir_filter(x.device), down=2, padding=(1,) * 4)
            x = conv2d(x, weight)
        else:
            x = upfirdn2d(x, fir_filter(x.device), padding=(2,) * 4)
            x = conv2d(x, weight, stride=2)
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        gain = gain * (math.sqrt(2) if self.act == 'lrelu' else 1)
        return bias_act(
            x,
            self.bias,
            act=self.act,
            gain=gain,
            clamp=clamp,
            inplace=True,
        )


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    demodulate: bool = True,
    up: int = 1,
) -> Tensor:
    """Convolve each clip with its own modulated weight (StyleGAN2 eq. 1, 3).

    ``w'[n,o,i] = weight[o,i] * styles[n,i]``, divided by its norm over
    (i, kH, kW) if ``demodulate``. The norm needs no modulated weight:
    ``sum_i styles[n,i]^2 * sum_k weight[o,i,k]^2``. With one row of styles,
    the modulated weight is computed and used in a plain convolution. With
    several, the equivalent scaling of input and output channels is cheaper
    than a grouped convolution.

    Args:
        x (Tensor): Frames [S * F, I, H, W], clip-major.
        weight (Tensor): [O, I, k, k], k odd.
        styles (Tensor): [S, I], shared by the F frames of a clip.
        demodulate (bool): Whether output maps are scaled to unit variance.
        up (int): 1, or 2 to double the size and filter.

    Returns:
        Tensor: [S * F, O, H * up, W * up] in ``x``'s dtype.
    """
    if x.dtype == torch.float16 and demodulate:
        # Demodulation cancels these factors; without them, float16 overflows.
        norm = weight.abs().amax([1, 2, 3], keepdim=True)
        weight = weight / norm / math.sqrt(weight[0].numel())
        styles = styles / styles.abs().amax(1, keepdim=True)

    demod = None
    if demodulate:
        energy = weight.square().sum([2, 3])  # O, I
        demod = (styles.square() @ energy.T + 1e-8).rsqrt()  # S, O

    # An exported graph has to serve any number of styles.
    if not is_exporting() and len(styles) == 1:
        weight = weight * styles.reshape(1, -1, 1, 1)
        if demod is not None:
            weight = weight * demod.reshape(-1, 1, 1, 1)
        return _conv(x, weight.to(x.dtype), up)

    x = _scale_channels(x, styles)
    x = _conv(x, weight.to(x.dtype), up)
    if demod is not None:
        x = _scale_channels(x, demod)
    return x


def _scale_channels(x: Tensor, scales: Tensor) -> Tensor:
    """Multiply frames [S * F, C, H, W] by [S, C], one row for F frames."""
    scales = scales.to(x.dtype).repeat_interleave(len(x) // len(scales), 0)
    return x * scales[:, :, None, None]


def _conv(x: Tensor, weight: Tensor, up: int) -> Tensor:
    if up == 1:
        return conv2d(x, weight, padding=weight.shape[-1] // 2)
    # oneDNN takes half as long again for a weight of other strides.
    weight = weight.transpose(0, 1).contiguous()
    x = conv2d(x, weight, stride=2, transposed=True)
    return upfirdn2d(x, fir_filter(x.device), padding=(1,) * 4, gain=4)


def minibatch_stddev(
    x: Tensor, group_size: int | None, num_channels: int = 1
) -> Tensor:
    """Append the standard deviation over groups of clips as channels.

    Karras et al. 2018, section 3. The members of a group are strided over the
    batch: group g holds rows g, g + N/G, g + 2N/G, ...

    Args:
        x (Tensor): [N, C, H, W].
        group_size (int, optional): G, at most N; the whole batch if None.
        num_channels (int): Number of appended channels, each the mean over
            C / num_channels feature maps. Defaults to 1.

    Returns:
        Tensor: [N, C + num_channels, H, W].

    Raises:
        InputError: N is not a multiple of the group size.
    """
    n, c, h, w = x.shape
    group = n if group_size is None else min(group_size, n)
    if n % group:
        raise InputError(
            f'a batch of {n} clips cannot be split into groups of '
            f'mbstd_group_size={group}: choose a divisor of the batch size '
            'on each process'
        )
    y = x.reshape(group, n // group, num_channels, c // num_channels, h, w)
    std = (y.var(0, unbiased=False) + 1e-8).sqrt()  # N/G, S, C/S, H, W
    std = std.mean([2, 3, 4])  # N/G, S
    std = std.reshape(-1, num_channels, 1, 1).repeat(group, 1, h, w)
    return torch.cat([x, std], 1)


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


class MappingNetwork(nn.Module):
    """Map noise and condition to the intermediate latent ``w``.

    Args:
        z_dim (int): Width of the noise; 0 for none.
        c_dim (int): Width of the condition; 0 for none.
        w_dim (int): Width of ``w`` and of the hidden layers.
        num_layers (int): Number of layers after the normalisation.
        lr_multiplier (float): Learning rate of these layers relative to the
            global one. Defaults to 0.01.
        w_avg_beta (float, optional): Decay of the running mean ``w_avg``;
            None for no running mean. Defaults to None.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_layers: int,
        lr_multiplier: float = 0.01,
        w_avg_beta: float | None = None,
    ):
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.num_layers = num_layers
        self.w_avg_beta = w_avg_beta
        if c_dim > 0:
            self.embed = FullyConnected(c_dim, w_dim)
        in_features = z_dim + (w_dim if c_dim > 0 else 0)
        for i in range(num_layers):
            layer = FullyConnected(
                in_features, w_dim, act='lrelu', lr_multiplier=lr_multiplier
            )
            self.add_module(f'fc{i}', layer)
            in_features = w_dim
        if w_avg_beta is not None:
            self.register_buffer('w_avg', torch.zeros(w_dim))

    def forward(
        self,
        z: Tensor | None,
        c: Tensor | None,
        update_w_avg: bool = True,
    ) -> Tensor:
        """Compute ``w``; in training mode, move ``w_avg`` towards its mean.

        Args:
            z (Tensor, optional): [N, z_dim].
            c (Tensor, optional): [N, c_dim].
            update_w_avg (bool): Whether ``w_avg`` moves in training mode.
                Defaults to True.

        Returns:
            Tensor: ``w`` [N, w_dim].
        """
        parts = []
        if self.z_dim > 0:
            assert z is not None
            parts.append(normalize_2nd_moment(z))
        if self.c_dim > 0:
            parts.append(normalize_2nd_moment(self.embed(c)))
        w = torch.cat(parts, 1)
        for i in range(self.num_layers):
            w = getattr(self, f'fc{i}')(w)
        if self.training and update_w_avg and self.w_avg_beta is not None:
            self.w_avg.lerp_(w.detach().mean(0), 1 - self.w_avg_beta)
        return w

    def truncate(
        self,
        ws: Tensor,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        center: Tensor | None = None,
    ) -> Tensor:
        """Pull ``ws`` towards their mean (Karras et al. 2019, appendix B).

        Args:
            ws (Tensor): [N, num_ws, w_dim].
            truncation_psi (float): 1 keeps ``ws``, 0 gives the mean.
            truncation_cutoff (int, optional): Number of leading layers that
                are truncated; all if None.
            center (Tensor, optional): [N, w_dim]; ``w_avg`` if None.

        Returns:
            Tensor: [N, num_ws, w_dim].
        """
        if truncation_psi == 1:
            return ws
        center = self.w_avg[None] if center is None else center
        center = center[:, None]
        head = center.lerp(ws[:, :truncation_cutoff], truncation_psi)
        if truncation_cutoff is None:
            return head
        return torch.cat([head, ws[:, truncation_cutoff:]], 1)
