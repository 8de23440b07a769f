"""Settings that both networks of a model share."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ..registry import MODELS, arguments_of

# Arguments of the networks -> the arguments of the model that set them.
_SHARED = dict(
    resolution='resolution',
    c_dim='num_classes',
    num_frames='num_frames',
    max_num_frames='max_num_frames',
    num_fp16_res='num_fp16_res',
    motion_z_distance='motion_period',
    min_period_len='motion_period',
    max_period_len='max_num_frames',
)


def network_config(model: dict, name: str) -> dict:
    """Complete the config of a network with the model's shared settings.

    A network gets the settings that its constructor accepts and its own
    config does not set.

    Args:
        model (dict): Config of a ``StyleGANV``.
        name (str): 'generator' or 'discriminator'.

    Returns:
        dict: A config for ``MODELS.build``.
    """
    config = dict(model[name])
    kind = config.get('type')
    kind = MODELS.get(kind) if isinstance(kind, str) else kind
    known = arguments_of(kind).parameters if kind else ()
    for argument, shared in _SHARED.items():
        if argument in known and model.get(shared) is not None:
            config.setdefault(argument, model[shared])
    return config


@contextmanager
def full_precision(network: nn.Module) -> Iterator[None]:
    """Let the blocks of a network compute in float32 on CPUs, for penalties.

    With AMX, oneDNN's convolutions in bfloat16 give wrong second derivatives
    for some numbers of frames, such as 12 (seen with PyTorch 2.11).
    """
    on_cpu = next(network.parameters()).device.type == 'cpu'
    modules = network.modules() if on_cpu else ()
    blocks = [x for x in modules if hasattr(x, 'half_dtype')]
    before = [block.half_dtype for block in blocks]
    for block in blocks:
        block.half_dtype = None
    try:
        yield
    finally:
        for block, half_dtype in zip(blocks, before):
            block.half_dtype = half_dtype
