"""Read published snapshots without executing anything in them.

Snapshots are pickles from training runs of StyleGAN-V, of its MoCoGAN+SG2
baseline and of StyleGAN2-ADA (PyTorch).
"""

import math
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from ..models.augment import PIPELINES
from .pickled_tensors import network_state, network_tensors
from .pickles import Record, read_pickle

NETWORKS = {'generator': 'G', 'generator_ema': 'G_ema', 'discriminator': 'D'}
#: Kinds of snapshots.
VIDEOS, BASELINE, IMAGES = 'StyleGAN-V', 'MoCoGAN+SG2', 'StyleGAN2-ADA'
COND_TYPES = ('concat_const', 'concat_w', 'sum_w')
MOTION_TYPES = {'conv': 'conv', 'autoregressive': 'lstm'}


class Network(NamedTuple):
    """A network of a snapshot.

    Attributes:
        state (dict): Its attributes, see ``network_state``.
        tensors (dict): Name to parameter or buffer.
    """

    state: dict
    tensors: dict[str, Tensor]

    def submodule(self, *names: str) -> 'Network':
        """Return a submodule, without its tensors."""
        state = self.state
        for name in names:
            state = network_state(state['_modules'].get(name))
        return Network(state, {})

    def number(
        self, *keys: str, kind: Any = int, default: int | None = None
    ) -> float:
        """Read a number from the attributes, see :func:`setting`.

        Raises:
            InputError: It is not a number, or it is missing and there is no
                default.
        """
        value = setting(self.state, *keys)
        if value is None and default is not None:
            return default
        if not isinstance(value, int | kind) or not 0 <= value < 2**31:
            raise InputError(f'it has no valid {".".join(keys)}')
        return value

    def text(self, *keys: str, choices: Collection[str]) -> str:
        """Read a word, one of ``choices``, from the attributes."""
        value = setting(self.state, *keys)
        if not isinstance(value, str) or value not in choices:
            raise InputError(
                f'its {".".join(keys)} is not one of {", ".join(choices)}'
            )
        return value

    @property
    def mapping_layers(self) -> int:
        """Return the number of layers of the mapping network, if any."""
        return sum(
            re.fullmatch(r'mapping\.fc\d+\.weight', name) is not None
            for name in self.tensors
        )


class Snapshot(NamedTuple):
    """Content of a snapshot in terms of our configs.

    Attributes:
        kind (str): One of :data:`VIDEOS`, :data:`BASELINE`, :data:`IMAGES`.
        networks (dict): The networks, keyed by our names.
        variables (dict): Top-level variables of a config.
        generator (dict): Arguments of the generator.
        discriminator (dict): Arguments of the discriminator; empty if there
            is none.
        augment (dict, optional): Arguments of the augmentation, if any.
        progress (dict): Buffers of the training: ``augment.p``, ...
        facts (dict): Further facts to show.
    """

    kind: str
    networks: dict[str, Network]
    variables: dict
    generator: dict
    discriminator: dict
    augment: dict | None
    progress: dict[str, Tensor]
    facts: dict[str, str]


def read_snapshot(path: Path) -> Snapshot:
    """Read a published snapshot.

    Raises:
        InputError: It cannot be read safely, or it is of an unsupported
            kind.
    """
    content = read_pickle(path)
    if not isinstance(content, dict) or content.get('G_ema') is None:
        raise InputError('it holds no G_ema: it is not a snapshot of a GAN')
    networks = {
        ours: Network(
            network_state(content[theirs]),
            network_tensors(content[theirs], ('resample_filter',)),
        )
        for ours, theirs in NETWORKS.items()
        if content.get(theirs) is not None
    }
    facts = {}
    if 'generator' not in networks:
        networks['generator'] = networks['generator_ema']
        facts['without G'] = 'the generator starts as its average'
    ema = networks['generator_ema']
    if setting(ema.state, 'img_channels') != 3:
        raise InputError('its images do not have 3 channels')
    variables = dict(
        resolution=ema.number('img_resolution'),
        num_classes=ema.number('c_dim'),
    )
    generator = dict(
        z_dim=ema.number('z_dim'),
        w_dim=ema.number('w_dim'),
        mapping_layers=ema.mapping_layers,
        use_noise=any(n.endswith('.noise_strength') for n in ema.tensors),
        **widths(ema, '_init_kwargs', 'synthesis_kwargs'),
    )
    variables['num_fp16_res'] = generator.pop('num_fp16_res')
    discriminator = {}
    if 'cfg' not in ema.state:
        kind = IMAGES
        generator['motion_v_dim'] = 0
        for name in ('generator', 'generator_ema'):
            tensors = networks[name].tensors
            if 'synthesis.b4.const' in tensors:
                const = tensors.pop('synthesis.b4.const')
                tensors['synthesis.b4.input.input'] = const
    else:
        kind = VIDEOS
        generator |= motion_settings(ema)
        for name, kind_of in (('max_num_frames', int), ('fps', float)):
            keys = ('cfg', 'sampling', name)
            if setting(ema.state, *keys) is not None:
                variables[name] = ema.number(*keys, kind=kind_of)
        if generator['motion_v_dim'] > 0:
            variables['motion_period'] = generator['motion_z_distance']
    if 'discriminator' in networks:
        network = networks['discriminator']
        if 'image_discr' in network.state['_modules']:
            kind = BASELINE
            discriminator = mocogan_settings(network, variables)
        else:
            discriminator = discriminator_settings(network, variables)
    if 'discriminator' not in networks:
        facts['without D'] = 'the discriminator starts at random'

    augment, progress = augmentation(content.get('augment_pipe'), facts)
    progress |= counters(content.get('stats'), facts)
    training_set(content.get('training_set_kwargs'), variables)
    return Snapshot(
        kind=kind,
        networks=networks,
        variables=variables,
        generator=generator,
        discriminator=discriminator,
        augment=augment,
        progress=progress,
        facts=facts,
    )


