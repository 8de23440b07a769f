"""Networks that turn clips into features, for metrics.

A detector has

* ``features(video)``: uint8 [N, T, 3, H, W], RGB, on any device -> float32
  [N, ``num_features``] on the detector's device,
* ``min_num_frames``: the least T,
* ``digest``: a text that changes when its features do, for caches,
* ``is_random``: True if it was never trained, so that its distances compare
  with nothing but themselves.
"""

import hashlib
import math
from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..files import local_file, sha256_of
from ..registry import MODELS


def _check_video(video: Tensor, min_num_frames: int) -> None:
    shape = list(video.shape)
    if video.dtype != torch.uint8 or len(shape) != 5 or shape[2] != 3:
        raise InputError(
            f'a detector takes uint8 [N, T, 3, H, W], got {video.dtype} '
            f'{shape}'
        )
    if shape[1] < min_num_frames:
        raise InputError(
            f'I3D needs clips of at least {min_num_frames} frames, got '
            f'{shape[1]}'
        )


class TorchScriptDetector(nn.Module):
    """A network from a TorchScript file.

    Args:
        path (str): The file or its URL; a download is kept in the user's
            cache.
        sha256 (str, optional): Hexadecimal checksum that the file must have.
            Defaults to None, not checked.

    Raises:
        InputError: The file is missing, cannot be downloaded, has another
            checksum or is no such TorchScript.
    """

    is_random = False
    #: Name of the network, and the arguments by which it is known.
    network = ''
    arguments: tuple[str, ...] = ()

    def __init__(self, path: str, sha256: str | None = None) -> None:
        super().__init__()
        file = local_file(
            path,
            'docs/metrics.md says where to get this detector; '
            "detector=dict(type='RandomI3D') needs none, for smoke tests",
        )
        self.digest = sha256_of(file)
        if sha256 is not None and self.digest != sha256.lower():
            raise InputError(
                f'{file} has the SHA-256 checksum {self.digest}, but '
                f'{sha256} is wanted: delete the file and get it again'
            )
        try:
            self.script = torch.jit.load(file, map_location='cpu').eval()
            arguments = self.script.forward.schema.arguments
        except (RuntimeError, ValueError, AttributeError) as error:
            raise InputError(
                f'{file} is no TorchScript model '
                f'({type(error).__name__}: {str(error).strip()[:200]})'
            ) from error
        takes = {argument.name for argument in arguments}
        if not takes.issuperset(self.arguments):
            raise InputError(
                f'{file} is the TorchScript of another model: {self.network} '
                f'takes {", ".join(self.arguments)}'
            )

    @torch.no_grad()
    def call(self, x: Tensor, **flags: bool) -> Tensor:
        """Call the network, in full precision."""
        device = next(self.script.parameters()).device
        # TensorFloat-32 would move the distances.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self.script(x.to(device), **flags).float()


@MODELS.register_module()
class I3DTorchScript(TorchScriptDetector):
    """I3D trained on Kinetics-400, from the published TorchScript file.

    The file does all the rest: it is called on bytes [N, 3, T, H, W] with
    ``rescale=True`` (to [-1, 1]), ``resize=True`` (to 224 x 224) and
    ``return_features=True`` (400 logits). For arguments and errors see
    :class:`TorchScriptDetector`.
    """

    num_features = 400
    # Three halvings of time, and two steps must be left for the last pooling.
    min_num_frames = 9
    network = 'I3D'
    arguments = ('rescale', 'resize', 'return_features')

    def features(self, video: Tensor) -> Tensor:
        """Compute logits [N, 400] of clips, see the top of the module."""
        _check_video(video, self.min_num_frames)
        return self.call(
            video.transpose(1, 2),
            rescale=True,
            resize=True,
            return_features=True,
        )


