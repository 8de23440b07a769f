"""Our networks against reference vectors of the published model.

A reference file holds weights, inputs and outputs; docs/fidelity.md documents
its keys.
"""

import json
import zipfile
from collections.abc import Iterator
from math import nan
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..models.augment import PIPELINES, VideoAugment
from ..models.stylegan_v import StyleGANV

ABSOLUTE_TOL = 1e-4  # codes, ws, frames, logits, augmented frames
RELATIVE_TOL = 1e-3  # gradients and penalties, to the largest magnitude
LOSS_TOL = 1e-3  # losses along a training run
# R1 along a training run, relative: the penalty of weights that were loaded,
# and of weights that were trained, which is chaotic. The published code moves
# by 1.6 % there from one kind of convolution on a CPU to another.
FIRST_R1_TOL, LATER_R1_TOL = 1e-3, 3e-2
UPDATE_TOL = 5e-3  # final minus initial weights, relative L2 of a network

# array name, error, tolerance
Comparison = tuple[str, float, float]


def compare_file(path: Path, device: str = 'cpu') -> Iterator[Comparison]:
    """Compare our networks with a reference file.

    Args:
        path (Path): Holds a forward, a training or an augmentation reference.
        device (str): Where to compute. A GPU must not round to TF32. Defaults
            to 'cpu'.

    Yields:
        tuple: Name of an array, largest error, tolerance. An error above the
        tolerance, or none that is a number, is a failure.

    Raises:
        InputError: The file cannot be read or is of another kind.
    """
    reference = Reference(path, device)
    if 'loss_G' in reference:
        yield from compare_training(reference)
    elif 'frames' in reference and 'ws' in reference:
        yield from compare_forward(reference)
    elif 'images' in reference:
        yield from compare_augment(reference)
    else:
        raise InputError(
            f'{path} is no forward, training or augmentation reference'
        )


class Reference:
    """The arrays of a reference file, as tensors.

    Args:
        path (Path): An .npz file.
        device (str): Where its arrays are needed.

    Raises:
        InputError: It cannot be read or holds no ``config``.
    """

    def __init__(self, path: Path, device: str):
        try:
            with np.load(path, allow_pickle=False) as file:
                self.arrays = {key: file[key] for key in file.files}
            self.config = json.loads(bytes(self.arrays.pop('config')))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(
                f'{path} is not a readable reference file: {error}'
            ) from error
        self.path = path
        self.device = device

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __getitem__(self, name: str) -> Tensor:
        return self.on_cpu(name).to(self.device)

    def on_cpu(self, name: str) -> Tensor:
        """Return an array as a tensor on the CPU."""
        if name not in self.arrays:
            raise InputError(f'{self.path} holds no array {name!r}')
        return torch.from_numpy(self.arrays[name])

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Return the arrays below ``prefix/``, without the prefix."""
        start = len(prefix) + 1
        return {
            name[start:]: self[name]
            for name in self.arrays
            if name.startswith(f'{prefix}/')
        }

    def load(self, network: nn.Module, prefix: str) -> None:
        """Load a state dict, without its filters, which are constants.

        Raises:
            InputError: Names or shapes do not fit.
        """
        weights = {
            name: value
            for name, value in self.group(prefix).items()
            if not name.endswith('resample_filter')
        }
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise InputError(
                f'{self.path}: the weights below {prefix}/ do not fit the '
                f'network of its config: {error}'
            ) from error


def build(config: dict) -> StyleGANV:
    """Build the networks that a reference file's ``config`` describes."""
    lstm = config['variant'] == 'mocogan'
    shared = {
        key: config[key]
        for key in (
            'resolution',
            'c_dim',
            'channel_base',
            'channel_max',
            'conv_clamp',
        )
    }
    generator = {
        key: config[key]
        for key in (
            'z_dim',
            'w_dim',
            'mapping_layers',
            'cond_type',
            'motion_v_dim',
            'motion_z_dim',
            'motion_z_distance',
            'motion_kernel_size',
            'time_enc_dim',
            'min_period_len',
            'max_period_len',
        )
    }
    # Older files do not say so.
    generator['use_noise'] = config.get('use_noise', False)
    if lstm:
        # The baseline has a code a frame, whatever its file's config says.
        generator |= dict(
            motion_type='lstm', fourier=False, motion_z_distance=1
        )
    discriminator = {
        key: config[key]
        for key in (
            'num_frames',
            'concat_res',
            'num_frames_div_factor',
            'mbstd_group_size',
            'max_num_frames',
        )
    }
    return StyleGANV(
        dict(type='StyleGANVGenerator', **shared, **generator),
        dict(type='StyleGANVDiscriminator', **shared, **discriminator),
        r1_gamma=config.get('r1_gamma', 1),
        d_reg_interval=config.get('d_reg_interval', 16),
        ema_kimg=config.get('ema_kimg', 20),
        ema_rampup=config.get('ema_rampup'),
    )


