"""Hooks: what training shows of itself, and when it has to stop."""

import math
import time
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, get_world_size, master_only
from mmengine.hooks import Hook, IterTimerHook
from mmengine.runner import Runner
from PIL import Image

from ..checkpoint import numbered_checkpoints
from ..errors import InputError
from ..registry import HOOKS
from ..video_io import VideoWriter, video_grid
from .visualizer import VideoVisualizer

# Between the mean logits of real and fake clips.
_LARGEST_GAP = 1e4
_WINDOW = 50  # iterations in which something must last


@HOOKS.register_module()
class SteadyTimerHook(IterTimerHook):
    """mmengine's timer, by a clock that nobody sets.

    Where the system's clock is set, times and the time left stay right.
    """

    def _before_epoch(self, runner: Runner, mode: str = 'train') -> None:
        super()._before_epoch(runner, mode)
        self._steady = time.monotonic()

    def _before_iter(self, *args: Any, **kwargs: Any) -> None:
        self._correct()
        super()._before_iter(*args, **kwargs)

    def _after_iter(self, *args: Any, **kwargs: Any) -> None:
        self._correct()
        super()._after_iter(*args, **kwargs)
        self._steady = time.monotonic()

    def _correct(self) -> None:
        """Move mmengine's start of the iteration as the clock was moved."""
        self.t = time.time() - (time.monotonic() - self._steady)


@HOOKS.register_module()
class TrainingSpeedHook(Hook):
    """Log ``frames_per_sec``: real frames seen a second, by all processes."""

    # After the timer.
    priority = 'LOW'

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Divide the frames of the batch by the time of the iteration."""
        clips, num_frames = data_batch['video'].shape[:2]
        seconds = runner.message_hub.get_scalar('train/time').current()
        runner.message_hub.update_scalar(
            'train/frames_per_sec',
            clips * num_frames * get_world_size() / seconds,
        )


@HOOKS.register_module()
class DivergenceHook(Hook):
    """Stop training that has gone wrong, before anything of it is saved.

    It has if, after an iteration,

    - a logged value (a loss, logits, a penalty) is not finite; or
    - anything that a checkpoint would hold of the model is not finite; or
    - gradients were not finite in each of the last 50 iterations. Single ones
      count as 0, as in published runs: half precision overflows now and then.
      The first is a warning; or
    - the logits of real and fake clips are 10000 apart, on the average of the
      last 50 iterations. In healthy runs they are tens apart at most, with
      Wasserstein losses, too.

    Checkpoints are written after this hook, and old ones are removed after
    that, so all that are there are good. Processes agree on what they found
    and stop together.

    The cost is one reading of all weights, half a millisecond for a million
    on a CPU core. A GPU is not waited for: mmengine copies all logged values
    in each iteration, so that it is idle by then.
    """

    # After mmengine's LoggerHook: the log shows what was found. Before
    # SafeCheckpointHook and VideoPreviewHook.
    priority = 'LOW'

    def __init__(self) -> None:
        self._warned = False

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Look at what was logged, and at the weights.

        Raises:
            InputError: Training has gone wrong: how, in which iteration, and
                the newest checkpoint before that.
        """
        problem = self._in_logs(runner, outputs) or self._in_weights(runner)
        if not problem:
            self._warn_of_gradients(runner, outputs)
            return
        good = [
            path
            for path in numbered_checkpoints(runner.work_dir)
            if int(path.stem.removeprefix('iter_')) <= runner.iter
        ]
        advice = (
            f'the newest checkpoint before is {good[0]}: go on from it by '
            f'--resume {good[0]}, but with'
            if good
            else 'no checkpoint was written before: start anew, with a lower '
            'lr,'
        )
        raise InputError(
            f'training has gone wrong in iteration {runner.iter + 1}: '
            f'{problem}; {advice} a higher model.r1_gamma or num_fp16_res=0: '
            'the same settings would end the same'
        )

    def _warn_of_gradients(self, runner: Runner, outputs: dict) -> None:
        if self._warned or 'bad_gradients' not in outputs:
            return
        history = runner.message_hub.get_scalar('train/bad_gradients')
        if number := int(history.current()):
            self._warned = True
            runner.logger.warning(
                f'iteration {runner.iter + 1}: gradients of {number} weights '
                'are not finite and count as 0; bad_gradients in the log '
                'counts further ones'
            )

    @staticmethod
    def _in_logs(runner: Runner, outputs: dict) -> str:
        """Name what is wrong with the logged values; '' if nothing is."""
        histories = {
            name: runner.message_hub.get_scalar(f'train/{name}')
            for name in outputs
        }
        for name, history in histories.items():
            if not math.isfinite(history.current()):
                return f'{name} is {history.current()}'
        bad = histories.get('bad_gradients')
        if bad and len(bad.data[0]) >= _WINDOW and bad.min(_WINDOW) > 0:
            return f'no iteration of {_WINDOW} had finite gradients'
        if {'logits_real', 'logits_fake'} <= histories.keys():
            real, fake = (
                histories[f'logits_{kind}'].mean(_WINDOW)
                for kind in ('real', 'fake')
            )
            if abs(real - fake) > _LARGEST_GAP:
                return f'logits_real={real:.3g} and logits_fake={fake:.3g}'
        return ''

    @staticmethod
    def _in_weights(runner: Runner) -> str:
        """Name weights that are not finite; '' if all are."""
        weights = {
            name: value
            for name, value in runner.model.state_dict().items()
            if value.is_floating_point()
        }
        norms = torch.stack(torch._foreach_norm(list(weights.values())))
        wrong = (~norms.isfinite()).int()
        all_reduce(wrong, 'max')
        name = next(compress(weights, wrong.tolist()), '')
        return name and f'{name} has weights that are not finite'


