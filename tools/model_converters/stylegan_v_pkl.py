"""Convert a published snapshot to a checkpoint and its config.

    python tools/model_converters/stylegan_v_pkl.py IN.pkl OUT.pth

IN.pkl is a training snapshot of StyleGAN-V, of its MoCoGAN+SG2 baseline, or
of StyleGAN2-ADA (PyTorch); it is read without executing anything in it. OUT.py
beside OUT.pth is the config. Of a model of images, OUT_video.py is the config
of a model of videos that starts from it, by --transfer-from.
"""

import argparse
import inspect
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stylegan_v_mm.checkpoints.loading import weight_differences
from stylegan_v_mm.checkpoints.pickled_tensors import (
    network_state,
    network_tensors,
)
from stylegan_v_mm.checkpoints.pickles import Record, read_pickle
from stylegan_v_mm.checkpoints.saving import save_checkpoint
from stylegan_v_mm.cli import run_tool
from stylegan_v_mm.config import load_config
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import atomic_write, sha256_of
from stylegan_v_mm.models.augment import PIPELINES
from stylegan_v_mm.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = {'generator': 'G', 'generator_ema': 'G_ema', 'discriminator': 'D'}
VIDEOS, BASELINE, IMAGES = 'StyleGAN-V', 'MoCoGAN+SG2', 'StyleGAN2-ADA'
#: Our config of each kind.
BASES = {
    VIDEOS: ROOT / 'configs/stylegan_v/ucf101.py',
    BASELINE: ROOT / 'projects/mocogan_sg2/configs/mocogan_sg2_ucf101.py',
    IMAGES: ROOT / 'configs/stylegan_v/lsun_church.py',
}
CONSTANTS = ('freqs', 'phase_scales', 'fourier_coefs')
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
        """Give the part of that name, without its tensors."""
        state = self.state
        for name in names:
            state = network_state(state['_modules'].get(name))
        return Network(state, {})

    def number(
        self, *keys: str, kind: Any = int, default: int | None = None
    ) -> float:
        """Read a number from the attributes, see :func:`setting`.

        Raises:
            InputError: It is none, or not there and there is no default.
        """
        value = setting(self.state, *keys)
        if value is None and default is not None:
            return default
        if not isinstance(value, int | kind) or not 0 <= value < 2**31:
            raise InputError(f'it does not say its {".".join(keys)}')
        return value

    def text(self, *keys: str, choices: Collection[str]) -> str:
        """Read a word from the attributes, one of some."""
        value = setting(self.state, *keys)
        if not isinstance(value, str) or value not in choices:
            raise InputError(
                f'its {".".join(keys)} is none of {", ".join(choices)}'
            )
        return value

    @property
    def mapping_layers(self) -> int:
        """Layers of its mapping network; 0 if it has none."""
        return sum(
            re.fullmatch(r'mapping\.fc\d+\.weight', name) is not None
            for name in self.tensors
        )


class Snapshot(NamedTuple):
    """What a pickle holds, in our words.

    Attributes:
        kind (str): A key of :data:`BASES`.
        networks (dict): Our name to a network.
        variables (dict): Top-level variables of a config.
        generator (dict): Its settings.
        discriminator (dict): Its settings; empty if it has none.
        augment (dict, optional): Settings of the augmentation, if any.
        progress (dict): Buffers of the training: ``augment.p``, ...
        facts (dict): What else to tell.
    """

    kind: str
    networks: dict[str, Network]
    variables: dict
    generator: dict
    discriminator: dict
    augment: dict | None
    progress: dict[str, Tensor]
    facts: dict[str, str]


def held(value: object) -> Any:
    """Give what an omegaconf node holds, or the value itself."""
    if isinstance(value, Record) and isinstance(value.state, dict):
        return value.state.get('_val', value.state.get('_content'))
    return value


def parents(node: object) -> Iterator:
    """Yield the omegaconf nodes around one, from the inside."""
    for _ in range(16):
        if not (isinstance(node, Record) and isinstance(node.state, dict)):
            return
        node = node.state.get('_parent')
        yield node


def setting(value: object, *keys: str) -> Any:
    """Follow keys through dicts and omegaconf nodes; None if they end.

    Configs are saved with their interpolations, such as
    ``${sampling.max_num_frames}``: names from the outermost config on.
    """
    node, left = value, list(keys)
    for _ in range(64):
        content = held(node)
        match = isinstance(content, str) and re.fullmatch(
            r'\$\{\.*([\w.]+)\}', content
        )
        if match:
            path = match[1].split('.')
            places = [
                place
                for place in parents(node)
                if isinstance(held(place), dict) and path[0] in held(place)
            ]
            if not places:
                return None
            node, left = places[-1], path + left
        elif left:
            known = content if isinstance(content, dict) else {}
            node = known.get(left.pop(0))
        else:
            return content
    return None


