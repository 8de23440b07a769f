"""Convert published snapshots to checkpoints and configs."""

import inspect
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from ..config import load_config
from ..errors import InputError
from ..files import atomic_write, sha256_of
from ..models.shared import network_config
from ..registry import MODELS
from .loading import weight_differences
from .saving import save_checkpoint
from .snapshots import BASELINE, IMAGES, VIDEOS, Snapshot, read_snapshot

#: Kind of a snapshot to the config in our repository that it inherits from.
BASES = {
    VIDEOS: 'configs/stylegan_v/ucf101.py',
    BASELINE: 'projects/mocogan_sg2/configs/mocogan_sg2_ucf101.py',
    IMAGES: 'configs/stylegan_v/lsun_church.py',
}
CONSTANTS = ('freqs', 'phase_scales', 'fourier_coefs')


def convert_snapshot(
    source: Path, out: Path, root: Path, overwrite: bool = False
) -> dict[str, str]:
    """Convert a published snapshot to a checkpoint and its config.

    Args:
        source (Path): The pickle.
        out (Path): The checkpoint to write, ``NAME.pth``. The config is
            written to ``NAME.py`` beside it. For a model of images,
            ``NAME_video.py`` is the config of a model of videos that starts
            from it.
        root (Path): Our repository, with the configs to inherit from.
        overwrite (bool): Whether to replace existing files. Defaults to
            False.

    Returns:
        dict: What was read and written, as text to show.

    Raises:
        InputError: The snapshot cannot be read safely or built, or a file
            exists or cannot be written.
    """
    config = out.with_suffix('.py')
    check_free([out, config], overwrite)
    try:
        snapshot = read_snapshot(source)
        about = (
            f'# {snapshot.kind}, {source.name!a}, converted by\n'
            '# tools/model_converters/stylegan_v_pkl.py.'
        )
        text = config_text(snapshot, root, config)
        texts = {config: f'{about} For {out.name}.\n{text}'}
        use = f'python tools/generate.py {config} {out} --out samples.mp4'
        uses = {'config': str(config), 'to use it': use}
        if snapshot.kind == IMAGES:
            video_config = config.with_stem(f'{out.stem}_video')
            check_free([video_config], overwrite)
            text = config_text(for_videos(snapshot), root, video_config)
            texts[video_config] = f'{about} Starts from {out.name}.\n{text}'
            uses['to start videos from it'] = (
                f'python tools/train.py {video_config} --transfer-from {out}'
            )
        with TemporaryDirectory() as folder:
            draft = Path(folder, config.name)
            draft.write_text(config_text(snapshot, root, draft))
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


def check_free(paths: Iterable[Path], overwrite: bool) -> None:
    """Check that no file would be overwritten by accident.

    Raises:
        InputError: A file exists, and ``overwrite`` is False.
    """
    for path in paths:
        if path.exists() and not overwrite:
            raise InputError(f'{path} exists: --overwrite replaces it')


def for_videos(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot of a model of videos that starts from images."""
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


def config_text(snapshot: Snapshot, root: Path, out: Path) -> str:
    """Return the text of a config that inherits from one of ours.

    Args:
        snapshot (Snapshot): See :func:`read_snapshot`.
        root (Path): Our repository.
        out (Path): Path of the new config.
    """
    base = root / BASES[snapshot.kind]
    model = load_config(str(base), snapshot.variables).model
    changes: dict[str, dict | None] = {
        'generator': differences(
            snapshot.generator, network_config(model, 'generator')
        ),
        'discriminator': differences(
            snapshot.discriminator, network_config(model, 'discriminator')
        ),
    }
    if snapshot.augment is None:
        changes['augment'] = None
    elif snapshot.augment['pipeline'] != model['augment']['pipeline']:
        changes['augment'] = snapshot.augment
    shown = base
    if out.resolve().is_relative_to(root):
        shown = os.path.relpath(base, out.resolve().parent)
    lines = [
        f'_base_ = [{str(shown)!r}]',
        *(f'{name} = {value!r}' for name, value in snapshot.variables.items()),
        'model = dict(',
    ]
    for name, change in changes.items():
        if change != {}:
            lines += written(name, change, '    ')
    return '\n'.join([*lines, ')']) + '\n'


def written(name: str, value: object, indent: str) -> Iterator[str]:
    """Yield the lines of ``name=value,``, with nested dicts spread out."""
    if not isinstance(value, dict):
        yield f'{indent}{name}={value!r},'
        return
    yield f'{indent}{name}=dict('
    for key, inner in value.items():
        yield from written(key, inner, f'{indent}    ')
    yield f'{indent}),'


def differences(wanted: dict, config: dict) -> dict:
    """Return the wanted arguments that differ from those of a config."""
    defaults = inspect.signature(MODELS.get(config['type'])).parameters
    changes: dict[str, Any] = {}
    for name, value in wanted.items():
        if isinstance(value, dict):
            inner = differences(value, config[name])
            changes |= {name: inner} if inner else {}
        elif config.get(name, defaults[name].default) != value:
            changes[name] = value
    return changes


def state_dict(snapshot: Snapshot, model: dict) -> dict[str, Tensor]:
    """Return the state dict of our model with a snapshot's weights.

    Args:
        snapshot (Snapshot): See :func:`read_snapshot`.
        model (dict): The model of a config.

    Returns:
        dict: All of the model's parameters and buffers.

    Raises:
        InputError: The tensors do not match the settings.
    """
    state = {
        f'{network}.{name}': value
        for network, (_, tensors) in snapshot.networks.items()
        for name, value in tensors.items()
    }
    # Built without memory first, as the settings may ask for any size.
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
            f'its tensors do not match its settings: {len(problems)} '
            f'differences, such as: {"; ".join(problems[:3])}'
        )
    gan = MODELS.build(model)
    ours = gan.state_dict()
    for name, value in state.items():
        if name.split('.')[-1] in CONSTANTS and not torch.allclose(
            value, ours[name], rtol=1e-4
        ):
            raise InputError(f'its {name} does not match its settings')
    # The model converts dtypes.
    gan.load_state_dict(ours | state | snapshot.progress)
    return gan.state_dict()


def described(snapshot: Snapshot) -> dict[str, str]:
    """Describe the content of a snapshot, as text to show."""
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
