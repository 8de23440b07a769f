"""Detectors whose networks are defined in this package."""

import hashlib
import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError
from ...registry import MODELS
from .base import (
    check_video,
    checked_file,
    full_precision,
    load_network,
    resize,
)
from .files import SOURCES, detector_file
from .i3d import InceptionI3D
from .inception import FIDInceptionV3
from .lpips import load_lpips
from .torchscript import I3DTorchScript


class _EagerI3D(nn.Module):
    """Base class of the detectors that use our own I3D.

    Args:
        **kwargs: Arguments of :class:`InceptionI3D`.
    """

    num_features = 400
    min_num_frames = I3DTorchScript.min_num_frames
    precision = 'float32'
    #: Height and width of the network's input, and how to resize frames to it.
    resolution: int
    antialias: bool

    def __init__(self, **kwargs: float) -> None:
        super().__init__()
        # torch's initialisation must not change a training run's numbers.
        with torch.random.fork_rng(devices=[]):
            self.i3d = InceptionI3D(**kwargs).eval().requires_grad_(False)

    @torch.no_grad()
    def features(self, video: Tensor) -> Tensor:
        """Compute logits [N, 400] of clips [N, T, 3, H, W], uint8."""
        check_video(video, self.min_num_frames)
        x = video.to(self.i3d.logits.conv3d.weight.device)
        x = resize(x.float() / 127.5 - 1, self.resolution, self.antialias)
        with full_precision():
            return self.i3d(x.to(getattr(torch, self.precision)))


@MODELS.register_module()
class I3D(_EagerI3D):
    """I3D trained on Kinetics-400, the detector of FVD.

    Its weights come from ``tools/get_detectors.py i3d`` or from a plain state
    dict with the names of the PyTorch ports: ``Conv3d_1a_7x7.conv3d.weight``,
    ``Mixed_3b.b1a.bn.running_mean``, ``logits.conv3d.bias`` and so on.
    Nothing in it is executed.

    Frames are converted to float in [-1, 1] and resized to 224 x 224,
    bilinearly between the centres of pixels (torch's ``align_corners=False``,
    no antialiasing), as in the PyTorch ports of FVD. TensorFlow's reference
    interpolates between the top left corners of pixels; without resizing, the
    two agree.

    Args:
        path (str, optional): The file or its https URL; a download is kept
            in the user's cache. Defaults to None, the file from
            ``tools/get_detectors.py``.
        sha256 (str, optional): Hexadecimal checksum of the file; required for
            a download. Defaults to None, not checked.
        eps (float): Number that batch normalisation adds to the variance, see
            :class:`InceptionI3D`. Defaults to 1e-3, the reference's; 1e-5
            gives the numbers of ``cd-fvd`` and VideoGPT.
        dtype (str): 'float32', the default, or 'bfloat16', which is faster but
            less precise. Its result, ``FVD16-bfloat16``, can only be compared
            with itself.

    Raises:
        InputError: The file is missing, cannot be downloaded, has another
            checksum, cannot be read safely or contains other weights; or
            ``dtype`` is another one.
    """

    is_random = False
    resolution = 224
    antialias = False

    def __init__(
        self,
        path: str | None = None,
        sha256: str | None = None,
        eps: float = 1e-3,
        dtype: str = 'float32',
    ) -> None:
        if dtype not in ('float32', 'bfloat16'):
            raise InputError(
                f"I3D: dtype={dtype!r} must be 'float32' or 'bfloat16'"
            )
        super().__init__(eps=eps)
        if path is None:
            file, digest = detector_file('i3d')
        else:
            file, digest = checked_file(path, sha256)
        self.digest = f'I3D {digest} eps={eps}'
        load_network(self.i3d, file, 'I3D with 400 classes')
        self.i3d.fold()
        if dtype != 'float32':
            self.name = self.precision = dtype
            self.digest += f' {dtype}'
            *stages, _ = self.i3d  # all but the logits
            for stage in stages:
                stage.to(getattr(torch, dtype))


@MODELS.register_module()
class FIDInception(nn.Module):
    """Inception-v3 of the published FIDs, from a file of weights.

    It takes clips of one frame, that is, images. The file is the plain state
    dict ``pt_inception-2015-12-05-6726825d.pth``, which ``pytorch-fid`` and
    many other packages leave in torch hub's cache. Nothing in it is executed.

    The features are those of :class:`InceptionTorchScript`: bytes become
    (x - 128) / 128, resized to 299 x 299, bilinearly between the top left
    corners of pixels, without antialiasing. ``pytorch-fid`` itself
    interpolates between their centres, so that its numbers differ if images
    are resized.

    Args:
        path (str, optional): The file or its https URL; a download is kept
            in the user's cache. Defaults to None: the file in torch hub's
            cache, which is not downloaded.
        sha256 (str, optional): Hexadecimal checksum of the file; required for
            a download. Defaults to None: the checksum must begin with the
            digits at the end of the file's name.

    Raises:
        InputError: The file is missing, cannot be downloaded, has another
            checksum, cannot be read safely or contains other weights.
    """

    is_random = False
    num_features = 2048
    min_num_frames = max_num_frames = 1

    def __init__(
        self, path: str | None = None, sha256: str | None = None
    ) -> None:
        super().__init__()
        if path is None:
            folder = Path(torch.hub.get_dir(), 'checkpoints')
            path = str(folder / 'pt_inception-2015-12-05-6726825d.pth')
        file, digest = checked_file(path, sha256)
        digits = re.search(r'-([0-9a-f]{8,64})\.\w+$', file.name)
        is_checked = sha256 is not None or '://' in str(path)
        if not is_checked and not (digits and digest.startswith(digits[1])):
            raise InputError(
                f'{file} has the SHA-256 checksum {digest}, which must begin '
                'with the digits that end its name, as in '
                'pt_inception-2015-12-05-6726825d.pth: get the file again, or '
                'set sha256'
            )
        self.digest = f'FIDInception {digest}'
        with torch.random.fork_rng(devices=[]):
            self.inception = FIDInceptionV3().eval().requires_grad_(False)
        load_network(self.inception, file, 'Inception-v3 with 1008 classes')

    @torch.no_grad()
    def features(self, video: Tensor) -> Tensor:
        """Compute features [N, 2048] of images [N, 1, 3, H, W], uint8."""
        check_video(video, 1, 1)
        x = video[:, 0].to(self.inception.fc.weight.device)
        x = _resize_from_corners((x.float() - 128) / 128, 299)
        with full_precision():
            return self.inception(x)

    def probabilities(self, video: Tensor) -> Tensor:
        """Compute probabilities [N, 1008] of images [N, 1, 3, H, W], uint8.

        The last layer has no bias, as in the published inception scores.
        """
        features = self.features(video)
        with full_precision():
            return F.linear(features, self.inception.fc.weight).softmax(1)


