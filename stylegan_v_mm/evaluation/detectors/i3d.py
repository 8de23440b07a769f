"""I3D, the network of published FVDs.

Carreira & Zisserman, "Quo Vadis, Action Recognition?" (CVPR 2017), figure 3.
The widths of the modules are from Szegedy et al. 2015, table 1. Padding,
pooling and normalisation are those of the TensorFlow model,
``i3d-kinetics-400``. The parameters have the names of the PyTorch ports, so
that their files load.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import winograd


def same_padding(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int]
) -> list[tuple[int, int]]:
    """Compute TensorFlow's ``SAME`` padding, with odd rests at the end.

    With this padding, the output has ceil(size / stride) along each axis.

    Args:
        x (Tensor): [N, C, T, H, W].
        kernel (Sequence): Kernel sizes along T, H and W.
        stride (Sequence): Strides along T, H and W.

    Returns:
        list: Zeros before and after T, H and W.
    """
    totals = [
        max((math.ceil(size / s) - 1) * s + k - size, 0)
        for size, k, s in zip(x.shape[2:], kernel, stride)
    ]
    return [(total // 2, total - total // 2) for total in totals]


class Unit(nn.Module):
    """Convolution, batch normalisation, ReLU.

    Args:
        cin (int): Input channels.
        cout (int): Output channels.
        kernel (int): Size in time, height and width.
        stride (int): Stride in all three. Defaults to 1.
        eps (float): Number added to the variance. Defaults to 1e-3.
    """

    filters: Tensor | None

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int,
        stride: int = 1,
        eps: float = 1e-3,
    ) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(cin, cout, kernel, stride, bias=False)
        self.bn: nn.Module = nn.BatchNorm3d(cout, eps=eps)
        self.register_buffer('filters', None, persistent=False)

    @torch.no_grad()
    def fold(self) -> None:
        """Fold the normalisation into the convolution, in float64."""
        conv, bn = self.conv3d, self.bn
        scale = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
        weight = conv.weight.double() * scale.view(-1, 1, 1, 1, 1)
        bias = bn.bias.double() - bn.running_mean.double() * scale
        conv.weight.copy_(weight)
        conv.bias = nn.Parameter(bias.float(), requires_grad=False)
        self.bn = nn.Identity().train(self.training)
        if conv.kernel_size[0] > 1:
            self.filters = winograd.transform_filters(weight, conv.stride[0])

    def forward(self, x: Tensor) -> Tensor:
        """[N, cin, T, H, W] -> [N, cout, T, H, W], sizes over the stride."""
        conv = self.conv3d
        padding = same_padding(x, conv.kernel_size, conv.stride)
        on_cpu = x.device.type == 'cpu' and x.dtype == torch.float32
        if on_cpu and conv.kernel_size[0] == 1:
            # torch's conv3d is slow for a single clip on a single thread.
            y = F.linear(x.movedim(1, -1), conv.weight.flatten(1), conv.bias)
            y = y.movedim(-1, 1)
        elif on_cpu and self.filters is not None and x.shape[2] > 2:
            y = winograd.conv3d(
                x,
                self.filters,
                conv.bias,
                stride=conv.stride[0],
                padding=padding,
            )
        else:
            pad: Any = [before for before, after in padding if before == after]
            if len(pad) < 3:
                # torch lists the last dimension first.
                x = F.pad(x, [n for pair in padding[::-1] for n in pair])
                pad = 0
            y = F.conv3d(x, conv.weight, conv.bias, conv.stride, pad)
        return F.relu_(self.bn(y))


class MaxPool(nn.MaxPool3d):
    """Max pooling without padding values.

    The PyTorch ports pad with zeros, which is the same for values of at least
    0.
    """

    kernel_size: Any
    stride: Any

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, T, H, W] -> the same, sizes over the stride."""
        padding = same_padding(x, self.kernel_size, self.stride)
        before = [each for each, _ in padding]
        # In ceil_mode, windows may extend beyond the end.
        return F.max_pool3d(
            x, self.kernel_size, self.stride, before, ceil_mode=True
        )


