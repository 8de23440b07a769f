"""Read what an iteration logs when somebody needs it."""

from typing import Any

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner

from ...registry import HOOKS


@HOOKS.register_module()
class DeferredLogsHook(RuntimeInfoHook):
    """mmengine's hook, but it does not wait for a GPU in each iteration.

    mmengine's reads each logged value at once. This one keeps them, and reads
    them all together when the logger prints, and before anything is saved.
    """

    def before_train(self, runner: Runner) -> None:
        """Find out when the logger prints."""
        super().before_train(runner)
        self._unread: list[dict[str, Any]] = []
        self._interval = min(
            (
                hook.interval
                for hook in runner.hooks
                if isinstance(hook, LoggerHook)
            ),
            default=1,
        )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Keep what was logged; read it if the logger prints now."""
        self._unread.append(outputs)
        if self.every_n_inner_iters(
            batch_idx, self._interval
        ) or self.end_of_epoch(runner.train_dataloader, batch_idx):
            self.read(runner)

    def read(self, runner: Runner) -> None:
        """Hand all that was logged to mmengine's message hub."""
        unread, self._unread = self._unread, []
        tensors = [
            value
            for outputs in unread
            for value in outputs.values()
            if isinstance(value, torch.Tensor)
        ]
        numbers = iter(torch.stack(tensors).tolist() if tensors else ())
        for outputs in unread:
            for key, value in outputs.items():
                if isinstance(value, torch.Tensor):
                    value = next(numbers)
                runner.message_hub.update_scalar(f'train/{key}', value)


def read_logs(runner: Runner) -> None:
    """Make all that was logged known to mmengine's message hub."""
    for hook in runner.hooks:
        if isinstance(hook, DeferredLogsHook):
            hook.read(runner)


def all_is_read(runner: Runner) -> bool:
    """Return whether mmengine's message hub knows all that was logged."""
    return not any(
        hook._unread
        for hook in runner.hooks
        if isinstance(hook, DeferredLogsHook)
    )