def compare_forward(reference: Reference) -> Iterator[Comparison]:
    """Compare outputs and gradients on fixed inputs."""
    gan = build(reference.config).to(reference.device)
    generator, discriminator = gan.generator.eval(), gan.discriminator.eval()
    z, c, t = reference['z'], reference['c'], reference['t']
    motion_z = reference['motion_z']

    yield from load(reference, generator, 'G')
    with torch.no_grad():
        yield absolute('ws', generator.map(z, c), reference['ws'])
        ws_trunc = generator.map(z, c, truncation_psi=0.5)
        yield absolute('ws_trunc', ws_trunc, reference['ws_trunc'])
        motion_v = generator.motion_encoder(c, t, motion_z)
        yield absolute('motion_v', motion_v, reference['motion_v'])
        for name, psi in (('frames', 1), ('frames_trunc', 0.5)):
            videos = generator(z, c, t, motion_z, truncation_psi=psi)
            yield absolute(name, videos.flatten(0, 1), reference[name])
        if 'frames_none' in reference:
            generator.synthesis.noise_mode = 'none'
            videos = generator(z, c, t, motion_z)
            theirs = reference['frames_none']
            yield absolute('frames_none', videos.flatten(0, 1), theirs)
    if 'logits_real' not in reference:
        return

    yield from load(reference, discriminator, 'D')

    def as_videos(name: str) -> Tensor:
        return reference[name].unflatten(0, (len(z), -1))

    with torch.no_grad():
        logits = discriminator(as_videos('frames'), c, t)
    yield absolute('logits_frames', logits, reference['logits_frames'])

    # Gradients in float64: where rounding takes a single feature across the
    # kink of the leaky ReLU, they jump by more than any honest tolerance.
    generator.double().train()
    discriminator.double()
    z, c, t, motion_z = (x.double() for x in (z, c, t, motion_z))
    videos = generator(z, c, t, motion_z)
    g_loss = F.softplus(-discriminator(videos, c, t)).mean()
    g_loss.backward()
    yield absolute('g_loss', g_loss.detach(), reference['g_loss'])
    gradients = dict(generator.named_parameters())
    for name, theirs in reference.group('g_grad_G').items():
        yield relative(f'g_grad_G/{name}', gradients[name].grad, theirs)

    # The stored discriminator gradients are those of g_loss plus the penalty:
    # they were accumulated without zeroing in between, so these are too.
    real = as_videos('real').double().requires_grad_()
    logits = discriminator(real, c, t)
    yield absolute('logits_real', logits.detach(), reference['logits_real'])
    (grad,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    penalty = grad.square().sum([2, 3, 4]).flatten()
    theirs = reference['r1_penalty']
    yield relative('r1_penalty', penalty.detach(), theirs)
    penalty.mean().backward()
    gradients = dict(discriminator.named_parameters())
    for name, theirs in reference.group('r1_grad_D').items():
        yield relative(f'r1_grad_D/{name}', gradients[name].grad, theirs)


def compare_training(reference: Reference) -> Iterator[Comparison]:
    """Compare losses along a training run, and the weights at its end."""
    from mmengine.optim import OptimWrapper, OptimWrapperDict

    config = reference.config
    gan = build(config).to(reference.device)
    networks = {
        'G': gan.generator,
        'D': gan.discriminator,
        'G_ema': gan.generator_ema,
    }
    for name, network in networks.items():
        reference.load(network, name.removesuffix('_ema'))
    gan.train()

    def optimizer(network: nn.Module, interval: int) -> OptimWrapper:
        share = interval / (interval + 1)  # lazy regularisation
        adam = torch.optim.Adam(
            network.parameters(),
            lr=config['lr'] * share,
            betas=tuple(beta**share for beta in config['betas']),
            eps=config['eps'],
        )
        return OptimWrapper(adam)

    optimizers = OptimWrapperDict(
        generator=optimizer(gan.generator, config['g_reg_interval']),
        discriminator=optimizer(gan.discriminator, config['d_reg_interval']),
    )
    phases = [0, 2]  # the generator's fakes and the discriminator's
    r1_steps = range(0, config['iters'], config['d_reg_interval'])
    penalties = dict(zip(r1_steps, reference.on_cpu('r1_penalty').tolist()))
    for i in range(config['iters']):
        batch = dict(
            video=reference.on_cpu('real')[i],
            t=reference.on_cpu('real_t')[i],
            c=reference.on_cpu('real_c')[i],
        )
        for name in ('gen_z', 'gen_t', 'gen_c', 'motion_z'):
            values = reference.on_cpu(name)[i, phases]
            batch[name] = values.transpose(0, 1)
        logs = gan.train_step(batch, optimizers)
        for name in ('loss_G', 'loss_D'):
            error = abs(float(logs[name.lower()] - reference[name][i]))
            yield f'{name}[{i}]', error, LOSS_TOL
        if i in penalties:
            error = abs(float(logs.get('r1_penalty', nan)) - penalties[i])
            share = FIRST_R1_TOL if i == 0 else LATER_R1_TOL
            yield f'r1_penalty[{i}]', error, share * penalties[i]

    for name, network in networks.items():
        initial = reference.group(name.removesuffix('_ema'))
        ours, theirs = network.state_dict(), reference.group(f'{name}_final')
        error = norm = 0.0
        for key in ours:
            error += float((ours[key] - theirs[key]).square().sum())
            norm += float((theirs[key] - initial[key]).square().sum())
        yield f'{name}_final', (error / norm) ** 0.5, UPDATE_TOL


def compare_augment(reference: Reference) -> Iterator[Comparison]:
    """Compare augmented clips, each random draw being a percentile."""
    config = reference.config
    videos = reference['images'].unflatten(1, (-1, 3))
    for pipeline, transforms in config['specs'].items():
        if PIPELINES.get(pipeline) != transforms:
            raise InputError(
                f'{reference.path}: {pipeline} is no pipeline of ours, or '
                'another one'
            )
        augment = VideoAugment(pipeline, p=config['p'])
        for percentile in config['percentiles']:
            name = f'{pipeline}/{percentile}'
            ours = augment(videos, percentile).flatten(1, 2)
            yield absolute(name, ours, reference[name])


def load(
    reference: Reference, network: nn.Module, prefix: str
) -> Iterator[Comparison]:
    """Load weights, and compare those that follow from the config."""
    constants = {
        f'{prefix}/{name}': value.clone()
        for name, value in network.named_buffers()
        if name.endswith(('freqs', 'phase_scales', 'fourier_coefs'))
    }
    reference.load(network, prefix)
    for name, ours in constants.items():
        yield relative(name, ours, reference[name])


def absolute(name: str, ours: Tensor, theirs: Tensor) -> Comparison:
    """Return the largest absolute difference."""
    return name, float((ours - theirs).abs().max()), ABSOLUTE_TOL


def relative(name: str, ours: Tensor, theirs: Tensor) -> Comparison:
    """Return the largest difference; the tolerance scales with the array."""
    tolerance = RELATIVE_TOL * float(theirs.abs().max())
    return name, float((ours - theirs).abs().max()), tolerance
