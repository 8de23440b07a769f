"""LPIPS, a perceptual distance of images, and its feature maps.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual
Metric" (CVPR 2018), version 0.1. The maps come from VGG-16 and AlexNet,
trained on ImageNet, without their classifiers.
"""

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from .files import detector_file

# Each stage ends in a feature map. It has the size of the max pooling before
# it (stride 2; 0: none), and output channels, kernel size, stride and padding
# of its convolutions.
_STAGES = {
    'vgg': [
        (pool, [(channels, 3, 1, 1)] * depth)
        for pool, channels, depth in (
            *((0, 64, 2), (2, 128, 2), (2, 256, 3)),
            *((2, 512, 3), (2, 512, 3)),
        )
    ],
    'alex': [
        (0, [(64, 11, 4, 2)]),
        (3, [(192, 5, 1, 2)]),
        (3, [(384, 3, 1, 1)]),
        (0, [(256, 3, 1, 1)]),
        (0, [(256, 3, 1, 1)]),
    ],
}


class FeatureMaps(nn.Module):
    """Feature maps of VGG-16 or AlexNet, each after its ReLU.

    Args:
        network (str): 'vgg' or 'alex'.
    """

    def __init__(self, network: str) -> None:
        super().__init__()
        self.stages = _STAGES[network]
        self.convs = nn.ModuleList()
        channels = 3
        for _, convs in self.stages:
            for shape in convs:
                self.convs.append(nn.Conv2d(channels, *shape))
                channels = shape[0]
        # ImageNet's statistics, for values in [0, 1].
        for name, values in (
            ('mean', (0.485, 0.456, 0.406)),
            ('std', (0.229, 0.224, 0.225)),
        ):
            value = torch.tensor(values).view(3, 1, 1)
            self.register_buffer(name, value, persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute five maps [N, C, H', W'] of [N, 3, H, W] in [-1, 1]."""
        x = ((x + 1) / 2 - self.mean) / self.std
        maps = []
        remaining = iter(self.convs)
        for pool, convs in self.stages:
            if pool:
                x = F.max_pool2d(x, pool, 2)
            for _ in convs:
                x = F.relu(next(remaining)(x))
            maps.append(x)
        return maps


class LPIPS(nn.Module):
    """Learned perceptual distance of images (Zhang et al. 2018).

    d(a, b) is the sum over maps of the mean over positions of
    sum_c w_c (a_c - b_c)^2, where a and b are maps of unit length over
    channels.

    Args:
        network (str): 'vgg' or 'alex'. Defaults to 'vgg'.
    """

    def __init__(self, network: str = 'vgg') -> None:
        super().__init__()
        self.maps = FeatureMaps(network)
        self.heads = nn.ParameterList(
            torch.zeros(convs[-1][0]) for _, convs in _STAGES[network]
        )
        self.requires_grad_(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Compute distances [N] of two [N, 3, H, W] in [-1, 1]."""
        return self.compare(self.unit_maps(a), self.unit_maps(b))

    def unit_maps(self, x: Tensor) -> list[Tensor]:
        """Compute maps with unit length over channels of [N, 3, H, W]."""
        return [F.normalize(y, dim=1, eps=1e-10) for y in self.maps(x)]

    def compare(self, ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
        """Compute distances [N] of images from their unit maps."""
        distances = [
            torch.einsum('nchw,c->nhw', (a - b).square(), head).mean((1, 2))
            for head, a, b in zip(self.heads, ours, theirs)
        ]
        return torch.stack(distances).sum(0)

    def embed(self, x: Tensor) -> Tensor:
        """Compute points [N, F], whose squared distances are LPIPS.

        A point is made of the unit maps of an image of [N, 3, H, W], each
        multiplied by the root of its head and of the share of a position.
        """
        return torch.cat(
            [
                (y * (head / y[0, 0].numel()).sqrt()[:, None, None]).flatten(1)
                for head, y in zip(self.heads, self.unit_maps(x))
            ],
            dim=1,
        )


def load_lpips(network: str = 'vgg') -> LPIPS:
    """Load LPIPS from the user's cache.

    Args:
        network (str): 'vgg' or 'alex'. Defaults to 'vgg'.

    Raises:
        InputError: The file is missing or damaged.
    """
    file, _ = detector_file('lpips')
    prefix = f'{network}.'
    weights = {
        name.removeprefix(prefix): value
        for name, value in load_file(file).items()
        if name.startswith(prefix)
    }
    lpips = LPIPS(network)
    lpips.load_state_dict(weights)
    return lpips
