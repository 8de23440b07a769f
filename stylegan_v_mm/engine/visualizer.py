"""Where the numbers and videos of training go: files, TensorBoard, W&B."""

import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import master_only
from mmengine.visualization import (
    TensorboardVisBackend,
    Visualizer,
    WandbVisBackend,
)
from PIL import Image
from torch import Tensor

from ..errors import InputError
from ..registry import VISUALIZERS
from ..video.animations import write_animation

# What mmengine's backends import, once training is about to start.
_PACKAGES = {
    'AimVisBackend': 'aim',
    'ClearMLVisBackend': 'clearml',
    'DVCLiveVisBackend': 'dvclive',
    'MLflowVisBackend': 'mlflow',
    'NeptuneVisBackend': 'neptune',
    'TensorboardVisBackend': 'tensorboard',
    'WandbVisBackend': 'wandb',
}
_GIF_WIDTH = 640  # pixels; TensorBoard loads every picture as a whole


@VISUALIZERS.register_module()
class VideoVisualizer(Visualizer):
    """mmengine's visualizer, with videos.

    Args:
        name (str): See mmengine's ``Visualizer``.
        tensorboard (bool): Whether to write for TensorBoard, too. Defaults
            to False.
        kwargs: Of mmengine's ``Visualizer``, such as ``vis_backends``.

    Raises:
        InputError: The package of a backend is not installed.
    """

    def __init__(
        self,
        name: str = 'visualizer',
        tensorboard: bool = False,
        **kwargs: Any,
    ) -> None:
        if tensorboard:
            kwargs['vis_backends'] = [
                *(kwargs.get('vis_backends') or ()),
                dict(type='TensorboardVisBackend'),
            ]
        super().__init__(name, **kwargs)
        for backend in self._vis_backends.values():
            kind = type(backend).__name__
            package = _PACKAGES.get(kind)
            if package and find_spec(package) is None:
                raise InputError(
                    f'visualizer.vis_backends: {kind} needs the package '
                    f'{package}: pip install -c requirements/constraints.txt '
                    f'{package}, or leave {kind} out'
                )

    @master_only
    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Record the config.

        mmengine's would also upload every Python file below the current
        folder to W&B, those of a virtual environment included.
        """
        for backend in self._vis_backends.values():
            if isinstance(backend, WandbVisBackend):
                backend.experiment.config.update(
                    config.to_dict(), allow_val_change=True
                )
            else:
                backend.add_config(config, **kwargs)

    @master_only
    def add_video(
        self, name: str, path: Path, frames: Tensor, fps: float, step: int
    ) -> None:
        """Hand a video to TensorBoard, as a GIF, and to W&B, as it is.

        Args:
            name (str): What it shows.
            path (Path): The .mp4 file.
            frames (Tensor): The same frames [T, 3, H, W], uint8.
            fps (float): Frames a second.
            step (int): Iterations done.
        """
        for backend in self._vis_backends.values():
            if isinstance(backend, TensorboardVisBackend):
                _add_gif(backend, name, encode_gif(frames, fps), step)
            elif isinstance(backend, WandbVisBackend):
                wandb = backend.experiment
                video = wandb.Video(str(path), format='mp4')
                wandb.log({name: video, 'iter': step})


def encode_gif(frames: Tensor, fps: float) -> bytes:
    """Encode frames as an animated GIF that repeats itself.

    Args:
        frames (Tensor): [T, 3, H, W], uint8; wider ones than 640 px are
            shrunk by a whole factor.
        fps (float): Frames a second; of those that viewers play, the nearest
            is taken.

    Returns:
        bytes: The file.
    """
    factor = -(-frames.shape[3] // _GIF_WIDTH)
    images = (
        Image.fromarray(frame).reduce(factor)
        for frame in frames.permute(0, 2, 3, 1).cpu().numpy()
    )
    stream = io.BytesIO()
    write_animation(images, stream, 'gif', fps)
    return stream.getvalue()


def _add_gif(
    backend: TensorboardVisBackend, name: str, gif: bytes, step: int
) -> None:
    # torch's own add_video needs moviepy.
    from tensorboard.compat.proto.summary_pb2 import Summary

    width, height = Image.open(io.BytesIO(gif)).size
    rgb = 3
    image = Summary.Image(
        width=width, height=height, colorspace=rgb, encoded_image_string=gif
    )
    summary = Summary(value=[Summary.Value(tag=name, image=image)])
    backend.experiment.file_writer.add_summary(summary, step)
