"""The optimizers of the two networks."""

import inspect

from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict, build_optim_wrapper
from torch import nn
from torch.optim import Optimizer

from ..errors import InputError, nearest, refusals
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS

#: Settings of torch's optimizers that choose how the same is computed.
IMPLEMENTATIONS = ('foreach', 'fused', 'capturable', 'differentiable')


def list_optimizers(
    optim_wrapper: OptimWrapper | OptimWrapperDict,
) -> list[Optimizer]:
    """List all optimizers."""
    if isinstance(optim_wrapper, OptimWrapperDict):
        wrappers = [wrapper for _, wrapper in sorted(optim_wrapper.items())]
        return [wrapper.optimizer for wrapper in wrappers]
    return [optim_wrapper.optimizer]


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
                    networks[name], _fused(cfg, networks[name])
                )
        return OptimWrapperDict(**wrappers)


def _fused(cfg: dict, network: nn.Module) -> dict:
    """Let torch's optimizers step in one kernel on GPUs, unless told how."""
    optimizer = cfg.get('optimizer', {})
    kind = optimizer.get('type')
    kind = OPTIMIZERS.get(kind) if isinstance(kind, str) else kind
    known = inspect.signature(kind).parameters if kind else {}
    on_cpu = all(param.device.type == 'cpu' for param in network.parameters())
    chosen = any(optimizer.get(key) is not None for key in IMPLEMENTATIONS)
    if on_cpu or chosen or 'fused' not in known:
        return cfg
    return {**cfg, 'optimizer': {**optimizer, 'fused': True}}
