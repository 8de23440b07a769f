"""Networks that turn clips into features, for metrics.

A detector has

* ``features(video)``: uint8 [N, T, 3, H, W], RGB, on any device -> float32
  [N, ``num_features``] on the detector's device, or
  ``probabilities(video)``: the same -> float32 [N, classes], or both,
* ``min_num_frames``: the least T, and ``max_num_frames`` the most, if there
  is one,
* ``digest``: a text that changes when its features do, for caches,
* ``is_random``: True if it was never trained, so that its distances compare
  with nothing but themselves,
* ``precision``: what it computes in, 'float32' if it does not say,
* ``name``: what ends the names of results, if anything. Without one it is the
  usual detector: I3D for clips, Inception-v3 of 2015 for images.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.device import get_device
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import InputError
from ..files import local_file, sha256_of
from ..registry import MODELS
from .detector_files import SOURCES, detector_file
from .i3d import InceptionI3D
from .inception import FIDInceptionV3
from .lpips import load_lpips


def _check_video(video: Tensor, least: int, most: int | None = None) -> None:
    """Refuse what is no batch of clips of ``least`` to ``most`` frames."""
    shape = list(video.shape)
    if video.dtype != torch.uint8 or len(shape) != 5 or shape[2] != 3:
        raise InputError(
            f'a detector takes uint8 [N, T, 3, H, W], got {video.dtype} '
            f'{shape}'
        )
    if shape[1] < least or (most and shape[1] > most):
        raise InputError(
            f'the detector takes clips of {"just" if most else "at least"} '
            f'{least} frames, got {shape[1]}: set num_frames'
        )


def _checked_file(path: str, sha256: str | None) -> tuple[Path, str]:
    """Find or download a detector's file; return it and its checksum."""
    file = local_file(
        path,
        'docs/metrics.md says where to get this detector; '
        "detector=dict(type='RandomI3D') needs none, for smoke tests",
        sha256,
    )
    digest = sha256_of(file)
    if sha256 is not None and digest != sha256.lower():
        raise InputError(
            f'{file} has the SHA-256 checksum {digest}, but {sha256} is '
            'wanted: delete the file and get it again'
        )
    return file, digest


def _load(network: nn.Module, file: Path, what: str) -> None:
    """Load a file of weights into a network.

    Args:
        network (nn.Module): Whose names and shapes are wanted.
        file (Path): ``.safetensors``, or a plain state dict by ``torch.save``.
        what (str): Name of the network, for messages.

    Raises:
        InputError: The file cannot be read safely or holds other weights.
    """
    try:
        if file.suffix == '.safetensors':
            weights = load_file(file)
        else:
            weights = torch.load(file, map_location='cpu', weights_only=True)
    except Exception as error:
        # torch raises a dozen types here, EOFError, UnpicklingError...
        reason = str(error).split('\n')[0]
        raise InputError(
            f'{file} is no file of weights that can be read safely '
            f'({type(error).__name__}: {reason}); '
            "type='I3DTorchScript' and 'InceptionTorchScript' read TorchScript"
        ) from error
    try:
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = ' '.join(str(error).split())[:300]
        raise InputError(
            f'{file} holds no weights of {what}: {reason}'
        ) from error


def _precision_settings() -> Iterator[tuple[Callable, Callable, Any]]:
    """Yield how to get and how to set what rounds, and its exact value."""
    # Other than `allow_tf32` of matrices, this knows three levels.
    level = torch.get_float32_matmul_precision
    yield level, torch.set_float32_matmul_precision, 'highest'
    cuda, cudnn, cpu = (
        getattr(torch.backends, name) for name in ('cuda', 'cudnn', 'mkldnn')
    )
    # Without benchmarks, cuDNN chooses the same algorithm each time.
    named: list[tuple[Any, str, Any]]
    named = [(cudnn, 'allow_tf32', False), (cudnn, 'benchmark', False)]
    if hasattr(cuda.matmul, 'fp32_precision'):
        # PyTorch 2.9 or later has settings of its own for each kind.
        kinds = cuda.matmul, cudnn.conv, cudnn.rnn
        kinds = *kinds, cpu.matmul, cpu.conv, cpu.rnn
        named += [(kind, 'fp32_precision', 'ieee') for kind in kinds]
    for owner, name, value in named:
        yield (
            partial(getattr, owner, name),
            partial(setattr, owner, name),
            value,
        )


