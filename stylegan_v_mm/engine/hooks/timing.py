"""Hooks that time training."""

import time
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook, IterTimerHook
from mmengine.runner import Runner

from ...registry import HOOKS


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
