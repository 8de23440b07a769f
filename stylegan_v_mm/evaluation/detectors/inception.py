"""Inception-v3 of TensorFlow's 2015 model, the network of FID.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision"
(CVPR 2016), figures 5, 6, 7 and 10. Besides its weights, it differs from
torchvision's Inception-v3 in its 1008 outputs, in average pooling that
excludes the padding, and in max pooling in the last module. The parameters
have torchvision's names, so that the file of the PyTorch ports loads.
"""

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Unit(nn.Module):
    """Convolution without bias, batch normalisation, ReLU.

    Args:
        cin (int): Input channels.
        cout (int): Output channels.
        kernel (int or tuple): Size in height and width.
        stride (int): Stride in both. Defaults to 1.
        padding (int or str): Padding in both. Defaults to 0.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: Any,
        stride: int = 1,
        padding: Any = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(cout, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """[N, cin, H, W] -> [N, cout, H', W']."""
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Units and a pooling of 3 x 3, side by side.

    Args:
        cin (int): Channels of the input, ``x``.
        rows (list): Name, source, output channels and kernel size of each
            unit. A source is ``x``, ``pooled`` or a unit above. Units that are
            not a source, and ``pooled`` likewise, form the output in this
            order.
        max_pool (bool): Whether to pool by the maximum instead of the mean.
            Defaults to False.
        stride (int): Stride of the pooling and of the units in the output;
            with 2 they have no padding. Defaults to 1.
    """

    def __init__(
        self,
        cin: int,
        rows: list[tuple[str, str, int, Any]],
        max_pool: bool = False,
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.max_pool = max_pool
        self.stride = stride
        self.sources = {name: source for name, source, _, _ in rows}
        widths = {'x': cin, 'pooled': cin}
        for name, source, cout, kernel in rows:
            halves = stride == 2 and name not in self.sources.values()
            size = dict(stride=2) if halves else dict(padding='same')
            self.add_module(name, Unit(widths[source], cout, kernel, **size))
            widths[name] = cout
        self.outputs = [
            name
            for name in (*self.sources, 'pooled')
            if name not in self.sources.values()
        ]
        self.cout = sum(widths[name] for name in self.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[N, cin, H, W] -> [N, cout, H', W']."""
        padding = 1 if self.stride == 1 else 0
        if self.max_pool:
            pooled = F.max_pool2d(x, 3, self.stride, padding)
        else:
            pooled = F.avg_pool2d(
                x, 3, self.stride, padding, count_include_pad=False
            )
        values = {'x': x, 'pooled': pooled}
        for name, source in self.sources.items():
            values[name] = self.get_submodule(name)(values[source])
        return torch.cat([values[name] for name in self.outputs], 1)


def _figure_5(cin: int, pool_channels: int) -> Mixed:
    return Mixed(
        cin,
        [
            ('branch1x1', 'x', 64, 1),
            ('branch5x5_1', 'x', 48, 1),
            ('branch5x5_2', 'branch5x5_1', 64, 5),
            ('branch3x3dbl_1', 'x', 64, 1),
            ('branch3x3dbl_2', 'branch3x3dbl_1', 96, 3),
            ('branch3x3dbl_3', 'branch3x3dbl_2', 96, 3),
            ('branch_pool', 'pooled', pool_channels, 1),
        ],
    )


def _figure_6(cin: int, width: int) -> Mixed:
    return Mixed(
        cin,
        [
            ('branch1x1', 'x', 192, 1),
            ('branch7x7_1', 'x', width, 1),
            ('branch7x7_2', 'branch7x7_1', width, (1, 7)),
            ('branch7x7_3', 'branch7x7_2', 192, (7, 1)),
            ('branch7x7dbl_1', 'x', width, 1),
            ('branch7x7dbl_2', 'branch7x7dbl_1', width, (7, 1)),
            ('branch7x7dbl_3', 'branch7x7dbl_2', width, (1, 7)),
            ('branch7x7dbl_4', 'branch7x7dbl_3', width, (7, 1)),
            ('branch7x7dbl_5', 'branch7x7dbl_4', 192, (1, 7)),
            ('branch_pool', 'pooled', 192, 1),
        ],
    )


def _figure_7(cin: int, max_pool: bool) -> Mixed:
    return Mixed(
        cin,
        [
            ('branch1x1', 'x', 320, 1),
            ('branch3x3_1', 'x', 384, 1),
            ('branch3x3_2a', 'branch3x3_1', 384, (1, 3)),
            ('branch3x3_2b', 'branch3x3_1', 384, (3, 1)),
            ('branch3x3dbl_1', 'x', 448, 1),
            ('branch3x3dbl_2', 'branch3x3dbl_1', 384, 3),
            ('branch3x3dbl_3a', 'branch3x3dbl_2', 384, (1, 3)),
            ('branch3x3dbl_3b', 'branch3x3dbl_2', 384, (3, 1)),
            ('branch_pool', 'pooled', 192, 1),
        ],
        max_pool,
    )


# Units of figure 10, which halve the size: 35 to 17, and 17 to 8.
_FROM_35 = [
    ('branch3x3', 'x', 384, 3),
    ('branch3x3dbl_1', 'x', 64, 1),
    ('branch3x3dbl_2', 'branch3x3dbl_1', 96, 3),
    ('branch3x3dbl_3', 'branch3x3dbl_2', 96, 3),
]
_FROM_17 = [
    ('branch3x3_1', 'x', 192, 1),
    ('branch3x3_2', 'branch3x3_1', 320, 3),
    ('branch7x7x3_1', 'x', 192, 1),
    ('branch7x7x3_2', 'branch7x7x3_1', 192, (1, 7)),
    ('branch7x7x3_3', 'branch7x7x3_2', 192, (7, 1)),
    ('branch7x7x3_4', 'branch7x7x3_3', 192, 3),
]


class FIDInceptionV3(nn.Sequential):
    """Inception-v3 of 2015, from images to 2048 features.

    The features are the mean over space of the last module. ``fc`` would
    follow, but is not applied.
    """

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                Conv2d_1a_3x3=Unit(3, 32, 3, stride=2),
                Conv2d_2a_3x3=Unit(32, 32, 3),
                Conv2d_2b_3x3=Unit(32, 64, 3, padding=1),
                maxpool1=nn.MaxPool2d(3, 2),
                Conv2d_3b_1x1=Unit(64, 80, 1),
                Conv2d_4a_3x3=Unit(80, 192, 3),
                maxpool2=nn.MaxPool2d(3, 2),
                Mixed_5b=_figure_5(192, 32),
                Mixed_5c=_figure_5(256, 64),
                Mixed_5d=_figure_5(288, 64),
                Mixed_6a=Mixed(288, _FROM_35, max_pool=True, stride=2),
                Mixed_6b=_figure_6(768, 128),
                Mixed_6c=_figure_6(768, 160),
                Mixed_6d=_figure_6(768, 160),
                Mixed_6e=_figure_6(768, 192),
                Mixed_7a=Mixed(768, _FROM_17, max_pool=True, stride=2),
                Mixed_7b=_figure_7(1280, max_pool=False),
                Mixed_7c=_figure_7(2048, max_pool=True),
                fc=nn.Linear(2048, 1008),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, 299, 299] in [-1, 1] -> [N, 2048]."""
        *stages, _ = self
        for stage in stages:
            x = stage(x)
        return x.mean((2, 3))