class Mixed(nn.Module):
    """Inception module: 1, 1 + 3, 1 + 3 and pooling + 1, side by side.

    Args:
        cin (int): Input channels.
        widths (tuple): Output channels of the six convolutions, in that
            order.
        eps (float): ``eps`` of each :class:`Unit`.
    """

    def __init__(self, cin: int, widths: tuple[int, ...], eps: float) -> None:
        super().__init__()
        a, b, b_out, c, c_out, d = widths
        self.b0 = Unit(cin, a, 1, eps=eps)
        self.b1a = Unit(cin, b, 1, eps=eps)
        self.b1b = Unit(b, b_out, 3, eps=eps)
        self.b2a = Unit(cin, c, 1, eps=eps)
        self.b2b = Unit(c, c_out, 3, eps=eps)
        self.b3a = MaxPool((3, 3, 3), (1, 1, 1))
        self.b3b = Unit(cin, d, 1, eps=eps)
        self.cout = a + b_out + c_out + d

    def forward(self, x: Tensor) -> Tensor:
        """[N, cin, T, H, W] -> [N, cout, T, H, W]."""
        branches = (
            self.b0(x),
            self.b1b(self.b1a(x)),
            self.b2b(self.b2a(x)),
            self.b3b(self.b3a(x)),
        )
        return torch.cat(branches, 1)


class Logits(nn.Module):
    """Average over two steps and all of space, linear, average over time.

    The paper's 7 x 7 is all of space for 224 x 224 pixels; here other
    resolutions are possible.

    Args:
        cin (int): Input channels.
        num_classes (int): Output channels.
    """

    def __init__(self, cin: int, num_classes: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(cin, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, cin, T, H, W], T at least 2 -> [N, num_classes]."""
        x = x.to(self.conv3d.weight.dtype)
        x = F.avg_pool3d(x, (2, *x.shape[3:]), stride=1)
        return self.conv3d(x).mean([2, 3, 4])


class InceptionI3D(nn.Sequential):
    """Inflated Inception-v1, from clips to 400 logits.

    Args:
        width (float): Share of the paper's channels. Defaults to 1.
        eps (float): Number that batch normalisation adds to the variance. A
            file of weights does not contain it. Defaults to 1e-3,
            TensorFlow's.
    """

    def __init__(self, width: float = 1, eps: float = 1e-3) -> None:
        def scaled(*channels: int) -> tuple[int, ...]:
            return tuple(round(width * number) for number in channels)

        c1, c2, c3 = scaled(64, 64, 192)
        stages: OrderedDict[str, Any] = OrderedDict(
            Conv3d_1a_7x7=Unit(3, c1, 7, 2, eps=eps),
            MaxPool3d_2a_3x3=MaxPool((1, 3, 3), (1, 2, 2)),
            Conv3d_2b_1x1=Unit(c1, c2, 1, eps=eps),
            Conv3d_2c_3x3=Unit(c2, c3, 3, eps=eps),
            MaxPool3d_3a_3x3=MaxPool((1, 3, 3), (1, 2, 2)),
        )
        cin = c3
        widths: Any
        for name, widths in [
            ('Mixed_3b', (64, 96, 128, 16, 32, 32)),
            ('Mixed_3c', (128, 128, 192, 32, 96, 64)),
            ('MaxPool3d_4a_3x3', 3),
            ('Mixed_4b', (192, 96, 208, 16, 48, 64)),
            ('Mixed_4c', (160, 112, 224, 24, 64, 64)),
            ('Mixed_4d', (128, 128, 256, 24, 64, 64)),
            ('Mixed_4e', (112, 144, 288, 32, 64, 64)),
            ('Mixed_4f', (256, 160, 320, 32, 128, 128)),
            ('MaxPool3d_5a_2x2', 2),
            ('Mixed_5b', (256, 160, 320, 32, 128, 128)),
            ('Mixed_5c', (384, 192, 384, 48, 128, 128)),
        ]:
            if isinstance(widths, int):
                stages[name] = MaxPool((widths,) * 3, (2, 2, 2))
            else:
                stages[name] = Mixed(cin, scaled(*widths), eps)
                cin = stages[name].cout
        super().__init__(OrderedDict(**stages, logits=Logits(cin, 400)))

    def fold(self) -> None:
        """Speed up inference with the current weights; call this once.

        It changes the names in the state dict.
        """
        for module in self.modules():
            if isinstance(module, Unit):
                module.fold()

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, T, H, W] in [-1, 1], T at least 9 -> [N, 400]."""
        if x.device.type == 'cpu':
            # This makes pooling ten times faster, and convolutions by a third.
            x = x.contiguous(memory_format=torch.channels_last_3d)
        return super().forward(x)