@MODELS.register_module()
class InceptionTorchScript(TorchScriptDetector):
    """Inception-v3 of the published FIDs, from its TorchScript file.

    For clips of one frame, images. The file does all the rest: it is called
    on bytes [N, 3, H, W] with ``return_features=True`` (the 2048 numbers
    before the last layer). For arguments and errors see
    :class:`TorchScriptDetector`.
    """

    num_features = 2048
    min_num_frames = 1
    network = 'Inception'
    arguments = ('return_features', 'no_output_bias')

    def features(self, video: Tensor) -> Tensor:
        """Compute features [N, 2048] of images [N, 1, 3, H, W], uint8."""
        _check_video(video, self.min_num_frames)
        if video.shape[1] != 1:
            raise InputError(
                'Inception takes clips of one frame, got '
                f'{video.shape[1]}: set num_frames=1'
            )
        return self.call(video[:, 0], return_features=True)


def same_pad(
    x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]
) -> Tensor:
    """Pad with zeros as TensorFlow's ``SAME`` does, odd rests at the end.

    What follows makes ceil(size / stride) of each size.

    Args:
        x (Tensor): [N, C, T, H, W].
        kernel (tuple): Its three sizes.
        stride (tuple): Its three strides.

    Returns:
        Tensor: Padded in T, H and W.
    """
    padding = []
    for size, k, s in zip(x.shape[2:], kernel, stride):
        total = max((math.ceil(size / s) - 1) * s + k - size, 0)
        # torch lists the last dimension first.
        padding = [total // 2, total - total // 2, *padding]
    return F.pad(x, padding)


class Conv(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv3d(cin, cout, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(cout, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """[N, cin, T, H, W] -> [N, cout, T, H, W], sizes over the stride."""
        x = same_pad(x, self.conv.kernel_size, self.conv.stride)
        return F.relu(self.bn(self.conv(x)))


class MaxPool(nn.MaxPool3d):
    """Max pooling of what is at least 0, so that zeros are neutral."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, T, H, W] -> the same, sizes over the stride."""
        return super().forward(same_pad(x, self.kernel_size, self.stride))


class Mixed(nn.Module):
    """Inception module: 1, 1 + 3, 1 + 3 and pooling + 1, side by side.

    Args:
        cin (int): Input channels.
        widths (tuple): Output channels of the six convolutions, in that
            order.
    """

    def __init__(self, cin: int, widths: tuple[int, ...]):
        super().__init__()
        a, b, b_out, c, c_out, d = widths
        pool = MaxPool((3, 3, 3), (1, 1, 1))
        self.branches = nn.ModuleList(
            [
                Conv(cin, a, 1),
                nn.Sequential(Conv(cin, b, 1), Conv(b, b_out, 3)),
                nn.Sequential(Conv(cin, c, 1), Conv(c, c_out, 3)),
                nn.Sequential(pool, Conv(cin, d, 1)),
            ]
        )
        self.cout = a + b_out + c_out + d

    def forward(self, x: Tensor) -> Tensor:
        """[N, cin, T, H, W] -> [N, cout, T, H, W]."""
        return torch.cat([branch(x) for branch in self.branches], 1)


class I3D(nn.Module):
    """Inflated Inception-v1, from clips to 400 logits.

    Carreira & Zisserman, "Quo Vadis, Action Recognition?" (CVPR 2017), figure
    3; widths of the modules: Szegedy et al. 2015, table 1. The last pooling
    spans all of height and width, as the paper's 7 x 7 does for 224 x 224
    pixels, so that other resolutions will do.

    Args:
        width (float): Share of the paper's channels. Defaults to 1.
    """

    def __init__(self, width: float = 1):
        super().__init__()

        def scaled(*channels: int) -> list[int]:
            return [round(width * number) for number in channels]

        c1, c2, c3 = scaled(64, 64, 192)
        stages = OrderedDict(
            conv1=Conv(3, c1, 7, 2),
            pool1=MaxPool((1, 3, 3), (1, 2, 2)),
            conv2=Conv(c1, c2, 1),
            conv3=Conv(c2, c3, 3),
            pool2=MaxPool((1, 3, 3), (1, 2, 2)),
        )
        cin = c3
        for name, widths in [
            ('mixed_3b', (64, 96, 128, 16, 32, 32)),
            ('mixed_3c', (128, 128, 192, 32, 96, 64)),
            ('pool3', 3),
            ('mixed_4b', (192, 96, 208, 16, 48, 64)),
            ('mixed_4c', (160, 112, 224, 24, 64, 64)),
            ('mixed_4d', (128, 128, 256, 24, 64, 64)),
            ('mixed_4e', (112, 144, 288, 32, 64, 64)),
            ('mixed_4f', (256, 160, 320, 32, 128, 128)),
            ('pool4', 2),
            ('mixed_5b', (256, 160, 320, 32, 128, 128)),
            ('mixed_5c', (384, 192, 384, 48, 128, 128)),
        ]:
            if isinstance(widths, int):
                stages[name] = MaxPool((widths,) * 3, (2, 2, 2))
            else:
                stages[name] = Mixed(cin, scaled(*widths))
                cin = stages[name].cout
        self.stages = nn.Sequential(stages)
        self.logits = nn.Conv3d(cin, 400, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, T, H, W] in [-1, 1], T at least 9 -> logits [N, 400]."""
        x = self.stages(x)
        x = F.avg_pool3d(x, (2, *x.shape[3:]), stride=1)
        return self.logits(x).mean([2, 3, 4])


@MODELS.register_module()
class RandomI3D(nn.Module):
    """I3D with random weights, for smoke tests only.

    Its distances fall when generated videos become more like the real ones,
    but they tell little about how people see them and compare with no
    published number; the metric calls them ``FVD-random``. It needs no file
    and is small: a quarter of the channels, 64 x 64 pixels.

    Args:
        seed (int): Fixes the weights, on every machine. Defaults to 0.
    """

    num_features = 400
    min_num_frames = 9
    is_random = True
    resolution = 64

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        # torch's own initialisation must not move a training run's numbers.
        with torch.random.fork_rng(devices=[]):
            self.i3d = I3D(width=0.25).eval().requires_grad_(False)
        nn.init.zeros_(self.i3d.logits.bias)
        # The raw numbers of a bit generator are the same in all versions of
        # numpy, unlike normal numbers made from them.
        bits = np.random.Philox(seed)
        digest = hashlib.sha256()
        for module in self.i3d.modules():
            if isinstance(module, nn.Conv3d):
                digest.update(_draw_weight(module.weight, bits))
        self.digest = f'RandomI3D {digest.hexdigest()}'

    @torch.no_grad()
    def features(self, video: Tensor) -> Tensor:
        """Compute logits [N, 400] of clips, see the top of the module."""
        _check_video(video, self.min_num_frames)
        x = video.to(self.i3d.logits.weight.device).flatten(0, 1).float()
        x = F.interpolate(
            x / 127.5 - 1,
            size=(self.resolution, self.resolution),
            mode='bilinear',
            antialias=True,
        )
        x = x.unflatten(0, video.shape[:2]).transpose(1, 2).contiguous()
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self.i3d(x)


def _draw_weight(weight: Tensor, bits: np.random.Philox) -> bytes:
    """Fill a weight with uniform numbers; return their bytes.

    Each filter has the sum 0 and the sum of squares 2.93. For x = relu(z), z
    normal with mean 0 and variance v, the variance of x is v / 2 - v / (2
    pi) = v / 2.93, so such filters keep the variance from layer to layer.
    He's initialisation keeps the mean square instead, most of which soon is
    a mean that all inputs share: features collapse.
    """
    raw = bits.random_raw(weight.numel()) >> np.uint64(40)
    filters = raw.astype(np.float64).reshape(len(weight), -1)
    filters -= filters.mean(1, keepdims=True)
    filters *= np.sqrt(2.93 / np.square(filters).sum(1, keepdims=True))
    values = filters.reshape(weight.shape).astype(np.float32)
    weight.copy_(torch.from_numpy(values))
    return values.tobytes()
