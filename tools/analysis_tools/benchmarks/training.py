"""How long iterations of training take."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapperDict
from torch import Tensor
from tqdm import tqdm

from stylegan_v_mm.engine import GANOptimWrapperConstructor
from stylegan_v_mm.models import StyleGANV
from stylegan_v_mm.models.batch import Batch
from stylegan_v_mm.models.fakes import count_codes, make_batch

from .measuring import (
    OURS,
    PUBLISHED,
    SAME_ALLOCATION,
    Options,
    Row,
    take_turn,
    ways,
)
from .models import build_baseline, build_ours, one_hot, read_config


class Training:
    """A model and its optimizers.

    Args:
        gan: The model.
        config: Names the optimizers.
        **adam: Options of these to override.
    """

    def __init__(self, gan: StyleGANV, config: Config, **adam: Any):
        self.gan = gan.train()
        optimizers = {
            name: deepcopy(config.optim_wrapper[name])
            for name in ('generator', 'discriminator')
        }
        for optimizer in optimizers.values():
            optimizer.optimizer.update(adam)
        self.optimizers: OptimWrapperDict = GANOptimWrapperConstructor(
            optimizers
        )(gan)

    def state(self) -> tuple[dict, list[dict]]:
        """Copy all that an iteration changes."""
        return deepcopy(self.gan.state_dict()), [
            deepcopy(optimizer.state.get(param, {}))
            for optimizer, param in self._parameters()
        ]

    def restore(self, state: tuple[dict, list[dict]]) -> None:
        """Return to a state, of this model or the other."""
        weights, moments = state
        self.gan.load_state_dict(weights)
        for (optimizer, param), moment in zip(self._parameters(), moments):
            # Either model has its own layout of memory.
            optimizer.state[param] = {
                key: torch.empty_like(param).copy_(value)
                if value.shape == param.shape
                else value.clone()
                for key, value in moment.items()
            }

    def _parameters(self) -> Iterator[tuple[torch.optim.Optimizer, Tensor]]:
        for wrapper in self.optimizers.values():
            for group in wrapper.optimizer.param_groups:
                for param in group['params']:
                    yield wrapper.optimizer, param

    def phases(self, batch: Batch) -> dict[str, Callable[[], dict | None]]:
        """List the parts of an iteration, in their order."""
        gan = self.gan
        parts = batch.split(gan.accumulative_counts)

        def step(name: str, loss: Callable) -> Callable[[], dict]:
            return lambda: gan.step(name, loss, parts, self.optimizers)

        return {
            'G': step('generator', gan.generator_loss),
            'D': step('discriminator', gan.discriminator_loss),
            'R1': step('discriminator', gan.r1_loss),
            'moving average': lambda: gan.update_ema(len(batch.t)),
        }


def build_training(options: Options, way: str) -> Training:
    """Build our model, or the baseline, for training."""
    config = read_config(options)
    config.model.discriminator.num_frames = options.num_frames
    ours = build_ours(options, config)
    if way == OURS:
        # PyTorch has no fused optimizers there.
        adam = dict(foreach=True) if options.device == 'meta' else {}
        return Training(ours, config, **adam)
    baseline = build_baseline(options, config, ours)
    return Training(baseline, config, foreach=False, fused=False)


def random_batch(options: Options, gan: StyleGANV) -> Batch:
    """Draw a batch of clips, and the noise for fake ones."""
    batch, num_frames = options.batch, options.num_frames
    size, c_dim = options.resolution, gan.c_dim

    def times(*shape: int) -> Tensor:
        return torch.randint(1, 9, (*shape, num_frames)).double().cumsum(-1)

    def labels(*shape: int) -> Tensor:
        return one_hot(torch.randint(max(c_dim, 1), shape), c_dim)

    data = dict(
        video=torch.randint(256, (batch, num_frames, 3, size, size)).byte(),
        t=times(batch),
        c=labels(batch),
        gen_t=times(batch, 2),
        gen_c=labels(batch, 2),
    )
    num_codes = count_codes(gan.generator, data)
    data = {key: value.to(options.device) for key, value in data.items()}
    mixing = gan.style_mixing_prob
    return make_batch(gan.generator, data, mixing, num_codes)


def measure_training(
    options: Options, baseline: bool = True
) -> tuple[list[Row], dict[str, float]]:
    """Time iterations; all models start each one from the same state.

    Args:
        options: What to measure.
        baseline: Whether to measure that, too.

    Returns:
        Rows of the phases and of whole iterations, in which R1 counts once
        per interval; and the largest differences between our losses and the
        baseline's.
    """
    ours = build_training(options, OURS)
    models = {OURS: ours}
    if baseline:
        other = build_training(options, PUBLISHED)
        models = {**dict.fromkeys(ways(options.device), other), OURS: ours}
    names = ('G', 'D', 'R1', 'moving average')
    frames = options.batch * options.num_frames
    rows = {
        (name, way): Row(name, way, [], frames)
        for name in names
        for way in models
    }
    differences: dict[str, float] = {}
    for turn in tqdm(range(options.repeats + 1), 'iterations', disable=None):
        torch.manual_seed(turn)
        batch = random_batch(options, ours.gan)
        state = ours.state()
        losses: dict[str, dict] = {}
        for way, model in models.items():
            if turn == 0 and way == SAME_ALLOCATION:
                continue  # the same as the one before
            model.restore(state)
            losses[way] = {}
            for name, phase in model.phases(batch).items():
                torch.manual_seed(turn)
                logs = take_turn(rows[name, way], turn, options, phase)
                losses[way] |= logs or {}
        for name, loss in losses.get(PUBLISHED, {}).items():
            if name == 'bad_gradients':
                continue  # a count
            difference = abs(float(loss - losses[OURS][name]))
            differences[name] = max(differences.get(name, 0.0), difference)
    interval = ours.gan.d_reg_interval
    for way in models:
        if way == SAME_ALLOCATION:
            for name in names:
                rows[name, way].flops = rows[name, PUBLISHED].flops
        parts = [rows[name, way] for name in names]
        shares = (1, 1, 1 / interval, 1)
        rows['iteration', way] = Row(
            work=f'iteration, R1 every {interval}',
            way=way,
            seconds=[
                sum(
                    share * part.seconds[i]
                    for share, part in zip(shares, parts)
                )
                for i in range(options.repeats)
            ],
            frames=frames,
            flops=round(sum(s * part.flops for s, part in zip(shares, parts))),
        )
    return list(rows.values()), differences