def widths(network: Network, *keys: str) -> dict:
    """Read the widths and the precision of a network."""
    clamp = setting(network.state, *keys, 'conv_clamp')
    if clamp is not None:
        clamp = network.number(*keys, 'conv_clamp', kind=float)
    return dict(
        channel_base=network.number(*keys, 'channel_base', default=32768),
        channel_max=network.number(*keys, 'channel_max', default=512),
        conv_clamp=clamp,
        num_fp16_res=network.number(*keys, 'num_fp16_res', default=0),
        half_dtype='float16',  # as published: float32 on CPUs
    )


def motion_settings(network: Network) -> dict:
    """Read the arguments of the motion of a StyleGAN-V generator."""
    motion, waves = ('cfg', 'motion'), ('cfg', 'time_enc')
    v_dim = network.number(*motion, 'v_dim')
    if v_dim == 0:
        return dict(motion_v_dim=0)
    kind = network.text(*motion, 'gen_strategy', choices=MOTION_TYPES)
    settings = dict(
        cond_type=network.text(*waves, 'cond_type', choices=COND_TYPES),
        motion_v_dim=v_dim,
        motion_z_dim=network.number(*motion, 'z_dim'),
        motion_z_distance=network.number(
            *motion, 'motion_z_distance', kind=float
        ),
        motion_type=MOTION_TYPES[kind],
        fourier=bool(setting(network.state, *motion, 'fourier')),
    )
    if kind == 'conv':
        settings['motion_kernel_size'] = network.number(*motion, 'kernel_size')
    if settings['fourier']:
        settings |= dict(
            time_enc_dim=network.number(*waves, 'dim'),
            min_period_len=network.number(
                *waves, 'min_period_len', kind=float
            ),
            max_period_len=network.number(
                *waves, 'max_period_len', kind=float
            ),
        )
    return settings


def discriminator_settings(network: Network, variables: dict) -> dict:
    """Read the arguments of a StyleGAN-V or StyleGAN2-ADA discriminator.

    Args:
        network (Network): The discriminator.
        variables (dict): The number of frames is added to it, if the
            discriminator has one.
    """
    settings = widths(network, '_init_kwargs')
    statistics = network.submodule('b4', 'mbstd')
    settings['mbstd_group_size'] = None
    if statistics.state.get('group_size') is not None:
        settings['mbstd_group_size'] = statistics.number('group_size')
    if statistics.state.get('num_channels') != 1:
        raise InputError('its minibatch deviation does not have 1 channel')
    if network.mapping_layers:
        settings['mapping_layers'] = network.mapping_layers
    if 'cfg' not in network.state:
        return settings

    settings['dummy_c'] = bool(setting(network.state, 'cfg', 'dummy_c'))
    learned = network.tensors.get('time_encoder.const_embed.weight')
    if learned is None:
        # A discriminator of single frames concatenates nothing.
        return settings | dict(
            num_frames=1, concat_res=8, num_frames_div_factor=1
        )
    waves = network.tensors.get('time_encoder.time_encoder.fourier_coefs')
    if waves is None or learned.ndim != 2:
        raise InputError('the time_encoder of its discriminator is incomplete')
    variables['num_frames'] = network.number(
        'cfg', 'sampling', 'num_frames_per_video'
    )
    variables['max_num_frames'] = len(learned)
    return settings | dict(
        concat_res=network.number('cfg', 'concat_res'),
        num_frames_div_factor=network.number('cfg', 'num_frames_div_factor'),
        time_embed_dim=learned.shape[1],
        skip_small_t_freqs=math.ceil(math.log2(len(learned))) - waves.numel(),
        uniform_gaps=setting(network.state, 'cfg', 'sampling', 'type')
        == 'uniform',
    )


