"""Numbers that change in the course of training."""

import math
from itertools import pairwise
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...errors import InputError, nearest
from ...registry import HOOKS

# Of the model, and what a CUDA graph freezes of them.
_OF_MODEL = {
    *('r1_gamma', 'r2_gamma', 'pl_weight', 'style_mixing_prob', 'ema_kimg')
}
_FROZEN = {'r1_gamma', 'r2_gamma', 'pl_weight'}
_OF_OPTIMIZERS = {'lr', 'beta2'}
_MOST = dict(style_mixing_prob=1, augment_p=1, beta2=0.9999)
_ALL = {*_OF_MODEL, *_OF_OPTIMIZERS, 'augment_p'}


def scheduled(points: list[tuple[float, float]], kimg: float) -> float:
    """Return a value that follows half cosine waves from point to point.

    Args:
        points (list): Pairs (kimg, value) with ascending kimg.
        kimg (float): Where to look: before the first point, the value is that
            of the first one; after the last point, that of the last one.
    """
    if kimg <= points[0][0]:
        return points[0][1]
    for (start, first), (end, last) in pairwise(points):
        if kimg < end:
            phase = math.pi * (kimg - start) / (end - start)
            return first + (last - first) * (1 - math.cos(phase)) / 2
    return points[-1][1]


@HOOKS.register_module()
class ScheduleHook(Hook):
    """Change numbers with the real frames seen so far, in thousands (kimg).

    The cosine is that of Huang et al. 2024 ("The GAN is dead; long live the
    GAN!", appendix). Values depend on the count of frames alone, so a resumed
    run goes on with the right ones. Those of the model and ``beta2`` are
    logged.

    Args:
        schedules (dict): Name -> pairs (kimg, value), see :func:`scheduled`.
            Names are ``r1_gamma``, ``r2_gamma``, ``pl_weight``,
            ``style_mixing_prob`` and ``ema_kimg`` of the model, ``augment_p``
            (which needs ``augment.ada_target=None``), and ``lr`` and
            ``beta2`` of both optimizers. The last two are corrected for lazy
            regularisation, as those of the config: a learning rate is
            multiplied by n / (n + 1) and a beta raised to that power if every
            n-th iteration has a penalty.

    Raises:
        InputError: A name is unknown, or points are out of order or range.
    """

    # The log of an iteration shows its own learning rate.
    priority = 'HIGHEST'

    def __init__(self, schedules: dict):
        for name, points in schedules.items():
            if name not in _ALL:
                raise InputError(
                    f'schedules.{name}: no such number{nearest(name, _ALL)}; '
                    f'choose from {", ".join(sorted(_ALL))}'
                )
            _check_points(name, points)
        self.schedules = schedules

    def before_train(self, runner: Runner) -> None:
        """Check that the run has what is scheduled.

        Raises:
            InputError: It has not, or something else sets it.
        """
        model, names = runner.model, self.schedules.keys()
        if 'augment_p' in names and (
            model.augment is None or model.augment.ada_target is not None
        ):
            raise InputError(
                'schedules.augment_p needs model.augment with '
                'ada_target=None: otherwise the signs of the logits set p'
            )
        frozen = sorted(names & _FROZEN)
        if frozen and model.graphs is not None:
            raise InputError(
                f'schedules.{frozen[0]}: model.cuda_graph=True freezes it; '
                'set one of them only'
            )
        moved = sorted(names & _OF_OPTIMIZERS)
        if moved and runner.param_schedulers:
            raise InputError(
                f'schedules.{moved[0]}: param_scheduler sets the same; remove '
                'one of them'
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Set all values for this iteration."""
        model = runner.model
        for name, points in self.schedules.items():
            value = scheduled(points, model.frames_seen / 1000)
            if name == 'augment_p':
                model.augment.p.fill_(value)  # which the model logs
            elif name in _OF_MODEL:
                setattr(model, name, value)
            else:
                for network, interval in (
                    ('generator', model.g_reg_interval),
                    ('discriminator', model.d_reg_interval),
                ):
                    lazy = interval / (interval + 1)
                    for group in runner.optim_wrapper[network].param_groups:
                        if name == 'lr':
                            group['lr'] = value * lazy
                        else:
                            group['betas'] = group['betas'][0], value**lazy
            if name not in ('augment_p', 'lr'):
                runner.message_hub.update_scalar(f'train/{name}', value)


def _check_points(name: str, points: Any) -> None:
    """Check the points of a schedule.

    Raises:
        InputError: They are no pairs of numbers, or out of order or range.
    """
    pairs = isinstance(points, list | tuple) and all(
        isinstance(point, list | tuple)
        and len(point) == 2
        and all(type(x) in (int, float) and math.isfinite(x) for x in point)
        for point in points
    )
    if not pairs or not points:
        raise InputError(
            f'schedules.{name}={points!r} must be a list of pairs '
            '(kimg, value), such as [(0, 20), (500, 2)]'
        )
    if any(a[0] >= b[0] for a, b in pairwise(points)):
        raise InputError(f'schedules.{name}={points!r}: the kimg must ascend')
    most = _MOST.get(name, math.inf)
    for _, value in points:
        if not 0 <= value <= most:
            raise InputError(
                f'schedules.{name}: {value} must be from 0 to {most}'
            )
