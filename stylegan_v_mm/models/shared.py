"""What both networks of a model share."""

import inspect

from ..registry import MODELS

# Arguments of the networks, and those of the model that set them.
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
    """Return the config of a network, with what the model's config shares.

    A network gets the values that its constructor names, unless its own
    config has them.

    Args:
        model (dict): Config of a ``StyleGANV``.
        name (str): 'generator' or 'discriminator'.

    Returns:
        dict: For ``MODELS.build``.
    """
    config = dict(model[name])
    kind = config.get('type')
    kind = MODELS.get(kind) if isinstance(kind, str) else kind
    known = inspect.signature(kind).parameters if kind else ()
    for argument, shared in _SHARED.items():
        if argument in known and model.get(shared) is not None:
            config.setdefault(argument, model[shared])
    return config
