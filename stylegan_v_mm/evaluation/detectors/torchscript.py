"""Detectors from TorchScript files."""

from collections.abc import Sequence

import torch
from mmengine.device import get_device
from torch import Tensor, nn

from ...errors import InputError
from ...registry import MODELS
from .base import check_video, checked_file, full_precision, resize

# Flags that distinguish the published files.
_FLAGS = {'rescale', 'resize', 'return_features', 'no_output_bias'}


class TorchScriptDetector(nn.Module):
    """A network from a TorchScript file.

    Args:
        path (str): The file or its https URL; a download is kept in the
            user's cache.
        sha256 (str, optional): Hexadecimal checksum of the file; required for
            a download. Defaults to None, not checked.

    Raises:
        InputError: The file is missing, cannot be downloaded, has another
            checksum or is not this TorchScript.
    """

    is_random = False
    #: Name of the network, and the flags of its ``forward``.
    network = ''
    flags: tuple[str, ...] = ()

    def __init__(self, path: str, sha256: str | None = None) -> None:
        super().__init__()
        file, self.digest = checked_file(path, sha256)
        try:
            self.script = torch.jit.load(file, map_location='cpu').eval()
            arguments = self.script.forward.schema.arguments
        except (RuntimeError, ValueError, AttributeError) as error:
            raise InputError(
                f'{file} is not TorchScript '
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
        """Call the network in full precision and without fusing operations.

        Fused operations round differently, and would be compiled again for
        each new size.
        """
        device = next(self.script.parameters()).device
        with full_precision(), torch.jit.fuser('none'):
            return self.script(x.to(device), **flags).float()


@MODELS.register_module()
class I3DTorchScript(TorchScriptDetector):
    """I3D trained on Kinetics-400, from the published TorchScript file.

    The file includes the preprocessing: it is called on bytes [N, 3, T, H, W]
    with ``rescale=True`` (to [-1, 1]), ``resize=True`` (to 224 x 224) and
    ``return_features=True`` (400 logits). For arguments and errors see
    :class:`TorchScriptDetector`.
    """

    num_features = 400
    # Time is halved three times, and the last pooling needs two steps.
    min_num_frames = 9
    network = 'I3D'
    flags = ('rescale', 'resize', 'return_features')

    def features(self, video: Tensor) -> Tensor:
        """Compute logits [N, 400] of clips [N, T, 3, H, W], uint8."""
        check_video(video, self.min_num_frames)
        return self.call(
            video.transpose(1, 2),
            rescale=True,
            resize=True,
            return_features=True,
        )


@MODELS.register_module()
class InceptionTorchScript(TorchScriptDetector):
    """Inception-v3 of the published FIDs, from its TorchScript file.

    It takes clips of one frame, that is, images. The file includes the
    preprocessing: it is called on bytes [N, 3, H, W] with
    ``return_features=True`` (the 2048 numbers before the last layer) or
    ``no_output_bias=True`` (probabilities of the 1008 outputs, without the
    bias of the last layer). For arguments and errors see
    :class:`TorchScriptDetector`.
    """

    num_features = 2048
    min_num_frames = max_num_frames = 1
    network = 'Inception'
    flags = ('return_features', 'no_output_bias')

    def features(self, video: Tensor) -> Tensor:
        """Compute features [N, 2048] of images [N, 1, 3, H, W], uint8."""
        check_video(video, 1, 1)
        return self.call(video[:, 0], return_features=True)

    def probabilities(self, video: Tensor) -> Tensor:
        """Compute probabilities [N, 1008] of images [N, 1, 3, H, W], uint8."""
        check_video(video, 1, 1)
        return self.call(video[:, 0], no_output_bias=True)


@MODELS.register_module()
class VideoTorchScript(TorchScriptDetector):
    """Any other network for clips, from a TorchScript file.

    It takes float32 [N, 3, T, R, R], for any N, and returns ``num_features``
    numbers for each clip. With a self-supervised VideoMAE this gives the
    content-debiased FVD (Ge et al. 2024, "On the Content Bias in Frechet
    Video Distance"), which is more sensitive to motion and less to single
    frames.

    Frames are converted to float in [0, 1] and resized to R x R, bilinearly
    between the centres of pixels without antialiasing. Then ``mean`` is
    subtracted, and the result is divided by ``std``. The constructor calls the
    network once, on grey.

    Args:
        path (str): See :class:`TorchScriptDetector`.
        name (str): Suffix of the names of results: ``FVD16-VideoMAE``.
        num_features (int): Width of the features.
        sha256 (str, optional): See :class:`TorchScriptDetector`.
        num_frames (int): Exact number of frames in a clip, T. Defaults to 16.
        resolution (int): Height and width, R. Defaults to 224.
        mean (sequence): Mean of red, green and blue. Defaults to ImageNet's.
        std (sequence): Standard deviation of the same, above 0. Defaults to
            ImageNet's.

    Raises:
        InputError: A number is out of range; the file is wrong, see
            :class:`TorchScriptDetector`; or the network does not take such
            clips or returns something else.
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

        It is called on the device where it will run, because a traced network
        may be tied to another, and on two clips, because it may be tied to
        one.
        """
        if next(self.script.parameters(), None) is None:
            raise InputError(
                f'{path} has no parameters that could be moved to a GPU: save '
                'it unfrozen'
            )
        self.to(get_device())
        size = self.num_features
        grey = torch.full((2, self.min_num_frames, 3, 8, 8), 128)
        wanted = f'{self.name} must return [2, {size}] for [2, 3, T, R, R]'
        try:
            found = list(self.features(grey.to(torch.uint8)).shape)
        except (RuntimeError, AttributeError, torch.jit.Error) as error:
            # The last line has the reason, the others the traceback.
            reason = str(error).strip().split('\n')[-1][:300]
            raise InputError(
                f'{path}: {wanted}, T={self.min_num_frames}, '
                f'R={self.resolution}, on {get_device()}, but fails '
                f'({type(error).__name__}: {reason})'
            ) from error
        if found != [2, size]:
            raise InputError(f'{path}: {wanted}, this one returns {found}')

    def features(self, video: Tensor) -> Tensor:
        """Compute features [N, F] of clips [N, T, 3, H, W], uint8."""
        check_video(video, self.min_num_frames, self.max_num_frames)
        x = resize(video.to(self.mean.device).float() / 255, self.resolution)
        return self.call((x - self.mean) / self.std)


@MODELS.register_module()
class C3DTorchScript(TorchScriptDetector):
    """C3D trained on UCF-101, from the published ``c3d_ucf101.pt``.

    It takes clips of 16 frames. The file includes the preprocessing: it is
    called on bytes [N, 3, 16, H, W] and returns the probabilities of 101
    classes. For arguments and errors see :class:`TorchScriptDetector`.
    """

    min_num_frames = max_num_frames = 16
    network = 'C3D'

    def probabilities(self, video: Tensor) -> Tensor:
        """Compute probabilities [N, 101] of clips [N, 16, 3, H, W], uint8.

        Raises:
            InputError: The file returns anything else.
        """
        check_video(video, 16, 16)
        found = self.call(video.transpose(1, 2))
        if found.shape != (len(video), 101) or not torch.allclose(
            found.sum(1), found.new_ones(len(video)), atol=1e-3
        ):
            raise InputError(
                'a C3D file must return the probabilities of 101 classes, '
                f'this one returns {list(found.shape)} numbers for '
                f'{len(video)} clips, with the sum {found.sum():.4g}'
            )
        return found