def _resize_from_corners(x: Tensor, size: int) -> Tensor:
    """Resize like TensorFlow 1: output i lies at input i * length / size.

    Args:
        x (Tensor): [N, C, H, W].
        size (int): Height and width of the output.

    Returns:
        Tensor: [N, C, size, size].
    """
    for dim in (2, 3):
        length = x.shape[dim]
        place = torch.arange(size, dtype=torch.float64) * length / size
        first = place.long()
        second = (first + 1).clamp(max=length - 1)
        share = (place - first).view((-1, 1) if dim == 2 else (-1,)).to(x)
        x = torch.lerp(
            x.index_select(dim, first.to(x.device)),
            x.index_select(dim, second.to(x.device)),
            share,
        )
    return x


@MODELS.register_module()
class VGG16(nn.Module):
    """VGG-16 trained on ImageNet, for clips of one frame, that is, images.

    Use it if you do not have the file of FID's network; distances are named
    ``FD-VGG16``. The weights come from ``tools/get_detectors.py lpips``.

    Frames are resized to 224 x 224, bilinearly with antialiasing, and
    normalised by ImageNet's statistics. The features are the mean over space
    of the last convolution after its ReLU.

    Raises:
        InputError: The file is missing or damaged.
    """

    is_random = False
    name = 'VGG16'
    num_features = 512
    min_num_frames = max_num_frames = 1

    def __init__(self) -> None:
        super().__init__()
        self.digest = f'VGG16 {SOURCES["lpips"].sha256}'
        with torch.random.fork_rng(devices=[]):
            self.maps = load_lpips('vgg').maps.eval()

    @torch.no_grad()
    def features(self, video: Tensor) -> Tensor:
        """Compute features [N, 512] of images [N, 1, 3, H, W], uint8."""
        check_video(video, 1, 1)
        x = video.to(self.maps.mean.device).float() / 127.5 - 1
        x = resize(x, 224, antialias=True)[:, :, 0]
        with full_precision():
            return self.maps(x)[-1].mean((2, 3))


@MODELS.register_module()
class RandomI3D(_EagerI3D):
    """I3D with random weights, for smoke tests only.

    Its distances fall when generated videos become more similar to real ones,
    but they say little about how people see them and cannot be compared with
    published numbers; the metric names them ``FVD-random``. It needs no file
    and is small, with a quarter of the channels and 64 x 64 pixels.

    Args:
        seed (int): Seed of the weights, which are the same on every machine.
            Defaults to 0; other values are for ablations.
    """

    is_random = True
    resolution = 64
    antialias = True

    def __init__(self, seed: int = 0) -> None:
        super().__init__(width=0.25)
        nn.init.zeros_(self.i3d.logits.conv3d.bias)
        # The raw numbers of a bit generator are the same in all versions of
        # numpy; the normal numbers made from them may not be.
        bits = np.random.Philox(seed)
        digest = hashlib.sha256()
        for module in self.i3d.modules():
            if isinstance(module, nn.Conv3d):
                digest.update(_draw_weight(module.weight, bits))
        self.digest = f'RandomI3D {digest.hexdigest()}'
        self.i3d.fold()


def _draw_weight(weight: Tensor, bits: np.random.Philox) -> bytes:
    """Fill a weight with uniform numbers; return their bytes.

    Each filter has the sum 0 and the sum of squares 2.93. For x = relu(z), z
    normal with mean 0 and variance v, the variance of x is v / 2 - v / (2
    pi) = v / 2.93, so such filters preserve the variance from layer to layer.
    He's initialisation preserves the mean square instead. After a few layers,
    most of it would be a mean that all inputs share, and features would
    collapse.
    """
    raw = bits.random_raw(weight.numel()) >> np.uint64(40)
    filters = raw.astype(np.float64).reshape(len(weight), -1)
    filters -= filters.mean(1, keepdims=True)
    filters *= np.sqrt(2.93 / np.square(filters).sum(1, keepdims=True))
    values = filters.reshape(weight.shape).astype(np.float32)
    weight.copy_(torch.from_numpy(values))
    return values.tobytes()
