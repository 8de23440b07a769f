"""Hooks: what training shows of itself."""

from pathlib import Path

import torch
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from ..errors import InputError
from ..registry import HOOKS
from ..video_io import VideoWriter, video_grid


@HOOKS.register_module()
class TrainingSpeedHook(Hook):
    """Log ``frames_per_sec``: real frames seen a second, by all processes."""

    # After mmengine's IterTimerHook, which measures the time.
    priority = 'LOW'

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Divide the frames of the batch by the time of the iteration."""
        clips, num_frames = data_batch['video'].shape[:2]
        seconds = runner.message_hub.get_scalar('train/time').current()
        runner.message_hub.update_scalar(
            'train/frames_per_sec',
            clips * num_frames * get_world_size() / seconds,
        )


@HOOKS.register_module()
class VideoPreviewHook(Hook):
    """Write videos of the average generator during training.

    ``WORK_DIR/previews/iter_N.mp4`` holds two grids of the same contents
    from fixed seeds: each with a motion of its own on the left, all with one
    shared motion on the right. ``preview.png`` beside the folder shows some
    frames of the newest one.

    Args:
        interval (int): Iterations between two previews.
        num_videos (int): Videos a grid. Defaults to 16.
        num_frames (int): Frames a video. Defaults to 64.
        fps (float): Frames a second of the file. Defaults to 25.

    Raises:
        InputError: ``interval``, ``num_videos`` or ``num_frames`` is below 1.
    """

    def __init__(
        self,
        interval: int,
        num_videos: int = 16,
        num_frames: int = 64,
        fps: float = 25,
    ):
        if min(interval, num_videos, num_frames) < 1:
            raise InputError(
                f'VideoPreviewHook: interval={interval}, num_videos='
                f'{num_videos} and num_frames={num_frames} must be at least 1'
            )
        self.interval = interval
        self.num_videos = num_videos
        self.num_frames = num_frames
        self.fps = fps

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Write a preview every ``interval`` iterations and at the end."""
        if self.every_n_train_iters(runner, self.interval) or (
            runner.iter + 1 == runner.max_iters
        ):
            self.write_preview(runner)

    @master_only
    def write_preview(self, runner: Runner) -> None:
        """Render both grids and write the files."""
        labels = runner.train_dataloader.dataset.labels
        t = torch.arange(self.num_frames)

        def grid(motion_seed: int | None) -> torch.Tensor:
            videos = [
                torch.cat(
                    list(
                        runner.model.sample_video(
                            seed,
                            t,
                            torch.from_numpy(labels[seed % len(labels)]),
                            motion_seed,
                        )
                    )
                )
                for seed in range(self.num_videos)
            ]
            columns = int(self.num_videos**0.5)
            return video_grid(torch.stack(videos), columns)

        left, right = grid(None), grid(0)
        gap = left.new_full(
            (*left.shape[:3], max(left.shape[3] // 16, 4)), 255
        )
        frames = torch.cat([left, gap, right], 3)
        work_dir = Path(runner.work_dir)
        path = work_dir / 'previews' / f'iter_{runner.iter + 1:07d}.mp4'
        with VideoWriter(path, self.fps) as writer:
            writer.append(frames)
        write_filmstrip(left, work_dir / 'preview.png')
        runner.logger.info(f'preview: {path}')


def write_filmstrip(
    frames: torch.Tensor, path: Path, num_frames: int = 6
) -> None:
    """Write equally spaced frames of a video side by side as a picture.

    Args:
        frames (Tensor): [T, 3, H, W], uint8.
        path (Path): A .png file; replaced when it is complete.
        num_frames (int): How many frames to show. Defaults to 6.
    """
    times = torch.linspace(0, len(frames) - 1, num_frames).long()
    gap = frames.new_full((num_frames, 3, frames.shape[2], 4), 255)
    strip = torch.cat([frames[times], gap], 3)  # T, 3, H, W
    image = strip.permute(2, 0, 3, 1).flatten(1, 2)  # H, T * W, 3
    temporary = path.with_suffix('.tmp')
    Image.fromarray(image.cpu().numpy()).save(temporary, format='png')
    temporary.replace(path)
