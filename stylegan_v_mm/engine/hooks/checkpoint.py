"""Saving checkpoints so that none is ever lost."""

import inspect
import signal
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import get_world_size, is_main_process, master_only
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ...checkpoints.loading import LOG_HISTORY
from ...errors import InputError, nearest
from ...files import remove_unfinished
from ...registry import HOOKS
from .divergence import check_run


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """Save checkpoints every some iterations, at the end, and on SIGTERM.

    Our own, as mmengine's removes an old checkpoint before the new one is
    written, and knows no signals.

    SIGTERM, by which clusters preempt a job, ends training after the current
    iteration with a checkpoint, on all processes if one of them gets it.

    ``best_METRIC_iter_N.pth`` has the weights that measured best so far. It
    does not count among ``max_keep_ckpts``. A resumed run goes on from the
    best value before.

    Args:
        interval (int): Iterations from one checkpoint to the next.
        max_keep_ckpts (int): How many to keep; older ones are removed once
            the new one is on the disk. Defaults to -1, all.
        save_best (str, optional): Name of the metric to keep the best
            weights by, such as ``'FVD16'``. Defaults to None, not kept.
        kwargs: Of mmengine's ``CheckpointHook``, such as ``rule``,
            ``'less'`` or ``'greater'``, for a metric of unknown name.

    Raises:
        InputError: Whether more or less of ``save_best`` is better is not
            known; or, when training starts, nothing is measured.
    """

    # mmengine looks whether a metric's name contains one of these.
    _default_less_keys = (
        'FVD',
        'FID',
        'FD-',
        'KVD',
        'KID',
        'KD-',
        'FlowDist',
        'loss',
    )
    _default_greater_keys = (
        'IS',
        'ISv',
        'Precision',
        'Recall',
        'Density',
        'Coverage',
    )
    best_ckpt_path: str | None

    def __init__(
        self,
        interval: int,
        max_keep_ckpts: int = -1,
        save_best: str | None = None,
        **kwargs: Any,
    ) -> None:
        known = inspect.signature(CheckpointHook.__init__).parameters
        for key in kwargs:
            # mmengine would hand it on when the first checkpoint is saved.
            if key not in known:
                raise InputError(
                    f'SafeCheckpointHook takes no {key!r}{nearest(key, known)}'
                )
        try:
            super().__init__(
                interval, by_epoch=False, save_best=save_best, **kwargs
            )
        except ValueError as error:
            raise InputError(
                f'save_best={save_best!r}: is more or less of it better? Set '
                "default_hooks.checkpoint.rule to 'greater' or 'less'"
            ) from error
        self.num_kept = max_keep_ckpts
        self._signalled = False

    def before_run(self, runner: Runner) -> None:
        """Let another runner than ours read checkpoints, and safely.

        mmengine's leaves to torch what they may hold, which is less than what
        mmengine writes.
        """
        super().before_run(runner)
        torch.serialization.add_safe_globals(LOG_HISTORY)

    def before_train(self, runner: Runner) -> None:
        """Start to listen; clear away what a killed run left half-written."""
        if self.save_best and runner.val_loop is None:
            raise InputError(
                f'save_best={self.save_best[0]!r}, but nothing is measured: '
                'set val_interval, too'
            )
        self._check_name(runner)
        super().before_train(runner)
        # mmengine would warn at each checkpoint that there are none to save.
        self.save_param_scheduler &= bool(runner.param_schedulers)
        self._signalled = False
        self._group = None
        if get_world_size() > 1 and dist.get_backend() != 'gloo':
            # To ask the other processes through GPUs would be a wait for
            # these in each iteration.
            self._group = dist.new_group(backend='gloo')
        self._handler_before = signal.signal(signal.SIGTERM, self._on_signal)
        if is_main_process():
            remove_unfinished(Path(self.out_dir))

    def _check_name(self, runner: Runner) -> None:
        """Check that a metric provides ``save_best``."""
        if not self.save_best:
            return
        name, known = self.save_best[0], []
        for metric in runner.val_loop.evaluator.metrics:
            if not hasattr(metric, 'result_names'):
                return  # Another library's: any name may be its.
            known += metric.result_names
        if name not in known:
            raise InputError(
                f'save_best={name!r}: there is no such metric, only '
                f'{", ".join(known)}'
            )

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
        if self.is_last_train_iter(runner) or not self._asked_to_end():
            return
        if not self.every_n_train_iters(runner, self.interval):
            self._save_checkpoint(runner)
        runner.logger.warning(
            f'SIGTERM: training ends after iteration {runner.iter + 1} of '
            f'{runner.max_iters}; --resume goes on from {self.last_ckpt}'
        )
        runner.train_loop.stop_training = True

    def _on_signal(self, number: int, frame: object) -> None:
        self._signalled = True

    def _asked_to_end(self) -> bool:
        """Whether any process got the signal: all have to end together."""
        if get_world_size() == 1:
            return self._signalled
        flag = torch.tensor(int(self._signalled))
        dist.all_reduce(flag, dist.ReduceOp.MAX, self._group)
        return bool(flag)

    def _save_checkpoint(self, runner: Runner) -> None:
        check_run(runner, runner.iter + 1)
        super()._save_checkpoint(runner)

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

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best:
            return
        (name,) = self.save_best
        if name not in metrics:
            raise InputError(
                f'save_best={name!r}: there is no such metric, only '
                f'{", ".join(metrics)}'
            )
        check_run(runner, runner.iter)
        # mmengine would remove the best so far before it writes the new one.
        best, self.best_ckpt_path = self.best_ckpt_path, None
        super()._save_best_checkpoint(runner, metrics)
        if self.best_ckpt_path is None:
            self.best_ckpt_path = best
            return
        stem = f'best_{name}_'.replace('/', '_')  # as mmengine names it
        files = Path(self.out_dir).glob(stem + self.filename_tmpl.format('*'))
        self._remove(*set(files) - {Path(self.best_ckpt_path)})

    @master_only
    def _remove(self, *paths: Path) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
