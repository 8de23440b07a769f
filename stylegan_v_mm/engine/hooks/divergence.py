"""Stop a run that diverges."""

from itertools import compress
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...checkpoints.saving import numbered_checkpoints
from ...errors import InputError
from ...registry import HOOKS
from .logs import all_is_read, read_logs

# Between the mean logits of real and fake clips.
_LARGEST_GAP = 1e4
_WINDOW = 50  # iterations in which something must last


@HOOKS.register_module()
class DivergenceHook(Hook):
    """Stop training that has gone wrong, before anything of it is saved.

    It looks whenever logged values are read (see ``DeferredLogsHook``), and
    before a preview or a checkpoint is written. Training has gone wrong if

    - a logged value (a loss, logits, a penalty) is not finite; or
    - anything that a checkpoint would hold of the model is not finite; or
    - gradients were not finite in each of the last 50 iterations. Single ones
      count as 0, as in published runs: half precision overflows now and then.
      The first is a warning; or
    - the logits of real and fake clips are 10000 apart, on the average of the
      last 50 iterations. In healthy runs they are tens apart at most, with
      Wasserstein losses, too.

    So all checkpoints that are there are good. Processes agree on what they
    found and stop together. The cost is one reading of all weights, half a
    millisecond for a million on a CPU core.
    """

    # After mmengine's LoggerHook: the log shows what was found. Before
    # SafeCheckpointHook and VideoPreviewHook.
    priority = 'LOW'

    def __init__(self) -> None:
        self._warned = False
        #: Iterations that have been looked at.
        self._checked = 0
        #: Names of what the model logs, as keys: in the model's order, so that
        #: the same fault gets the same message.
        self._names: dict[str, None] = {}
        #: Number of logged values that have been looked at, by name.
        self._seen: dict[str, int] = {}

    def before_train(self, runner: Runner) -> None:
        """Leave out what a resumed run has logged before."""
        self._checked = runner.iter
        for key, history in runner.message_hub.log_scalars.items():
            self._seen[key] = len(history.data[0])

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Look at what was logged and at the weights, if values were read.

        Raises:
            InputError: See :meth:`check`.
        """
        self._names.update((f'train/{name}', None) for name in outputs)
        if all_is_read(runner):
            self.check(runner, runner.iter + 1)

    def check(self, runner: Runner, num_done: int) -> None:
        """Look at all values that were read since last time, and at weights.

        Args:
            runner (Runner): Who trains.
            num_done (int): Iterations that are done.

        Raises:
            InputError: Training has gone wrong: how, in which iterations, and
                the newest checkpoint before that.
        """
        if num_done == self._checked:
            return
        news = self._news(runner)
        problem = self._in_logs(runner, news) or self._in_weights(runner)
        first, self._checked = self._checked + 1, num_done
        for key, values in news.items():
            self._seen[key] = self._seen.get(key, 0) + len(values)
        where = (
            f'iteration {num_done}'
            if first == num_done
            else f'iterations {first} to {num_done}'
        )
        if not problem:
            self._warn_of_gradients(runner, news, where)
            return
        good = [
            path
            for path in numbered_checkpoints(runner.work_dir)
            if int(path.stem.removeprefix('iter_')) < first
        ]
        advice = (
            f'the newest checkpoint before is {good[0]}: go on from it by '
            f'--resume {good[0]}, but with'
            if good
            else 'no checkpoint was written before: start anew, with a lower '
            'lr,'
        )
        raise InputError(
            f'training has gone wrong in {where}: '
            f'{problem}; {advice} a higher model.r1_gamma or num_fp16_res=0: '
            'the same settings would end the same'
        )

    def _news(self, runner: Runner) -> dict[str, np.ndarray]:
        """Return the logged values that have not been looked at, by name."""
        histories = runner.message_hub.log_scalars
        return {
            key: histories[key].data[0][self._seen.get(key, 0) :]
            for key in self._names
            if key in histories
        }

    def _warn_of_gradients(
        self, runner: Runner, news: dict[str, np.ndarray], where: str
    ) -> None:
        bad = news.get('train/bad_gradients', np.zeros(0))
        if not self._warned and bad.any():
            self._warned = True
            runner.logger.warning(
                f'{where}: gradients of {int(bad.max())} weights '
                'are not finite and count as 0; bad_gradients in the log '
                'counts further ones'
            )

    @staticmethod
    def _in_logs(runner: Runner, news: dict[str, np.ndarray]) -> str:
        """Name what is wrong with the logged values; '' if nothing is."""
        for key, values in news.items():
            wrong = values[~np.isfinite(values)]
            if len(wrong) > 0:
                return f'{key.removeprefix("train/")} is {wrong[0]}'
        histories = runner.message_hub.log_scalars
        bad = histories.get('train/bad_gradients')
        if bad and len(bad.data[0]) >= _WINDOW and bad.min(_WINDOW) > 0:
            return f'no iteration of {_WINDOW} had finite gradients'
        logits = [f'train/logits_{kind}' for kind in ('real', 'fake')]
        if histories.keys() >= {*logits}:
            real, fake = (histories[key].mean(_WINDOW) for key in logits)
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


def check_run(runner: Runner, num_done: int) -> None:
    """Check a run before something of it is saved.

    Args:
        runner (Runner): Who trains.
        num_done (int): Iterations that are done.

    Raises:
        InputError: See :meth:`DivergenceHook.check`.
    """
    read_logs(runner)
    for hook in runner.hooks:
        if isinstance(hook, DivergenceHook):
            hook.check(runner, num_done)