def mocogan_settings(network: Network, variables: dict) -> dict:
    """Read the arguments of the two discriminators of the baseline."""
    variables['num_frames'] = network.number(
        'cfg', 'sampling', 'num_frames_per_video'
    )
    prefix = 'image_discr.'
    image = Network(
        network.submodule('image_discr').state,
        {
            name.removeprefix(prefix): value
            for name, value in network.tensors.items()
            if name.startswith(prefix)
        },
    )
    first = network.tensors.get('video_discr.main.1.weight')
    if first is None:
        raise InputError('its discriminator has no video_discr.main.1.weight')
    return dict(
        image_discr=discriminator_settings(image, variables),
        video_channels=len(first),
        num_t_paddings=network.number(
            'cfg', 'video_discr_num_t_paddings', default=0
        ),
    )


def augmentation(pipe: Any, facts: dict) -> tuple[dict | None, dict]:
    """Read the arguments and the strength of the augmentation."""
    if pipe is None:
        return None, {}
    state = network_state(pipe)
    strength = network_tensors(pipe, ('Hz_geom', 'Hz_fbank')).get('p')
    if strength is None or strength.ndim > 0:
        raise InputError('its augmentation has no strength p')
    known = {name for each in PIPELINES.values() for name in each}
    transforms = {
        name: state[name]
        for name in known
        if isinstance(state.get(name), int | float) and state[name] > 0
    }
    names = [n for n, each in PIPELINES.items() if each == transforms]
    name = names[0] if names else 'bgc'
    words = '' if names else ', instead of one of its own'
    facts['augmentation'] = f'{name}{words}, p = {float(strength):.4g}'
    return dict(pipeline=name), {'augment.p': strength.float()}


def counters(stats: object, facts: dict) -> dict:
    """Read the counters of the training."""
    buffers = {}
    for ours, theirs in (
        ('iteration', 'batch_idx'),
        ('frames_seen', 'cur_nimg'),
    ):
        value = setting(stats, theirs)
        if type(value) is int and 0 <= value < 2**60:
            buffers[ours] = torch.tensor(value)
    kimg = setting(stats, 'kimg')
    if 'frames_seen' in buffers:
        kimg = float(buffers['frames_seen']) / 1000
    if isinstance(kimg, int | float):
        facts['trained'] = f'{kimg:.6g} kimg'
    return buffers


def training_set(kwargs: object, variables: dict) -> None:
    """Read the data set of the training."""
    path = setting(kwargs, 'path')
    # It goes into a config, so it must be a plain path and not a formula.
    if isinstance(path, str) and re.fullmatch(r'[\w./~ -]{1,200}', path):
        variables['data_root'] = path
    if setting(kwargs, 'xflip') is False:
        variables['flip_prob'] = 0


def setting(value: object, *keys: str) -> Any:
    """Follow keys through dicts and omegaconf nodes; None if one is missing.

    Saved configs have interpolations such as ``${sampling.max_num_frames}``,
    which start at the outermost config.
    """
    node, left = value, list(keys)
    for _ in range(64):
        content = held(node)
        match = isinstance(content, str) and re.fullmatch(
            r'\$\{\.*([\w.]+)\}', content
        )
        if match:
            path = match[1].split('.')
            roots = [
                parent
                for parent in parents(node)
                if isinstance(held(parent), dict) and path[0] in held(parent)
            ]
            if not roots:
                return None
            node, left = roots[-1], path + left
        elif left:
            known = content if isinstance(content, dict) else {}
            node = known.get(left.pop(0))
        else:
            return content
    return None


def held(value: object) -> Any:
    """Return the content of an omegaconf node, or any other value itself."""
    if isinstance(value, Record) and isinstance(value.state, dict):
        return value.state.get('_val', value.state.get('_content'))
    return value


def parents(node: object) -> Iterator:
    """Yield the omegaconf nodes around a node, the innermost first."""
    for _ in range(16):
        if not (isinstance(node, Record) and isinstance(node.state, dict)):
            return
        node = node.state.get('_parent')
        yield node
