"""The optimizers of the two networks."""

from collections.abc import Iterator

from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict, build_optim_wrapper
from torch import nn

from ..errors import InputError, nearest, refusals
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS


def param_groups(
    optim_wrapper: OptimWrapper | OptimWrapperDict,
) -> Iterator[dict]:
    """List the parameter groups of all optimizers."""
    wrappers = [optim_wrapper]
    if isinstance(optim_wrapper, OptimWrapperDict):
        wrappers = [wrapper for _, wrapper in sorted(optim_wrapper.items())]
    for wrapper in wrappers:
        yield from wrapper.optimizer.param_groups


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
                wrappers[name] = build_optim_wrapper(networks[name], cfg)
        return OptimWrapperDict(**wrappers)
