"""Saving checkpoints so that none is ever lost."""

import signal
from pathlib import Path

import torch
from mmengine.dist import all_reduce, master_only
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ..registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """Save checkpoints every some iterations, at the end, and on SIGTERM.

    Our own, as mmengine's removes an old checkpoint before the new one is
    written, and knows no signals.

    SIGTERM, by which clusters preempt a job, ends training after the current
    iteration with a checkpoint, on all processes if one of them gets it.

    Args:
        interval (int): Iterations from one checkpoint to the next.
        max_keep_ckpts (int): How many to keep; older ones are removed once
            the new one is on the disk. Defaults to -1, all.
        kwargs: Of mmengine's ``CheckpointHook``, such as ``save_best``.
    """

    def __init__(
        self, interval: int, max_keep_ckpts: int = -1, **kwargs
    ) -> None:
        super().__init__(interval, by_epoch=False, **kwargs)
        self.num_kept = max_keep_ckpts
        self._signalled = False

    def before_train(self, runner: Runner) -> None:
        """Start to listen; clear away what a killed run left half-written."""
        super().before_train(runner)
        # mmengine would warn at each checkpoint that there are none to save.
        self.save_param_scheduler = bool(runner.param_schedulers)
        self._signalled = False
        self._handler_before = signal.signal(signal.SIGTERM, self._on_signal)
        self._remove(*Path(self.out_dir).glob('.*.pth.tmp'))

    def after_train(self, runner: Runner) -> None:
        """Stop to listen."""
        super().after_train(runner)
        signal.signal(signal.SIGTERM, self._handler_before)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Save if it is time to, or if the process is asked to end."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if self.is_last_train_iter(runner) or not self._asked_to_end(runner):
            return
        if not self.every_n_train_iters(runner, self.interval):
            self._save_checkpoint(runner)
        runner.logger.warning(
            f'SIGTERM: training ends after iteration {runner.iter + 1} of '
            f'{runner.max_iters}; --resume goes on from {self.last_ckpt}'
        )
        runner.train_loop.stop_training = True

    def _on_signal(self, number: int, frame) -> None:
        self._signalled = True

    def _asked_to_end(self, runner: Runner) -> bool:
        """Whether any process got the signal: all have to end together."""
        device = next(runner.model.parameters()).device
        flag = torch.tensor(int(self._signalled), device=device)
        all_reduce(flag, 'max')
        return bool(flag)

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict
    ) -> None:
        hub = runner.message_hub
        kept = hub.get_info('keep_ckpt_ids', [])
        kept = [*(other for other in kept if other != step), step]
        # A run that is killed before the removal below does it later.
        hub.update_info('keep_ckpt_ids', kept)
        super()._save_checkpoint_with_step(runner, step, meta)
        if self.num_kept > 0:
            names = map(self.filename_tmpl.format, kept[: -self.num_kept])
            self._remove(*(Path(self.out_dir, name) for name in names))
            hub.update_info('keep_ckpt_ids', kept[-self.num_kept :])

    @master_only
    def _remove(self, *paths: Path) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
