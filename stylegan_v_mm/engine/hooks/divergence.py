"""Stop a run that diverges."""

import math
from itertools import compress
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...checkpoints.saving import numbered_checkpoints
from ...errors import InputError
from ...registry import HOOKS

# Between the mean logits of real and fake clips.
_LARGEST_GAP = 1e4
_WINDOW = 50  # iterations in which something must last


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
