"""Starting a run from the weights of another one, as far as they fit."""

import math
import re
from collections import Counter
from typing import Any

import torch
from mmengine.logging import MMLogger
from torch import Tensor, nn

from ..errors import InputError
from .loading import plain_names

# What another run can start from: the weights of these networks, but for
# what the config determines.
_NETWORKS = ('generator', 'generator_ema', 'discriminator')
_CONSTANTS = ('freqs', 'phase_scales', 'fourier_coefs')
# The block at 4x4, where the generator starts.
_START = 'synthesis.b4'


def transfer_weights(model: nn.Module, checkpoint: dict, path: str) -> str:
    """Start from the weights of another run, as far as they fit.

    Generator, moving average and discriminator take the tensors that have
    the same name, shape and meaning. The run's counters, augmentation and
    optimizers start anew, and so does a tensor of another shape, unless only
    this differs:

    - the classes: inputs of ``mapping.embed`` and of the first layer of the
      motion codes, and whether ``mapping.fc0`` sees a label;
    - the frames a clip: inputs of the block that joins them, and of the
      discriminator's ``mapping.embed``, which sees the gaps between them;
    - ``max_num_frames``: rows of ``const_embed``, one for each gap, and the
      waves over gaps that ``mapping.embed`` sees;
    - what stands beside the constant at 4x4, motion codes or coordinates:
      inputs of the first layer and of its style. So a model of images starts
      one of videos, whose frames first are its pictures.

    Then the part that both have is copied. Its values are scaled by the root
    of the ratio of the inputs, as equalised layers divide by it: what was
    learned keeps its effect. New inputs start with weight zero, so that a
    network which gets a label, or more frames, first does what it did
    without. New classes and rows keep their random start: the embedding is
    normalised, and of zeros there would be nothing to normalise; styles of
    inputs whose weight is zero have no effect yet.

    Args:
        model (StyleGANV): In its initial state.
        checkpoint (dict): From :func:`load_checkpoint`.
        path (str): Of the file, for messages.

    Returns:
        str: A table for the log: for each part of the networks, how many
        tensors are loaded, reshaped, new (random) and left out (in the
        checkpoint alone). A tensor of a shape that does not fit is both of
        the latter.

    Raises:
        InputError: The checkpoint has no such networks, or nothing fits.
    """
    ours = model.state_dict()
    theirs = checkpoint.get('state_dict')
    theirs = plain_names(theirs if isinstance(theirs, dict) else {}, ours)
    if not any(name.startswith('generator.') for name in theirs):
        # A file may lack the generator: it starts as its average.
        theirs = theirs | {
            name.replace('generator_ema.', 'generator.'): value
            for name, value in theirs.items()
        }
    theirs = _with_our_constant(theirs, ours)
    wanted, offered = learned_weights(ours), learned_weights(theirs)
    if not offered:
        raise InputError(
            f'{path} is not a checkpoint of this library: it holds no '
            'generator and no discriminator'
        )
    fitted = {
        name: value
        for name in wanted
        if name in offered and (value := _fit(name, ours, theirs)) is not None
    }
    if not fitted:
        raise InputError(
            f'nothing in {path} fits the config: no tensor of its networks '
            'has the same name and shape'
        )
    with torch.no_grad():
        for name, value in fitted.items():
            ours[name].copy_(value)
    new = [name for name in wanted if name not in fitted]
    frozen = {
        f'discriminator.{name}'
        for name, param in model.discriminator.named_parameters()
        if not param.requires_grad
    }
    random = [name for name in new if name in frozen]
    if random:
        MMLogger.get_current_instance().warning(
            f'model.discriminator.freeze_layers keeps {len(random)} tensors '
            f'at their random start, such as {random[0]}: {path} has none '
            'that fit'
        )
    reshaped = [name for name in fitted if fitted[name] is not theirs[name]]
    columns = {
        'loaded': [name for name in fitted if name not in reshaped],
        'reshaped': reshaped,
        'new': new,
        'left out': [name for name in offered if name not in fitted],
    }
    shapes = [
        f'{name} {list(theirs[name].shape)} -> {list(ours[name].shape)}'
        for name in reshaped
    ]
    return '\n'.join([_table(columns), *map('reshaped: {}'.format, shapes)])


def _with_our_constant(theirs: dict, ours: dict) -> dict:
    """Call the constant at 4x4 as we do.

    Beside motion, it is published as ``input.const`` [1, C, 4, 4] and alone as
    ``input`` [C, 4, 4].
    """
    renamed = dict(theirs)
    for network in _NETWORKS:
        alone = f'{network}.{_START}.input.input'
        joined = f'{alone}.const'
        if alone in theirs and joined in ours:
            renamed[joined] = renamed.pop(alone)[None]
        elif joined in theirs and alone in ours:
            renamed[alone] = renamed.pop(joined)[0]
    return renamed


def learned_weights(state: dict) -> dict[str, Tensor]:
    """Pick what training has changed in the networks.

    Args:
        state (dict): A state dict with our names.

    Returns:
        dict: Of its tensors, those of generator, average and discriminator
        that the config does not determine.
    """
    return {
        name: value
        for name, value in state.items()
        if isinstance(value, Tensor)
        and name.split('.')[0] in _NETWORKS
        and name.split('.')[-1] not in _CONSTANTS
    }


def _first_inputs(network: str, state: dict[str, Tensor]) -> dict:
    """Say what the first layer of a generator sees, see :func:`_inputs`."""
    none = torch.empty(0)

    def part(name: str) -> Tensor:
        return state.get(f'{network}.{_START}.{name}', none)

    constant = part('input.input').numel() + part('input.input.const').numel()
    constant //= 4 * 4
    coordinates = part('input.coords.conv1.bias').numel()
    weight = part('conv1.weight')
    if constant == 0 or weight.ndim < 2:
        return {}
    return {
        'constant': constant,
        'motion': weight.shape[1] - constant - coordinates,
        'coordinates': coordinates,
    }


