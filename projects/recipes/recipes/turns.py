"""A hook that ends training when its time is up."""

import os
import signal
import time
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from stylegan_v_mm.registry import HOOKS

_KEY = 'trained_seconds'


@HOOKS.register_module()
class TurnHook(Hook):
    """End training after so many seconds of training, all turns together.

    Checkpoints hold the seconds so far, so a run that was killed is owed what
    it lost. Reading data counts; starting the process does not.

    Args:
        seconds (float): When the run has trained for so long, it ends.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds

    def before_train(self, runner: Runner) -> None:
        """Start the clock from what the checkpoint says."""
        before = runner.message_hub.runtime_info.get(_KEY, 0)
        self._start = time.monotonic() - before

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Read the clock, and ask the run to save and end if time is up."""
        seconds = time.monotonic() - self._start
        runner.message_hub.update_info(_KEY, seconds)
        if seconds >= self.seconds:
            os.kill(os.getpid(), signal.SIGTERM)
