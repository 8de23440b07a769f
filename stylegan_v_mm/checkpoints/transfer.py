"""Start a run from the weights of another one, as far as they fit."""

import math
import re
from collections import Counter
from typing import Any

import torch
from mmengine.logging import MMLogger
from torch import Tensor, nn

from ..errors import InputError
from .loading import plain_names

# The networks whose weights are transferred, and the buffers in them that the
# config determines.
_NETWORKS = ('generator', 'generator_ema', 'discriminator')
_CONSTANTS = ('freqs', 'phase_scales', 'fourier_coefs')
# The block at 4x4, where the generator starts.
_START = 'synthesis.b4'


def transfer_weights(model: nn.Module, checkpoint: dict, path: str) -> str:
    """Copy the weights of another run into a model, as far as they fit.

    Generator, moving average and discriminator take the tensors that have
    the same name, shape and meaning. The run's counters, augmentation and
    optimizers start anew. So does a tensor of another shape, unless the shape
    differs only because of

    - the classes: inputs of ``mapping.embed`` and of the first layer of the
      motion codes, and whether ``mapping.fc0`` sees a label;
    - the number of frames per clip: inputs of the block that concatenates
      them, and of the discriminator's ``mapping.embed``, which sees the gaps
      between them;
    - ``max_num_frames``: rows of ``const_embed``, one for each gap, and the
      waves over gaps that ``mapping.embed`` sees;
    - the motion codes or coordinates beside the constant at 4x4: inputs of
      the first layer and of its style. A model of videos can thus start from
      a model of images, which at first are its frames.

    Then the part that both tensors have is copied. Its values are scaled by
    the square root of the ratio of the numbers of inputs, as equalised layers
    divide by it, so what was learned keeps its effect. New inputs start with
    weight zero, so a network that gets a label or more frames first does what
    it did without them. New classes and rows keep their random values: the
    embedding is normalised, and zeros cannot be; the styles of inputs whose
    weight is zero have no effect yet.

    Args:
        model (StyleGANV): The model in its initial state.
        checkpoint (dict): From :func:`load_checkpoint`.
        path (str): Path of the file, for messages.

    Returns:
        str: A table for the log: for each part of the networks, how many
        tensors are loaded, reshaped, new (random) and left out (only in the
        checkpoint). A tensor whose shape does not fit is both new and left
        out.

    Raises:
        InputError: The checkpoint has none of the networks, or nothing fits.
    """
    ours = model.state_dict()
    theirs = checkpoint.get('state_dict')
    theirs = plain_names(theirs if isinstance(theirs, dict) else {}, ours)
    if not any(name.startswith('generator.') for name in theirs):
        # If a file lacks the generator, it starts as the average.
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
            f'model.discriminator.freeze_layers freezes {len(random)} tensors '
            f'at random values, such as {random[0]}: {path} has none that fit'
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
    """Rename the constant at 4x4 as it is named in our model.

    As in the published models, it is ``input.const`` [1, C, 4, 4] with motion
    and ``input`` [C, 4, 4] without.
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
    """Select the learned weights of the networks.

    Args:
        state (dict): A state dict with our names.

    Returns:
        dict: The tensors of generator, average and discriminator that the
        config does not determine.
    """
    return {
        name: value
        for name, value in state.items()
        if isinstance(value, Tensor)
        and name.split('.')[0] in _NETWORKS
        and name.split('.')[-1] not in _CONSTANTS
    }


def _first_inputs(network: str, state: dict[str, Tensor]) -> dict:
    """Count the inputs of a generator's first layer, see :func:`_inputs`."""
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
    """Count the rows of a tensor by kind, see :func:`_inputs`."""
    network, _, layer = name.partition('.')
    outputs: dict[Any, int] = {}
    if layer.endswith('const_embed.weight'):
        outputs = {('gap', i): 1 for i in range(len(state[name]))}
    elif layer.startswith(f'{_START}.conv1.affine.'):
        outputs = _first_inputs(network, state)
    return {kind: count for kind, count in outputs.items() if count > 0}


def _inputs(name: str, state: dict[str, Tensor]) -> dict:
    """Count the inputs of a layer by kind, if models differ in them.

    Args:
        name (str): Name of its weight.
        state (dict): The state dict that holds the weight.

    Returns:
        dict: Kind of input to number of inputs, in the layer's order.
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
        ``ours[name]``; None if it cannot be made to fit.
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
    # Equalised layers divide by the square root of the number of inputs. An
    # LSTM does not, and modulated weights are normalised.
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
    """Count the names of each column for each part of the model.

    A part is, for example, ``generator.mapping`` or
    ``generator.synthesis.b64``.
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