@HOOKS.register_module()
class VideoPreviewHook(Hook):
    """Write videos of the average generator during training.

    ``WORK_DIR/previews/iter_N.mp4`` holds two grids of the same contents
    from fixed seeds: each with a motion of its own on the left, all with one
    shared motion on the right. ``preview.png`` beside the folder shows some
    frames of the newest one. A ``VideoVisualizer`` gets the video, too.

    Args:
        interval (int): Iterations between two previews.
        num_videos (int): Videos a grid. Defaults to 16.
        num_frames (int): Frames a video. Defaults to 64.
        fps (float): Frames a second of the file. Defaults to 25.

    Raises:
        InputError: ``interval``, ``num_videos`` or ``num_frames`` is below 1.
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
            self.write_preview(runner)

    @master_only
    def write_preview(self, runner: Runner) -> None:
        """Render both grids and write the files."""
        labels = getattr(runner.train_dataloader.dataset, 'labels', None)
        if labels is None:
            # A data set of the user's own: one class after another.
            c_dim = runner.model.c_dim
            labels = np.eye(max(c_dim, 1), c_dim, dtype=np.float32)
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
        step = runner.iter + 1
        path = work_dir / 'previews' / f'iter_{step:07d}.mp4'
        try:
            with VideoWriter(path, self.fps) as writer:
                writer.append(frames)
            write_filmstrip(left, work_dir / 'preview.png')
        except (InputError, OSError) as error:
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
    """
    num_frames = min(num_frames, len(frames))
    times = torch.linspace(0, len(frames) - 1, num_frames).long()
    gap = frames.new_full((num_frames, 3, frames.shape[2], 4), 255)
    strip = torch.cat([frames[times], gap], 3)  # T, 3, H, W
    image = strip.permute(2, 0, 3, 1).flatten(1, 2)  # H, T * W, 3
    temporary = path.with_suffix('.tmp')
    try:
        Image.fromarray(image.cpu().numpy()).save(temporary, format='png')
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