def read_snapshot(path: Path) -> Snapshot:
    """Read a published snapshot.

    Raises:
        InputError: It cannot be read safely, or is none that we can build.
    """
    content = read_pickle(path)
    if not isinstance(content, dict) or content.get('G_ema') is None:
        raise InputError('it holds no G_ema: it is no snapshot of a GAN')
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
        raise InputError('its pictures have other channels than 3 colours')
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
        kind,
        networks,
        variables,
        generator,
        discriminator,
        augment,
        progress,
        facts,
    )


def widths(network: Network, *keys: str) -> dict:
    """Read how wide a network is and how it computes; StyleGAN2's defaults."""
    clamp = setting(network.state, *keys, 'conv_clamp')
    if clamp is not None:
        clamp = network.number(*keys, 'conv_clamp', kind=float)
    return dict(
        channel_base=network.number(*keys, 'channel_base', default=32768),
        channel_max=network.number(*keys, 'channel_max', default=512),
        conv_clamp=clamp,
        num_fp16_res=network.number(*keys, 'num_fp16_res', default=0),
    )


def motion_settings(network: Network) -> dict:
    """Read how a generator of StyleGAN-V moves."""
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
    """Read what a StyleGAN-V or StyleGAN2-ADA discriminator is like.

    Args:
        network (Network): The discriminator.
        variables (dict): Get the number of frames, if it has one.
    """
    settings = widths(network, '_init_kwargs')
    statistics = network.submodule('b4', 'mbstd')
    settings['mbstd_group_size'] = None
    if statistics.state.get('group_size') is not None:
        settings['mbstd_group_size'] = statistics.number('group_size')
    if statistics.state.get('num_channels') != 1:
        raise InputError('its minibatch deviation has other channels than 1')
    if network.mapping_layers:
        settings['mapping_layers'] = network.mapping_layers
    if 'cfg' not in network.state:
        return settings

    settings['dummy_c'] = bool(setting(network.state, 'cfg', 'dummy_c'))
    learned = network.tensors.get('time_encoder.const_embed.weight')
    if learned is None:
        # A discriminator of single frames joins nothing.
        return settings | dict(
            num_frames=1, concat_res=8, num_frames_div_factor=1
        )
    waves = network.tensors.get('time_encoder.time_encoder.fourier_coefs')
    if waves is None or learned.ndim != 2:
        raise InputError('its discriminator has no whole time_encoder')
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
    """Read what the two discriminators of the baseline are like."""
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
    """Read the augmentation: its settings, and its strength as a buffer."""
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
    """Read how long the training was."""
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
    """Read what was trained on."""
    path = setting(kwargs, 'path')
    # It goes into a config: a plain path, and no formula.
    if isinstance(path, str) and re.fullmatch(r'[\w./~ -]{1,200}', path):
        variables['data_root'] = path
    if setting(kwargs, 'xflip') is False:
        variables['flip_prob'] = 0


def for_videos(snapshot: Snapshot) -> Snapshot:
    """Describe the model of videos that starts from one of images."""
    generator = dict(snapshot.generator)
    del generator['motion_v_dim']
    variables = dict(snapshot.variables)
    variables.pop('data_root', None)
    return snapshot._replace(
        kind=VIDEOS,
        variables=variables,
        generator=generator,
        augment=snapshot.augment or dict(pipeline='bgc'),
    )


def state_dict(snapshot: Snapshot, model: dict) -> dict[str, Tensor]:
    """Give the state dict of our model of a config.

    Args:
        snapshot (Snapshot): See :func:`read_snapshot`.
        model (dict): The config's.

    Returns:
        dict: Of all of the model.

    Raises:
        InputError: The tensors are not those that the settings ask for.
    """
    state = {
        f'{network}.{name}': value
        for network, (_, tensors) in snapshot.networks.items()
        for name, value in tensors.items()
    }
    # First without memory: settings may ask for any size.
    try:
        with torch.device('meta'):
            ours = MODELS.build(model).state_dict()
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        reason = str(error).split('\n')[0]
        raise InputError(f'its settings cannot be built: {reason}') from error
    wanted = {
        name: value
        for name, value in ours.items()
        if name.split('.')[0] in snapshot.networks
    }
    problems = weight_differences(wanted, state)
    if problems:
        raise InputError(
            f'its tensors are not those of its settings: {len(problems)} '
            f'differences, such as: {"; ".join(problems[:3])}'
        )
    gan = MODELS.build(model)
    ours = gan.state_dict()
    for name, value in state.items():
        if name.split('.')[-1] in CONSTANTS and not torch.allclose(
            value, ours[name], rtol=1e-4
        ):
            raise InputError(f'its {name} is not what its settings give')
    # Into the model, for its dtypes.
    gan.load_state_dict(ours | state | snapshot.progress)
    return gan.state_dict()


