"""Preview videos while training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from ...errors import InputError
from ...files import atomic_write
from ...registry import HOOKS
from ...video.encoding import VideoWriter, video_grid
from ..visualizer import VideoVisualizer
from .divergence import check_run


@HOOKS.register_module()
class VideoPreviewHook(Hook):
    """Write videos of the average generator during training.

    ``WORK_DIR/previews/iter_N.mp4`` shows two grids of the same contents, from
    fixed seeds: on the left each video has its own motion, on the right all
    share one motion. ``WORK_DIR/preview.png`` shows some frames of the newest
    preview. A ``VideoVisualizer`` gets the video, too.

    Args:
        interval (int): Iterations from one preview to the next.
        num_videos (int): Videos per grid. Defaults to 16.
        num_frames (int): Frames per video. Defaults to 64.
        fps (float): Frames per second of the file. Defaults to 25.

    Raises:
        InputError: ``interval``, ``num_videos`` or ``num_frames`` is below 1,
            or ``fps`` is not positive.
    """

    # After DivergenceHook.
    priority = 'VERY_LOW'

    def __init__(
        self,
        interval: int,
        num_videos: int = 16,
        num_frames: int = 64,
        fps: float = 25,
    ):
        if min(interval, num_videos, num_frames) < 1 or fps <= 0:
            raise InputError(
                f'VideoPreviewHook: interval={interval}, num_videos='
                f'{num_videos} and num_frames={num_frames} must be at least '
                f'1, fps={fps} positive'
            )
        self.interval = interval
        self.num_videos = num_videos
        self.num_frames = num_frames
        self.fps = fps

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Write a preview every ``interval`` iterations and at the end."""
        if self.every_n_train_iters(runner, self.interval) or (
            runner.iter + 1 == runner.max_iters
        ):
            check_run(runner, runner.iter + 1)
            self.write_preview(runner)

    @master_only
    def write_preview(self, runner: Runner) -> None:
        """Render both grids and write the files."""
        labels = getattr(runner.train_dataloader.dataset, 'labels', None)
        if labels is None:
            # A data set of another class: its classes take turns.
            c_dim = runner.model.c_dim
            labels = np.eye(max(c_dim, 1), c_dim, dtype=np.float32)
        t = torch.arange(self.num_frames)
        seeds = range(self.num_videos)
        c = torch.from_numpy(labels[np.arange(len(seeds)) % len(labels)])
        sampler = runner.model.sampler()

        def grid(motion_seeds: Sequence[int]) -> torch.Tensor:
            latents = sampler.latents(seeds, c, motion_seeds)
            videos = torch.cat(list(sampler.stream(latents, t)), 1)
            return video_grid(videos, int(self.num_videos**0.5))

        left, right = grid(seeds), grid([0] * len(seeds))
        gap = left.new_full(
            (*left.shape[:3], max(left.shape[3] // 16, 4)), 255
        )
        frames = torch.cat([left, gap, right], 3)
        work_dir = Path(runner.work_dir)
        step = runner.iter + 1
        path = work_dir / 'previews' / f'iter_{step:07d}.mp4'
        try:
            with VideoWriter(path, self.fps) as writer:
                writer.append(frames)
            write_filmstrip(left, work_dir / 'preview.png')
        except InputError as error:
            # What matters are checkpoints: these stop training.
            runner.logger.warning(f'preview: {error}; training goes on')
            return
        if isinstance(runner.visualizer, VideoVisualizer):
            runner.visualizer.add_video(
                'preview', path, frames, self.fps, step
            )
        runner.logger.info(f'preview: {path}')


def write_filmstrip(
    frames: torch.Tensor, path: Path, num_frames: int = 6
) -> None:
    """Write equally spaced frames of a video side by side as a picture.

    Args:
        frames (Tensor): [T, 3, H, W], uint8.
        path (Path): A .png file; replaced when it is complete.
        num_frames (int): How many frames to show, if there are as many.
            Defaults to 6.

    Raises:
        InputError: The file cannot be written.
    """
    num_frames = min(num_frames, len(frames))
    times = torch.linspace(0, len(frames) - 1, num_frames).long()
    gap = frames.new_full((num_frames, 3, frames.shape[2], 4), 255)
    strip = torch.cat([frames[times], gap], 3)  # T, 3, H, W
    image = strip.permute(2, 0, 3, 1).flatten(1, 2)  # H, T * W, 3
    with atomic_write(path) as temporary:
        Image.fromarray(image.cpu().numpy()).save(temporary, format='png')