def _outputs(name: str, state: dict[str, Tensor]) -> dict:
    """Say what the rows of a tensor are, as :func:`_inputs` does."""
    network, _, layer = name.partition('.')
    outputs: dict[Any, int] = {}
    if layer.endswith('const_embed.weight'):
        outputs = {('gap', i): 1 for i in range(len(state[name]))}
    elif layer.startswith(f'{_START}.conv1.affine.'):
        outputs = _first_inputs(network, state)
    return {kind: count for kind, count in outputs.items() if count > 0}


def _inputs(name: str, state: dict[str, Tensor]) -> dict:
    """Say what the inputs of a layer are, where models differ in that.

    Args:
        name (str): Of its weight.
        state (dict): The state dict that holds it.

    Returns:
        dict: Kind of input -> how many of them, in their order.
    """
    network, _, layer = name.partition('.')
    width = state[name].shape[1] if state[name].ndim > 1 else 0
    embed = state.get('generator.mapping.embed.weight', torch.empty(0, 0))
    classes: dict[Any, int] = {('class', i): 1 for i in range(embed.shape[1])}
    inputs: dict[Any, int] = {}
    if layer.endswith('mapping.fc0.weight'):
        embed = state.get(name.replace('fc0', 'embed'), ())
        inputs = {'noise': width - len(embed), 'label': len(embed)}
    elif layer.endswith(
        ('motion_encoder.conv.0.weight', 'motion_encoder.rnn.weight_ih_l0')
    ):
        inputs = {'noise': width - len(classes)} | classes
    elif layer == f'{_START}.conv1.weight':
        inputs = _first_inputs(network, state)
    elif layer.endswith('mapping.embed.weight'):
        inputs = classes
        encoder = f'{network}.time_encoder'
        if f'{encoder}.const_embed.weight' in state:
            learned = state[f'{encoder}.const_embed.weight'].shape[1]
            coefs = state[f'{encoder}.time_encoder.fourier_coefs'][0]
            freqs = [f'{coef:.4g}' for coef in coefs.tolist()]
            gap_width = learned + 2 * len(freqs)
            for gap in range((width - len(classes)) // gap_width):
                inputs[gap, 'learned'] = learned
                inputs |= {(gap, 'sin', freq): 1 for freq in freqs}
                inputs |= {(gap, 'cos', freq): 1 for freq in freqs}
    elif network == 'discriminator' and (
        match := re.fullmatch(r'b(\d+)\.(conv0|skip)\.weight', layer)
    ):
        before = f'discriminator.b{2 * int(match[1])}.conv1.weight'
        channels = len(state[before]) if before in state else width
        inputs = {('frame', i): channels for i in range(width // channels)}
    return {kind: count for kind, count in inputs.items() if count > 0}


def _fit(
    name: str, ours: dict[str, Tensor], theirs: dict[str, Tensor]
) -> Tensor | None:
    """Make a tensor of another run fit, see :func:`transfer_weights`.

    Returns:
        Tensor, optional: ``theirs[name]`` itself, or a tensor shaped as
        ``ours[name]``; None if there is no good way.
    """
    new, old = ours[name], theirs[name]
    if new.ndim != old.ndim:
        return None
    axis, wanted, offered = 0, _outputs(name, ours), _outputs(name, theirs)
    if wanted == offered:
        axis, wanted, offered = 1, _inputs(name, ours), _inputs(name, theirs)
    if wanted == offered:
        return old if new.shape == old.shape else None
    shared = wanted.keys() & offered.keys()
    if (
        not shared
        or sum(offered.values()) != old.shape[axis]
        or any(wanted[kind] != offered[kind] for kind in shared)
        or new.narrow(axis, 0, 1).shape != old.narrow(axis, 0, 1).shape
    ):
        return None
    # Equalised layers divide by the root of the inputs. An LSTM does not, and
    # modulated weights are normalised.
    gain = 1.0
    if axis == 1 and '.rnn.' not in name and f'.{_START}.' not in name:
        gain = math.sqrt(new.shape[1] / old.shape[1])
    parts = dict(zip(offered, old.split([*offered.values()], axis)))
    value = new.clone()
    for kind, part in zip(wanted, value.split([*wanted.values()], axis)):
        if kind in parts:
            part.copy_(parts[kind] * gain)
        elif axis == 1 and not (
            kind[0] == 'class' and name.endswith('embed.weight')
        ):
            part.zero_()
    return value


def _table(columns: dict[str, list[str]]) -> str:
    """Count the names of each column by the part of the model.

    Parts are as ``generator.mapping`` or ``generator.synthesis.b64``.
    """
    counts: dict[str, Counter[str]] = {}
    for column, names in columns.items():
        for name in names:
            parts = name.split('.')
            depth = 3 if parts[1] == 'synthesis' else 2
            counts.setdefault('.'.join(parts[:depth]), Counter())[column] += 1

    in_order = sorted(
        counts,
        key=lambda part: [
            int(x) if x.isdigit() else x for x in re.split('([0-9]+)', part)
        ],
    )
    total = {column: len(names) for column, names in columns.items()}
    rows = [(part, counts[part]) for part in in_order] + [('total', total)]
    lines = [f'{"":40}' + ''.join(f'{column:>10}' for column in columns)]
    for part, count in rows:
        numbers = (f'{count[column]:10}' for column in columns)
        lines.append(f'{part:40}' + ''.join(numbers))
    return '\n'.join(lines)