def config_text(snapshot: Snapshot, out: Path, source: str, use: str) -> str:
    """Write the config: what differs from one of ours.

    Args:
        snapshot (Snapshot): See :func:`read_snapshot`.
        out (Path): Where it will be.
        source (str): Of what it is, for its first line.
        use (str): What it is for, for the second.
    """
    base = BASES[snapshot.kind]
    model = load_config(str(base), snapshot.variables).model
    changes: dict[str, dict | None] = {
        'generator': differences(snapshot.generator, model['generator']),
        'discriminator': differences(
            snapshot.discriminator, model['discriminator']
        ),
    }
    if snapshot.augment is None:
        changes['augment'] = None
    elif snapshot.augment['pipeline'] != model['augment']['pipeline']:
        changes['augment'] = snapshot.augment
    shown = base
    if out.resolve().is_relative_to(ROOT):
        shown = os.path.relpath(base, out.resolve().parent)
    lines = [
        f'# {source}, converted by',
        f'# tools/model_converters/stylegan_v_pkl.py. {use}.',
        f'_base_ = [{str(shown)!r}]',
        *(f'{name} = {value!r}' for name, value in snapshot.variables.items()),
        'model = dict(',
    ]
    for name, change in changes.items():
        if change != {}:
            lines += written(name, change, '    ')
    return '\n'.join([*lines, ')']) + '\n'


def written(name: str, value: object, indent: str) -> Iterator[str]:
    """Write ``name=value,`` over as many lines as there are dicts in it."""
    if not isinstance(value, dict):
        yield f'{indent}{name}={value!r},'
        return
    yield f'{indent}{name}=dict('
    for key, inner in value.items():
        yield from written(key, inner, f'{indent}    ')
    yield f'{indent}),'


def differences(wanted: dict, config: dict) -> dict:
    """Pick the settings that a component's config does not have already."""
    defaults = inspect.signature(MODELS.get(config['type'])).parameters
    changes: dict[str, Any] = {}
    for name, value in wanted.items():
        if isinstance(value, dict):
            inner = differences(value, config[name])
            changes |= {name: inner} if inner else {}
        elif config.get(name, defaults[name].default) != value:
            changes[name] = value
    return changes


def convert(
    source: Path, out: Path, overwrite: bool = False
) -> dict[str, str]:
    """Convert a snapshot.

    Args:
        source (Path): The pickle.
        out (Path): The checkpoint; the config lies beside it.
        overwrite (bool): Whether files that exist are replaced. Defaults to
            False.

    Returns:
        dict: What was found and made, to show.

    Raises:
        InputError: It cannot be read safely, is none that we can build, or
            nothing can be written.
    """
    config = out.with_suffix('.py')
    refuse_existing([out, config], overwrite)
    try:
        snapshot = read_snapshot(source)
        title = f'{snapshot.kind}, {source.name!a}'
        texts = {
            config: config_text(snapshot, config, title, f'For {out.name}')
        }
        use = f'python tools/generate.py {config} {out} --out samples.mp4'
        uses = {'config': str(config), 'to use it': use}
        if snapshot.kind == IMAGES:
            video_config = config.with_stem(f'{out.stem}_video')
            refuse_existing([video_config], overwrite)
            texts[video_config] = config_text(
                for_videos(snapshot),
                video_config,
                title,
                f'Starts from {out.name}',
            )
            uses['to start videos from it'] = (
                f'python tools/train.py {video_config} --transfer-from {out}'
            )
        with TemporaryDirectory() as folder:
            draft = Path(folder, config.name)
            draft.write_text(config_text(snapshot, draft, title, ''))
            model = load_config(str(draft)).model
        weights = {'state_dict': state_dict(snapshot, model)}
    except InputError as error:
        raise InputError(f'{source}: {error}') from error
    with ExitStack() as stack:
        for path, text in texts.items():
            stack.enter_context(atomic_write(path)).write_text(text)
        save_checkpoint(weights, out)
    return described(snapshot) | {
        f'sha256 of {source}': sha256_of(source),
        f'sha256 of {out}': sha256_of(out),
        **uses,
    }


def refuse_existing(paths: Iterable[Path], overwrite: bool) -> None:
    """Check that nothing is replaced that shall be kept.

    Raises:
        InputError: A file exists, and is not to be overwritten.
    """
    for path in paths:
        if path.exists() and not overwrite:
            raise InputError(f'{path} exists: --overwrite replaces it')


def described(snapshot: Snapshot) -> dict[str, str]:
    """Put what a snapshot holds in words."""
    rows = {'kind': snapshot.kind}
    for name, network in snapshot.networks.items():
        count = sum(value.numel() for value in network.tensors.values())
        rows[name] = f'{len(network.tensors)} tensors, {count:,} numbers'
    for name, value in snapshot.variables.items():
        rows[name] = str(value)
    for name in ('generator', 'discriminator'):
        for key, value in getattr(snapshot, name).items():
            rows[f'{name}.{key}'] = str(value)
    return rows | snapshot.facts


def main() -> None:
    """Convert, and print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
    )
    parser.add_argument('source', type=Path, metavar='IN.pkl')
    parser.add_argument('out', type=Path, metavar='OUT.pth')
    parser.add_argument(
        '--overwrite', action='store_true', help='replace the files that exist'
    )
    args = parser.parse_args()
    if args.out.suffix != '.pth':
        raise InputError(f'{args.out} must end in .pth')
    rows = convert(args.source, args.out, args.overwrite)
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f'{name:{width}}  {value}')


if __name__ == '__main__':
    run_tool(main)
