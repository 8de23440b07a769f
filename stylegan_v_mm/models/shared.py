"""Settings that both networks of a model share."""

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
