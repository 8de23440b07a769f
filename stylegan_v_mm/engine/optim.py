"""The optimizers of the two networks."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict, build_optim_wrapper
from torch import nn
from torch.optim import Optimizer

from ..errors import InputError, nearest, refusals
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS, arguments_of

#: Settings of torch's optimizers that choose how the same is computed.
IMPLEMENTATIONS = ('foreach', 'fused', 'capturable', 'differentiable')


def list_optimizers(
    optim_wrapper: OptimWrapper | OptimWrapperDict,
) -> list[Optimizer]:
    """List all optimizers."""
    if isinstance(optim_wrapper, OptimWrapperDict):
        return [wrapper.optimizer for wrapper in optim_wrapper.values()]
    return [optim_wrapper.optimizer]


@contextmanager
def keeping_settings(
    optim_wrapper: OptimWrapper | OptimWrapperDict, scheduled: bool
) -> Iterator[None]:
    """Let optimizers keep their settings when they load a state.

    Args:
        optim_wrapper (OptimWrapper): Of the optimizers.
        scheduled (bool): Whether schedulers move settings, such as ``lr``.
            Then only :data:`IMPLEMENTATIONS` are kept, on which it depends
            where torch puts what it loads.
    """

    def keep(optimizer: Optimizer, state: dict) -> dict:
        groups = [dict(group) for group in state['param_groups']]
        for group, ours in zip(groups, optimizer.param_groups):
            for key, value in ours.items():
                ours_counts = key in IMPLEMENTATIONS or not scheduled
                if ours_counts and key != 'params':
                    group[key] = value
        return {**state, 'param_groups': groups}

    hooks = [
        optimizer.register_load_state_dict_pre_hook(keep)
        for optimizer in list_optimizers(optim_wrapper)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GANOptimWrapperConstructor:
    """Build an optimizer for each network that the config names.

    Our own, as mmagic's ``MultiOptimWrapperConstructor`` imports all of
    mmagic's models.

    Raises:
        InputError: ``accumulative_counts`` is set here: mmengine's would
            step one network between two parts of the other's batch.

    Args:
        optim_wrapper_cfg (dict): Name of a child of the model -> config of
            its ``OptimWrapper``.
        paramwise_cfg (dict, optional): Not used; mmengine's signature.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ):
        for name, cfg in optim_wrapper_cfg.items():
            if not isinstance(cfg, dict):
                raise InputError(
                    f'optim_wrapper.{name}={cfg!r} must be a dict with an '
                    'optimizer'
                )
            if cfg.get('accumulative_counts', 1) != 1:
                raise InputError(
                    f'optim_wrapper.{name}.accumulative_counts: set the '
                    'variable accumulative_counts of the config instead'
                )
        self.optim_wrapper_cfg = optim_wrapper_cfg

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Build ``OptimWrapperDict(generator=..., discriminator=...)``.

        Raises:
            InputError: The model has no such network or is wrapped, or a
                value is out of range.
        """
        if is_model_wrapper(model):
            raise InputError(
                f'the model is inside of a {type(model).__name__}: set '
                "model_wrapper_cfg=dict(type='stylegan_v_mm.EqualReplicas')"
            )
        networks, wrappers = dict(model.named_children()), {}
        for name, cfg in self.optim_wrapper_cfg.items():
            if name not in networks:
                raise InputError(
                    f'optim_wrapper.{name}: the model has no such network'
                    f'{nearest(name, networks)}'
                )
            with refusals(f'optim_wrapper.{name}'):
                wrappers[name] = build_optim_wrapper(
                    networks[name], _fused(cfg)
                )
        return OptimWrapperDict(**wrappers)


def _fused(cfg: dict) -> dict:
    """Let torch's optimizers step in one kernel, unless the config says how.

    torch's default is a kernel or more for each weight on CPUs, and several
    for all on GPUs.
    """
    optimizer = cfg.get('optimizer', {})
    kind = optimizer.get('type')
    kind = OPTIMIZERS.get(kind) if isinstance(kind, str) else kind
    known = arguments_of(kind).parameters if kind else ()
    if 'fused' not in known or optimizer.keys() & set(IMPLEMENTATIONS):
        return cfg
    return {**cfg, 'optimizer': {**optimizer, 'fused': True}}