@contextmanager
def _full_precision() -> Iterator[None]:
    """Keep TensorFloat-32 out: it would move the distances.

    Let nothing round the factors of float32 products, neither of convolutions
    nor of matrices; afterwards all settings are as before.
    """
    changes = []
    for get, put, value in _precision_settings():
        # One of before PyTorch 2.9 that contradicts the later ones can
        # neither be read nor counts.
        with suppress(RuntimeError):
            changes.append((put, value, get()))
    try:
        for put, value, _ in changes:
            put(value)
        yield
    finally:
        for put, _, before in changes:
            put(before)


def _resize(x: Tensor, size: int, antialias: bool = False) -> Tensor:
    """[N, T, 3, H, W] -> [N, 3, T, size, size], between pixels' centres."""
    frames = F.interpolate(
        x.flatten(0, 1),
        size=(size, size),
        mode='bilinear',
        antialias=antialias,
    )
    return frames.unflatten(0, x.shape[:2]).transpose(1, 2).contiguous()


# Flags by which the published files can be told apart.
_FLAGS = {'rescale', 'resize', 'return_features', 'no_output_bias'}


class TorchScriptDetector(nn.Module):
    """A network from a TorchScript file.

    Args:
        path (str): The file or its https URL; a download is kept in the
            user's cache.
        sha256 (str, optional): Hexadecimal checksum that the file must have;
            a download needs it. Defaults to None, not checked.

    Raises:
        InputError: The file is missing, cannot be downloaded, has another
            checksum or is no such TorchScript.
    """

    is_random = False
    #: Name of the network, and the flags of its ``forward``.
    network = ''
    flags: tuple[str, ...] = ()

    def __init__(self, path: str, sha256: str | None = None) -> None:
        super().__init__()
        file, self.digest = _checked_file(path, sha256)
        try:
            self.script = torch.jit.load(file, map_location='cpu').eval()
            arguments = self.script.forward.schema.arguments
        except (RuntimeError, ValueError, AttributeError) as error:
            raise InputError(
                f'{file} is no TorchScript '
                f'({type(error).__name__}: {str(error).strip()[:200]})'
            ) from error
        takes = {argument.name for argument in arguments}
        if takes & _FLAGS != set(self.flags):
            raise InputError(
                f'{file} is the TorchScript of another model: {self.network} '
                f'takes {", ".join(["a tensor", *self.flags])}'
            )

    @torch.no_grad()
    def call(self, x: Tensor, **flags: bool) -> Tensor:
        """Call the network, in full precision and as it is written.

        Fused, its operations round otherwise, and each new size compiles
        anew.
        """
        device = next(self.script.parameters()).device
        with _full_precision(), torch.jit.fuser('none'):
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
    flags = ('rescale', 'resize', 'return_features')

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
    before the last layer) or ``no_output_bias=True`` (probabilities of the
    1008 outputs, whose last layer then has no bias). For arguments and errors
    see :class:`TorchScriptDetector`.
    """

    num_features = 2048
    min_num_frames = max_num_frames = 1
    network = 'Inception'
    flags = ('return_features', 'no_output_bias')

    def features(self, video: Tensor) -> Tensor:
        """Compute features [N, 2048] of images [N, 1, 3, H, W], uint8."""
        _check_video(video, 1, 1)
        return self.call(video[:, 0], return_features=True)

    def probabilities(self, video: Tensor) -> Tensor:
        """Compute probabilities [N, 1008] of images [N, 1, 3, H, W], uint8."""
        _check_video(video, 1, 1)
        return self.call(video[:, 0], no_output_bias=True)


@MODELS.register_module()
class VideoTorchScript(TorchScriptDetector):
    """Any network of one's own for clips, from a TorchScript file.

    It takes float32 [N, 3, T, R, R], any N, and gives ``num_features``
    numbers for each clip. With a self-supervised VideoMAE this is the
    content-debiased FVD (Ge et al. 2024, "On the Content Bias in Frechet
    Video Distance"), which sees motion more and single frames less.

    Frames become float, [0, 1], and R x R, bilinear between the centres of
    pixels without antialiasing; then ``mean`` is taken away and the rest
    divided by ``std``. The network is called once at the start, on grey.

    Args:
        path (str): See :class:`TorchScriptDetector`.
        name (str): Ends the names of results: ``FVD16-VideoMAE``.
        num_features (int): Width of the features.
        sha256 (str, optional): See :class:`TorchScriptDetector`.
        num_frames (int): Frames in a clip, T, just so many. Defaults to 16.
        resolution (int): Height and width, R. Defaults to 224.
        mean (sequence): Of red, green and blue. Defaults to ImageNet's.
        std (sequence): The same, above 0. Defaults to ImageNet's.

    Raises:
        InputError: A number is out of range; see
            :class:`TorchScriptDetector`; or the network cannot be called so,
            or gives something else.
    """

    network = 'a detector of your own'

    def __init__(
        self,
        path: str,
        name: str,
        num_features: int,
        sha256: str | None = None,
        num_frames: int = 16,
        resolution: int = 224,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        if (
            not name
            or min(num_features, num_frames, resolution) < 1
            or not len(mean) == len(std) == 3
            or min(std) <= 0
        ):
            raise InputError(
                f'VideoTorchScript: name={name!r} must not be empty, '
                f'num_features={num_features}, num_frames={num_frames} and '
                f'resolution={resolution} must be at least 1, mean={mean} and '
                f'std={std} three numbers, the latter above 0'
            )
        super().__init__(path, sha256)
        self.name = name
        self.num_features = num_features
        self.min_num_frames = self.max_num_frames = num_frames
        self.resolution = resolution
        for key, values in (('mean', mean), ('std', std)):
            values = torch.tensor(values, dtype=torch.float32)
            self.register_buffer(key, values.view(3, 1, 1, 1))
        self.digest = (
            f'VideoTorchScript {self.digest} resolution={resolution} '
            f'mean={[*map(float, mean)]} std={[*map(float, std)]}'
        )
        self._try(path)

    def _try(self, path: str) -> None:
        """Call the network before anything is generated.

        Where it will run, as traced networks may be tied to a device; on two
        clips, as they may be tied to one.
        """
        if next(self.script.parameters(), None) is None:
            raise InputError(
                f'{path} has no parameters that could go to a GPU: save it '
                'unfrozen'
            )
        self.to(get_device())
        size = self.num_features
        grey = torch.full((2, self.min_num_frames, 3, 8, 8), 128)
        wanted = f'{self.name} must give [2, {size}] for [2, 3, T, R, R]'
        try:
            found = list(self.features(grey.to(torch.uint8)).shape)
        except (RuntimeError, AttributeError, torch.jit.Error) as error:
            # The last line tells, the others where.
            reason = str(error).strip().split('\n')[-1][:300]
            raise InputError(
                f'{path}: {wanted}, T={self.min_num_frames}, '
                f'R={self.resolution}, on {get_device()}, but fails '
                f'({type(error).__name__}: {reason})'
            ) from error
        if found != [2, size]:
            raise InputError(f'{path}: {wanted}, this one gives {found}')

    def features(self, video: Tensor) -> Tensor:
        """Compute features [N, ``num_features``], see the module's top."""
        _check_video(video, self.min_num_frames, self.max_num_frames)
        x = _resize(video.to(self.mean.device).float() / 255, self.resolution)
        return self.call((x - self.mean) / self.std)


@MODELS.register_module()
class C3DTorchScript(TorchScriptDetector):
    """C3D trained on UCF-101, from the published ``c3d_ucf101.pt``.

    For clips of 16 frames. The file does all the rest: it is called on bytes
    [N, 3, 16, H, W] and gives the probabilities of 101 classes. For arguments
    and errors see :class:`TorchScriptDetector`.
    """

    min_num_frames = max_num_frames = 16
    network = 'C3D'

    def probabilities(self, video: Tensor) -> Tensor:
        """Compute probabilities [N, 101] of clips [N, 16, 3, H, W], uint8.

        Raises:
            InputError: The file gives anything else.
        """
        _check_video(video, 16, 16)
        found = self.call(video.transpose(1, 2))
        if found.shape != (len(video), 101) or not torch.allclose(
            found.sum(1), found.new_ones(len(video)), atol=1e-3
        ):
            raise InputError(
                'a C3D file must give the probabilities of 101 classes, this '
                f'one gives {list(found.shape)} numbers for {len(video)} '
                f'clips, with the sum {found.sum():.4g}'
            )
        return found


class _EagerI3D(nn.Module):
    """What the detectors of our own network have in common.

    Args:
        **kwargs: Of :class:`InceptionI3D`.
    """

    num_features = 400
    min_num_frames = I3DTorchScript.min_num_frames
    precision = 'float32'
    #: Height and width for the network, and how frames get there.
    resolution: int
    antialias: bool

    def __init__(self, **kwargs: float) -> None:
        super().__init__()
        # torch's own initialisation must not move a training run's numbers.
        with torch.random.fork_rng(devices=[]):
            self.i3d = InceptionI3D(**kwargs).eval().requires_grad_(False)

    @torch.no_grad()
    def features(self, video: Tensor) -> Tensor:
        """Compute logits [N, 400] of clips, see the top of the module."""
        _check_video(video, self.min_num_frames)
        x = video.to(self.i3d.logits.conv3d.weight.device)
        x = _resize(x.float() / 127.5 - 1, self.resolution, self.antialias)
        with _full_precision():
            return self.i3d(x.to(getattr(torch, self.precision)))


@MODELS.register_module()
class I3D(_EagerI3D):
    """I3D trained on Kinetics-400: the detector of FVD.

    Its weights come from ``tools/get_detectors.py i3d`` or from a plain state
    dict with the names of the PyTorch ports: ``Conv3d_1a_7x7.conv3d.weight``,
    ``Mixed_3b.b1a.bn.running_mean``, ``logits.conv3d.bias`` and so on.
    Nothing in it is executed.

    Frames become float, [-1, 1], and 224 x 224, bilinear between the centres
    of pixels (torch's ``align_corners=False``, no antialiasing), as in the
    PyTorch ports of FVD. TensorFlow's reference interpolates between the
    pixels' top left corners: the two agree where no resizing is needed.

    Args:
        path (str, optional): The file or its https URL; a download is kept
            in the user's cache. Defaults to None, the file that
            ``tools/get_detectors.py`` made.
        sha256 (str, optional): Hexadecimal checksum that the file must have;
            a download needs it. Defaults to None, not checked.
        eps (float): What batch normalisation adds to the variance, see
            :class:`InceptionI3D`. Defaults to 1e-3, the reference's; 1e-5
            gives the numbers of ``cd-fvd`` and VideoGPT.
        dtype (str): 'float32', the default, or 'bfloat16': faster, rounded,
            and named so: ``FVD16-bfloat16`` compares with itself alone.

    Raises:
        InputError: The file is missing, cannot be downloaded, has another
            checksum, cannot be read safely or holds other weights; or there
            is no such dtype.
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
            file, digest = _checked_file(path, sha256)
        self.digest = f'I3D {digest} eps={eps}'
        _load(self.i3d, file, 'I3D with 400 classes')
        self.i3d.fold()
        if dtype != 'float32':
            self.name = self.precision = dtype
            self.digest += f' {dtype}'
            *stages, _ = self.i3d  # but for the logits
            for stage in stages:
                stage.to(getattr(torch, dtype))


@MODELS.register_module()
class FIDInception(nn.Module):
    """Inception-v3 of the published FIDs, from a file of weights.

    For clips of one frame, images. The file is the plain state dict
    ``pt_inception-2015-12-05-6726825d.pth`` that users of ``pytorch-fid`` and
    many other packages have in torch hub's cache. Nothing in it is executed.

    Everything else is as in :class:`InceptionTorchScript`: bytes become
    (x - 128) / 128 and 299 x 299, bilinear between the pixels' top left
    corners, without antialiasing. ``pytorch-fid`` itself interpolates between
    their centres, so that its numbers differ where images are resized.

    Args:
        path (str, optional): The file or its https URL; a download is kept
            in the user's cache. Defaults to None: the file in torch hub's
            cache, which is not downloaded.
        sha256 (str, optional): Hexadecimal checksum that the file must have;
            a download needs it. Defaults to None: the digits that end the
            file's name must begin its checksum.

    Raises:
        InputError: The file is missing, cannot be downloaded, has another
            checksum, cannot be read safely or holds other weights.
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
        file, digest = _checked_file(path, sha256)
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
        _load(self.inception, file, 'Inception-v3 with 1008 classes')

    @torch.no_grad()
    def features(self, video: Tensor) -> Tensor:
        """Compute features [N, 2048] of images [N, 1, 3, H, W], uint8."""
        _check_video(video, 1, 1)
        x = video[:, 0].to(self.inception.fc.weight.device)
        x = _resize_from_corners((x.float() - 128) / 128, 299)
        with _full_precision():
            return self.inception(x)

    def probabilities(self, video: Tensor) -> Tensor:
        """Compute probabilities [N, 1008] of images [N, 1, 3, H, W], uint8.

        The last layer has no bias, as in the published inception scores.
        """
        features = self.features(video)
        with _full_precision():
            return F.linear(features, self.inception.fc.weight).softmax(1)


def _resize_from_corners(x: Tensor, size: int) -> Tensor:
    """Resize as TensorFlow 1 did: output i lies at input i * length / size.

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
    """VGG-16 trained on ImageNet, for clips of one frame, images.

    A stand-in where the file of FID's network is not at hand; distances are
    named ``FD-VGG16``. The weights come from ``tools/get_detectors.py lpips``.

    Frames become 224 x 224, bilinear and antialiased, and are normalised by
    ImageNet's colours; features are the mean over space of the last
    convolution, after its ReLU.

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
        _check_video(video, 1, 1)
        x = video.to(self.maps.mean.device).float() / 127.5 - 1
        x = _resize(x, 224, antialias=True)[:, :, 0]
        with _full_precision():
            return self.maps(x)[-1].mean((2, 3))


@MODELS.register_module()
class RandomI3D(_EagerI3D):
    """I3D with random weights, for smoke tests only.

    Its distances fall when generated videos become more like the real ones,
    but they tell little about how people see them and compare with no
    published number; the metric calls them ``FVD-random``. It needs no file
    and is small: a quarter of the channels, 64 x 64 pixels.

    Args:
        seed (int): Fixes the weights, on every machine. Defaults to 0.
    """

    is_random = True
    resolution = 64
    antialias = True

    def __init__(self, seed: int = 0) -> None:
        super().__init__(width=0.25)
        nn.init.zeros_(self.i3d.logits.conv3d.bias)
        # The raw numbers of a bit generator are the same in all versions of
        # numpy, unlike normal numbers made from them.
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
