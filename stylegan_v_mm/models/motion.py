"""Motion codes: continuous in time, endless, independent of the content.

Skorokhodov et al., "StyleGAN-V" (CVPR 2022), section 3.1: noise codes at
equidistant times, padding-less convolutions over them, and a time encoding
with predicted periods and phases that is aligned at the codes.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError, check_choice
from .layers import FullyConnected, MappingNetwork
from .ops import is_exporting


class EqualizedConv1d(nn.Module):
    """Equalised 1-D convolution without padding, then a leaky ReLU.

    The activation has gain 1, unlike those of all other layers.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        kernel_size (int): Taps over the code axis.
        lr_multiplier (float): Defaults to 0.01.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        lr_multiplier: float = 0.01,
    ):
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(out_channels, in_channels, kernel_size) / lr_multiplier
        )
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.weight_gain = lr_multiplier / math.sqrt(in_channels * kernel_size)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in, L] to [N, out, L - kernel_size + 1]."""
        weight = self.weight * self.weight_gain
        return F.leaky_relu(
            F.conv1d(x, weight, self.bias * self.bias_gain), 0.2
        )


class AlignedTimeEncoder(nn.Module):
    """Encode times as waves that the motion codes determine (eq. 3 to 6).

    Args:
        u_dim (int): Width of a motion code ``u``.
        dim (int): Number of frequencies; the encoding is twice as wide.
        min_period_len (float): Shortest period, in frames.
        max_period_len (float): Longest period, in frames. The periods are
            spaced evenly in their logarithm.
    """

    def __init__(
        self,
        u_dim: int,
        dim: int,
        min_period_len: float,
        max_period_len: float,
    ):
        super().__init__()
        periods = 2 ** torch.linspace(
            math.log2(min_period_len),
            math.log2(max_period_len),
            dim,
            dtype=torch.float64,
        ).flip(0)
        freqs = (2 * math.pi / periods).float()[None]
        # From 1 for the longest period to max/min for the shortest.
        phase_scales = max_period_len / (2 * math.pi / freqs)
        self.register_buffer('freqs', freqs)
        self.register_buffer('phase_scales', phase_scales)
        self.periods_predictor = FullyConnected(u_dim, dim, bias=False)
        self.phase_predictor = FullyConnected(u_dim, dim, bias=False)
        self.aligners_predictor = FullyConnected(u_dim, dim * 2, bias=False)

    def forward(
        self,
        t: Tensor,
        t_left: Tensor,
        distance: float,
        left: Tensor,
        right: Tensor,
    ) -> Tensor:
        """Encode times that lie between two codes.

        At the time of a code, the encoding is the aligner of that code. In
        between, it is the waves of the left code plus a linear function of
        time with which the encoding meets both aligners.

        Args:
            t (Tensor): Times [M], in frames.
            t_left (Tensor): Time of the code before each time [M], in frames.
            distance (float): Frames from one code to the next.
            left (Tensor): Code before each time [M, u_dim].
            right (Tensor): Code after each time [M, u_dim].

        Returns:
            Tensor: Encodings [M, 2 * dim].
        """
        alpha = ((t - t_left) / distance).to(left.dtype)[:, None]
        period = self.periods_predictor(left).tanh() + 1  # factor in (0, 2)
        omega = self.freqs * period
        phase = self.phase_predictor(left) * self.phase_scales

        def waves(time: Tensor) -> Tensor:
            angle = omega * time.to(left.dtype)[:, None] + phase
            return torch.cat([angle.sin(), angle.cos()], 1)

        # One lerp subtracts the waves' chord and adds that of the aligners.
        at_left = self.aligners_predictor(left) - waves(t_left)
        at_right = self.aligners_predictor(right) - waves(t_left + distance)
        return waves(t) + at_left.lerp(at_right, alpha)


def _check_times(t: Tensor) -> None:
    """Check times, in frames, where reading them is no wait for a GPU.

    Raises:
        InputError: One is negative.
    """
    if t.min() < 0:
        raise InputError(f'times must be at least 0, got {t.min():g}')


class MotionEncoder(nn.Module):
    """Map times to motion codes ``motion_v``.

    Noise ``motion_z`` -> codes ``motion_u`` every ``motion_z_distance``
    frames -> ``motion_v`` at any time. Noise code i belongs to time
    ``i * motion_z_distance``; with convolutions, code ``u_i`` sees the noise
    codes i to i + 2 * (kernel - 1).

    The dtype follows the parameters: ``.double()`` keeps phases accurate at
    times of millions of frames.

    Args:
        c_dim (int): Width of the class label; 0 for none.
        motion_z_dim (int): Width of a noise code.
        motion_v_dim (int): Width of the codes that the convolutions compute
            (those of an LSTM are as wide as its noise). Without Fourier
            features, also the width of ``motion_v``.
        motion_z_distance (float): Frames between two noise codes.
        motion_type (str): 'conv', or 'lstm' as in MoCoGAN.
        motion_kernel_size (int): Taps of each of the two convolutions.
        fourier (bool): Whether ``motion_v`` is the aligned time encoding.
            Otherwise, a mapping network computes it from the interpolated
            codes.
        time_enc_dim (int): Number of frequencies.
        min_period_len (float): Shortest period, in frames.
        max_period_len (float): Longest period, in frames.

    Attributes:
        out_dim (int): Width of ``motion_v``: ``2 * time_enc_dim`` with
            Fourier features, else ``motion_v_dim``.

    Raises:
        InputError: A value is out of range or contradicts another.
    """

    NUM_CONVS = 2

    def __init__(
        self,
        c_dim: int,
        motion_z_dim: int,
        motion_v_dim: int,
        motion_z_distance: float,
        motion_type: str,
        motion_kernel_size: int,
        fourier: bool,
        time_enc_dim: int,
        min_period_len: float,
        max_period_len: float,
    ):
        super().__init__()
        check_choice('generator', ['conv', 'lstm'], motion_type=motion_type)
        if not motion_z_distance > 0:
            raise InputError(
                f'motion_z_distance={motion_z_distance} must be positive: it '
                'is the number of frames from one motion code to the next'
            )
        if motion_kernel_size < 1:
            raise InputError(
                f'motion_kernel_size={motion_kernel_size} must be at least 1'
            )
        if fourier and not 0 < min_period_len <= max_period_len:
            raise InputError(
                f'min_period_len={min_period_len} must be positive and at '
                f'most max_period_len={max_period_len}'
            )
        self.c_dim = c_dim
        self.motion_z_dim = motion_z_dim
        self.out_dim = 2 * time_enc_dim if fourier else motion_v_dim
        self.motion_z_distance = motion_z_distance
        self.extra_codes = 0
        if motion_type == 'conv':
            self.extra_codes = self.NUM_CONVS * (motion_kernel_size - 1)
            self.conv = nn.Sequential(
                EqualizedConv1d(
                    motion_z_dim + c_dim, motion_z_dim, motion_kernel_size
                ),
                EqualizedConv1d(
                    motion_z_dim, motion_v_dim, motion_kernel_size
                ),
            )
            u_dim = motion_v_dim
        else:
            self.rnn = nn.LSTM(
                motion_z_dim + c_dim, motion_z_dim, batch_first=True
            )
            u_dim = motion_z_dim
        if fourier:
            self.time_encoder = AlignedTimeEncoder(
                u_dim, time_enc_dim, min_period_len, max_period_len
            )
        else:
            self.mapping = MappingNetwork(u_dim, c_dim, motion_v_dim, 2)

    @property
    def recurrent(self) -> bool:
        """Whether code i depends on all codes before it (LSTM)."""
        return hasattr(self, 'rnn')

    def first_codes(self, t: Tensor) -> Tensor:
        """Find the first noise code that each row of times needs.

        Args:
            t (Tensor): Times [..., T], in frames, at least 0.

        Returns:
            Tensor: Indices, int64 [...].
        """
        first = (t.amin(-1) / self.motion_z_distance).floor().long()
        return torch.zeros_like(first) if self.recurrent else first

    def code_range(self, t: Tensor) -> tuple[Tensor, int]:
        """Find the range of noise codes that the times need.

        Args:
            t (Tensor): Times [N, T], in frames, at least 0.

        Returns:
            tuple: Index of the first code of each row, int64 [N], and the
            number of codes from there on that is enough for every row.

        Raises:
            InputError: A time is negative.
        """
        _check_times(t)
        first = self.first_codes(t)
        last = (t.amax(1) / self.motion_z_distance).floor().long()
        count = int((last - first).max()) + 2 + self.extra_codes
        return first, count

    def most_codes(self, video_len: int) -> int:
        """Return how many codes a clip of a video can need.

        Args:
            video_len (int): Frames of the video: times are less than this.
        """
        return math.floor(video_len / self.motion_z_distance) + (
            3 + self.extra_codes
        )

    def wrap(self, t: Tensor, periods: Sequence[int | None]) -> Tensor:
        """Wrap the times of loops into their first period.

        At the time of a code, ``motion_v`` is the aligner of that code. If
        the noise is periodic, the end of each period therefore meets the start
        of the next one, although the waves in between are not periodic.

        Args:
            t (Tensor): Times [N, T], in frames, at least 0.
            periods (sequence): Period of each of the N videos, in codes; None
                for a video that is no loop.

        Returns:
            Tensor: Times [N, T].

        Raises:
            InputError: A video is a loop, but the motion codes are those of
                an LSTM, which never repeat.
        """
        codes = [math.inf if period is None else period for period in periods]
        if self.recurrent and min(codes) < math.inf:
            raise InputError('LSTM motion codes cannot loop')
        frames = t.new_tensor(codes) * self.motion_z_distance
        # With an infinite divisor, fmod leaves times as they are.
        return t.fmod(frames[:, None])

    def motion_u(self, motion_z: Tensor, c: Tensor | None) -> Tensor:
        """Compute the codes ``motion_u`` from noise.

        Args:
            motion_z (Tensor): [N, L, motion_z_dim].
            c (Tensor, optional): [N, c_dim].

        Returns:
            Tensor: [N, L - extra_codes, u_dim].
        """
        if self.c_dim > 0:
            assert c is not None
            label = c[:, None].expand(-1, motion_z.shape[1], -1)
            motion_z = torch.cat([motion_z, label], 2)
        if self.recurrent:
            return self.rnn(motion_z)[0]
        return self.conv(motion_z.transpose(1, 2)).transpose(1, 2)

    def forward(
        self,
        c: Tensor | None,
        t: Tensor,
        motion_z: Tensor | None = None,
        first_code: Tensor | int = 0,
    ) -> Tensor:
        """Compute the motion codes at times ``t``.

        Args:
            c (Tensor, optional): Labels [N, c_dim].
            t (Tensor): Times [N, T], in frames, at least 0, fractional or
                not, float64 for accurate positions.
            motion_z (Tensor, optional): Noise [N, L, motion_z_dim], normal.
                If None, the codes that ``t`` needs are drawn.
            first_code (Tensor | int): Index of the code ``motion_z[:, 0]``,
                one for all rows or int64 [N]. Defaults to 0.

        Returns:
            Tensor: ``motion_v`` [N * T, out_dim], clip-major.

        Raises:
            InputError: A time on the CPU is negative, or ``motion_z`` has
                too few codes for it.
        """
        # An exported graph cannot branch on values, and values on a GPU
        # would have to be waited for.
        checked = t.device.type == 'cpu' and not is_exporting()
        if checked:
            _check_times(t)
        n, num_frames = t.shape
        dtype = next(self.parameters()).dtype
        if motion_z is None:
            first_code, count = self.code_range(t)
            motion_z = torch.randn(
                n, count, self.motion_z_dim, device=t.device, dtype=dtype
            )
        first_code = torch.as_tensor(first_code, device=t.device)
        u = self.motion_u(motion_z.to(dtype), c if c is None else c.to(dtype))

        code = (t / self.motion_z_distance).floor()
        t_left = code * self.motion_z_distance
        index = code.long() - first_code.reshape(-1, 1)  # N, T
        if checked and (index.min() < 0 or index.max() + 1 >= u.shape[1]):
            raise InputError(
                f'motion_z holds {motion_z.shape[1]} codes, which are too few '
                f'for times up to {t.max():g} frames, or first_code is wrong'
            )
        row = torch.arange(n, device=t.device)[:, None]
        left = u[row, index].flatten(0, 1)  # N * T, u_dim
        right = u[row, index + 1].flatten(0, 1)
        t, t_left = t.flatten(), t_left.flatten()
        if hasattr(self, 'time_encoder'):
            return self.time_encoder(
                t=t,
                t_left=t_left,
                distance=self.motion_z_distance,
                left=left,
                right=right,
            )
        alpha = ((t - t_left) / self.motion_z_distance).to(dtype)[:, None]
        if self.c_dim > 0:
            assert c is not None
            c = c.to(dtype)[:, None].expand(-1, num_frames, -1).flatten(0, 1)
        return self.mapping(left.lerp(right, alpha), c)
