"""StyleGANV: how the two networks train each other.

Skorokhodov et al., "StyleGAN-V" (CVPR 2022), on the training of StyleGAN2-ADA
(Karras et al. 2020).
"""

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, NoReturn

import torch
from mmengine.dist import all_reduce, all_reduce_params, get_world_size
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

from ..errors import InputError, check_at_least
from ..registry import MODELS
from ..video.pixels import from_bytes
from .losses import GAN_LOSSES
from .noise import own_rows
from .sampler import Sampler


class Fakes(NamedTuple):
    """Generated clips and what they were made from.

    Attributes:
        videos (Tensor): [N, T, 3, H, W], about [-1, 1].
        ws (Tensor): Style vectors [N, num_ws, w_dim].
        c (Tensor): Labels [N, c_dim].
        t (Tensor): Times [N, T], in frames.
    """

    videos: Tensor
    ws: Tensor
    c: Tensor
    t: Tensor


def sum_of_means(loss: Callable, logits: tuple[Tensor, ...]) -> Tensor:
    """Average a loss over each set of logits, and add the averages."""
    return sum(loss(each).mean() for each in logits)


@MODELS.register_module()
class StyleGANV(BaseModel):
    """The GAN: generator, its moving average, and discriminator.

    An iteration is a generator step, a discriminator step and, every
    ``d_reg_interval`` iterations, a discriminator step on the R1 penalty
    alone ("lazy regularisation", Karras et al. 2020, section 3.1). Path
    length regularisation likewise follows the generator's step. Adam's
    learning rates and betas are to be corrected for that in the config.

    A discriminator may return a tuple of sets of logits, such as those of
    frames and of clips: losses are averaged over each set, and added. The
    first set is the one for R1, the log and the augmentation.

    Noise is drawn for the batches of all processes, from random states that
    are equal everywhere, and each process keeps its share: an iteration is
    the same for any number of processes. Reduced over them: gradients, logs,
    ``w_avg``, ``pl_mean``, the signs that steer the augmentation. Local, as
    published: the groups of the minibatch deviation.

    Args:
        generator (dict): Config of the generator.
        discriminator (dict): Config of the discriminator.
        r1_gamma (float): Weight of the R1 penalty.
        d_reg_interval (int): Iterations from one R1 step to the next.
            Defaults to 16.
        gan_loss (str): 'logistic', 'hinge' or 'wasserstein'. Defaults to
            'logistic', as published.
        pl_weight (float): Weight of the path length penalty; StyleGAN2 has
            2. Defaults to 0, none, as published.
        g_reg_interval (int): Iterations from one path length step to the
            next. Defaults to 4.
        style_mixing_prob (float): How often the styles of a clip come from
            two contents, the second one from a random layer on; StyleGAN2
            has 0.9. Defaults to 0, as published.
        ema_kimg (float): Half-life of the generator's moving average, in
            thousands of clips. Defaults to 20.
        ema_rampup (float, optional): The half-life is at most this share of
            the frames seen so far. Defaults to None, no limit.
        accumulative_counts (int): Parts of a batch that go through the
            networks one after another. Defaults to 1.
        reuse_fakes (bool): Whether the discriminator learns from the clips
            of the generator's step, made before that step, instead of new
            ones: a pass less. Defaults to False, as published.
        augment (dict, optional): Config of a ``VideoAugment`` of all clips
            that the discriminator sees. Defaults to None, no augmentation.
        data_preprocessor (dict, optional): mmengine's, to move data.

    Raises:
        InputError: The two networks do not fit, or a value is out of range.
    """

    #: What training takes of a batch; a data set may give more.
    batch_keys = (
        *('video', 't', 'c', 'gen_t', 'gen_c', 'gen_z'),
        *('motion_z', 'first_code', 'mixing_z', 'crossover', 'noise_seeds'),
    )

    def __init__(
        self,
        generator: dict,
        discriminator: dict,
        r1_gamma: float,
        d_reg_interval: int = 16,
        gan_loss: str = 'logistic',
        pl_weight: float = 0,
        g_reg_interval: int = 4,
        style_mixing_prob: float = 0,
        ema_kimg: float = 20,
        ema_rampup: float | None = None,
        accumulative_counts: int = 1,
        reuse_fakes: bool = False,
        augment: dict | None = None,
        data_preprocessor: dict | None = None,
    ):
        super().__init__(data_preprocessor)
        self.generator = MODELS.build(generator)
        self.discriminator = MODELS.build(discriminator)
        for name in ('resolution', 'c_dim'):
            ours = getattr(self.generator, name)
            theirs = getattr(self.discriminator, name)
            if ours != theirs:
                raise InputError(
                    f'model.generator.{name}={ours} and '
                    f'model.discriminator.{name}={theirs} must be equal'
                )
        check_at_least(
            0,
            'model',
            r1_gamma=r1_gamma,
            pl_weight=pl_weight,
            style_mixing_prob=style_mixing_prob,
            ema_kimg=ema_kimg,
            ema_rampup=ema_rampup,
        )
        check_at_least(
            1,
            'model',
            d_reg_interval=d_reg_interval,
            g_reg_interval=g_reg_interval,
            accumulative_counts=accumulative_counts,
        )
        if style_mixing_prob > 1:
            raise InputError(
                f'model.style_mixing_prob={style_mixing_prob} must be at '
                'most 1'
            )
        if gan_loss not in GAN_LOSSES:
            raise InputError(
                f'model.gan_loss={gan_loss!r}: choose one of '
                f'{", ".join(GAN_LOSSES)}'
            )
        self.augment = None if augment is None else MODELS.build(augment)
        # mmengine's ExponentialMovingAverage copies at its first update and
        # has no ramp-up, so it would not follow the published average.
        self.generator_ema = copy.deepcopy(self.generator)
        self.generator_ema.requires_grad_(False).eval()
        self.r1_gamma = r1_gamma
        self.d_reg_interval = d_reg_interval
        self.gan_loss = GAN_LOSSES[gan_loss]
        self.pl_weight = pl_weight
        self.g_reg_interval = g_reg_interval
        self.style_mixing_prob = style_mixing_prob
        self.ema_kimg = ema_kimg
        self.ema_rampup = ema_rampup
        self.accumulative_counts = accumulative_counts
        self.reuse_fakes = reuse_fakes
        #: Running mean of the path lengths.
        self.register_buffer('pl_mean', torch.zeros([]))
        self.register_buffer('iteration', torch.zeros([], dtype=torch.int64))
        self.register_buffer('frames_seen', torch.zeros([], dtype=torch.int64))

    @property
    def c_dim(self) -> int:
        """Width of the class labels; 0 for an unconditional model."""
        return self.generator.c_dim

    def check_batch(self, clip: dict, batch_size: int) -> None:
        """Refuse data that training could not take.

        Args:
            clip (dict): An item of the data set, see :meth:`train_step`.
            batch_size (int): Clips a batch of one process.

        Raises:
            InputError: Something is missing, the clip has another number of
                frames or size than the networks take, or the batch cannot
                be divided.
        """
        dims = dict(video=4, t=1, c=1, gen_t=2, gen_c=2)
        for key, num_dims in dims.items():
            if key not in clip:
                raise InputError(
                    f'train_dataloader.dataset gives no {key!r}: its pipeline '
                    'needs SampleClip with num_gen=2 and, at the end, PackClip'
                )
            value = clip[key]
            if getattr(value, 'ndim', None) != num_dims:
                found = getattr(value, 'shape', type(value).__name__)
                raise InputError(
                    f'train_dataloader.dataset gives {key!r} as '
                    f'{found if isinstance(found, str) else list(found)}, not '
                    f'an array of {num_dims} dimensions'
                )
        if len(clip['gen_t']) != 2:
            raise InputError(
                f'SampleClip: num_gen={len(clip["gen_t"])} must be 2: a batch '
                'for the generator, and one for the discriminator'
            )
        num_frames, _, *size = clip['video'].shape
        wanted = getattr(self.discriminator, 'num_frames', num_frames)
        if num_frames != wanted:
            raise InputError(
                f'SampleClip gives clips of {num_frames} frames, but '
                f'model.discriminator.num_frames={wanted}: they must be equal'
            )
        resolution = self.generator.resolution
        if size != [resolution] * 2:
            raise InputError(
                f'the pipeline gives frames of {size[1]} x {size[0]}, but '
                f'model.generator.resolution={resolution}: set ResizeCrop to '
                'the same'
            )
        part, rest = divmod(batch_size, self.accumulative_counts)
        if rest or not part:
            raise InputError(
                f'a batch of {batch_size} clips a process is no multiple '
                f'of model.accumulative_counts={self.accumulative_counts}'
            )
        group = getattr(self.discriminator, 'mbstd_group_size', None) or part
        if part % min(group, part):
            raise InputError(
                f'model.discriminator.mbstd_group_size={group}: the {part} '
                'clips that a process has at a time cannot be split in groups '
                'of so many; choose a divisor'
            )

    def train(self, mode: bool = True) -> 'StyleGANV':
        """Set the training mode; the moving average stays in eval mode."""
        super().train(mode)
        self.generator_ema.eval()
        return self

    def train_step(
        self, data: dict, optim_wrapper: OptimWrapperDict
    ) -> dict[str, Tensor]:
        """Run one iteration.

        Args:
            data (dict): A batch of real clips and conditions for fake ones:
                ``video`` uint8 [N, T, 3, H, W], ``t`` [N, T] frames, ``c``
                [N, c_dim], and for the two fake batches ``gen_t`` [N, 2, T],
                ``gen_c`` [N, 2, c_dim]. Noise is drawn unless given as
                ``gen_z`` [N, 2, z_dim] and ``motion_z``
                [N, 2, L, motion_z_dim]. Other keys are left alone.
            optim_wrapper (OptimWrapperDict): ``generator`` and
                ``discriminator``.

        Returns:
            dict: What to log, scalars.
        """
        data = self.data_preprocessor(self.taken(data), True)
        iteration = int(self.iteration)
        num_clips, num_frames = data['video'].shape[:2]
        num_clips *= get_world_size()
        parts = self.split(self.add_noise(data))
        steps = [('generator', self.generator_loss)]
        if self.pl_weight > 0 and iteration % self.g_reg_interval == 0:
            steps.append(('generator', self.path_length_loss))
        steps.append(('discriminator', self.discriminator_loss))
        if iteration % self.d_reg_interval == 0:
            steps.append(('discriminator', self.r1_loss))
        logs: dict[str, Tensor] = {}
        bad = torch.zeros((), device=data['t'].device)
        for name, loss in steps:
            logs |= self.step(name, loss, parts, optim_wrapper)
            bad = bad + logs['bad_gradients']
        logs['bad_gradients'] = bad
        values = torch.stack(list(logs.values()))
        all_reduce(values, 'mean')
        logs = dict(zip(logs, values))
        all_reduce(self.generator.mapping.w_avg, 'mean')
        self.update_ema(num_clips)
        if self.augment is not None:
            self.augment.adapt(iteration, num_clips)
            logs['augment_p'] = self.augment.p.clone()
        self.iteration += 1
        self.frames_seen += num_clips * num_frames
        logs['kimg'] = self.frames_seen / 1000
        return logs

    def add_noise(self, data: dict) -> dict:
        """Draw the noise of both fake batches, unless it is given.

        Returns:
            dict: ``data`` with ``gen_z`` [N, 2, z_dim]; for a generator
            with motion ``motion_z`` [N, 2, L, motion_z_dim] and
            ``first_code`` [N, 2] (see ``MotionEncoder.forward``); for one
            with noise ``noise_seeds`` int64 [N, 2], on the CPU; for style
            mixing ``mixing_z`` [N, 2, z_dim] and ``crossover`` [N, 2], the
            layer from which on it counts.
        """
        if 'gen_z' in data:
            return data
        t, encoder = data['gen_t'], self.generator.motion_encoder
        shape = (*t.shape[:2], self.generator.z_dim)
        noise = {'gen_z': own_rows(torch.randn, shape, t.device)}
        if encoder is not None:
            first, num_codes = encoder.code_range(t.flatten(0, 1))
            # All processes have to draw tables of the same size.
            most = torch.tensor(num_codes, device=t.device)
            all_reduce(most, 'max')
            shape = (*t.shape[:2], int(most), encoder.motion_z_dim)
            noise['motion_z'] = own_rows(torch.randn, shape, t.device)
            noise['first_code'] = first.unflatten(0, t.shape[:2])
        if self.style_mixing_prob > 0:
            shape = (*t.shape[:2], self.generator.z_dim)
            noise['mixing_z'] = own_rows(torch.randn, shape, t.device)
            chance, place = own_rows(
                torch.rand, (*t.shape[:2], 2), t.device
            ).unbind(2)
            num_ws = self.generator.num_ws
            layer = 1 + (place * (num_ws - 1)).long()
            noise['crossover'] = layer.where(
                chance < self.style_mixing_prob, num_ws
            )
        if self.generator.synthesis.use_noise:
            # Numbers of each pixel would fill the memory: seeds of clips.
            noise['noise_seeds'] = own_rows(
                partial(torch.randint, 2**63 - 1),
                t.shape[:2],
                torch.device('cpu'),
            )
        return data | noise

    def taken(self, data: dict) -> dict[str, Tensor]:
        """Choose what training takes of a batch, :attr:`batch_keys`.

        Raises:
            InputError: Some of it is no tensor.
        """
        taken = {key: data[key] for key in self.batch_keys if key in data}
        for key, value in taken.items():
            if not isinstance(value, Tensor):
                raise InputError(
                    f'{key!r} of a batch is a {type(value).__name__}, not a '
                    'tensor: all clips need the same number of frames and '
                    'size, and train_dataloader.collate_fn=dict('
                    "type='stylegan_v_mm.collate_clips')"
                )
        return taken

    def split(self, data: dict) -> list[dict]:
        """Cut a batch into the parts that go through the networks at once.

        Raises:
            InputError: The batch is no multiple of ``accumulative_counts``.
        """
        count = self.accumulative_counts
        if len(data['t']) % count:
            raise InputError(
                f'a batch of {len(data["t"])} clips a process is no multiple '
                f'of model.accumulative_counts={count}'
            )
        pieces = {
            key: value.chunk(count) for key, value in self.taken(data).items()
        }
        return [
            {key: piece[i] for key, piece in pieces.items()}
            for i in range(count)
        ]

    def step(
        self,
        name: str,
        loss: Callable[[dict, Callable], dict],
        parts: list[dict],
        optim_wrapper: OptimWrapperDict,
    ) -> dict[str, Tensor]:
        """Take an optimizer step on the mean of a loss over the batch.

        Args:
            name (str): Network to step, 'generator' or 'discriminator'.
            loss (callable): Takes a part of the batch and a function that
                takes losses and computes their gradients; returns what to
                log.
            parts (list): See :meth:`split`.
            optim_wrapper (OptimWrapperDict): See :meth:`train_step`.

        Returns:
            dict: What to log, averaged over the parts; ``bad_gradients``
            counts the weights whose gradient is not finite.
        """
        optimizer, network = optim_wrapper[name], getattr(self, name)

        def backward(loss: Tensor) -> None:
            optimizer.backward(loss / len(parts))

        logs = [loss(part, backward) for part in parts]
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        largest = torch.stack(torch._foreach_norm(grads, torch.inf))
        self.apply_gradients(optimizer, network)
        return {
            key: torch.stack([log[key] for log in logs]).mean()
            for key in logs[0]
        } | {'bad_gradients': (~largest.isfinite()).float().sum()}

    def generator_loss(self, data: dict, backward: Callable) -> dict:
        """Compute ``softplus(-D(G(z)))``, or another :data:`GAN_LOSSES`."""
        self.discriminator.requires_grad_(False)
        fakes = self.make_fakes(data, 0)
        logits = self.discriminate(fakes.videos, fakes.c, fakes.t)
        loss = sum_of_means(self.gan_loss.generator, logits)
        backward(loss)
        if self.reuse_fakes:
            data['fakes'] = Fakes(*(value.detach() for value in fakes))
        self.discriminator.requires_grad_(True)
        return {'loss_g': loss.detach()}

    def path_length_loss(self, data: dict, backward: Callable) -> dict:
        """Compute ``weight * (|J^T y| - a)^2`` (StyleGAN2, equation 4).

        J is how a clip changes with its ``ws``, y is normal, and a is the
        running mean of the lengths. The noise of T frames is scaled by
        1 / sqrt(T): a clip that repeats one picture is as long as the
        picture. Half of the clips will do, as in StyleGAN2. The loss counts
        ``g_reg_interval`` times as it comes that rarely.
        """
        half = {
            key: value[: (len(value) + 1) // 2] for key, value in data.items()
        }
        fakes = self.make_fakes(half, 0)
        shape = fakes.videos.shape
        noise = own_rows(torch.randn, shape, fakes.videos.device)
        noise = noise / math.sqrt(shape[1] * shape[3] * shape[4])
        (grad,) = torch.autograd.grad(
            (fakes.videos * noise).sum(), fakes.ws, create_graph=True
        )
        lengths = grad.square().sum(2).mean(1).sqrt()  # N / 2
        mean = lengths.detach().mean()
        all_reduce(mean, 'mean')
        self.pl_mean.lerp_(mean, 0.01)
        penalty = (lengths - self.pl_mean).square().mean()
        backward(self.pl_weight * penalty * self.g_reg_interval)
        self.complete_gradients(self.generator)
        return {'pl_penalty': penalty.detach(), 'pl_mean': mean}

    def discriminator_loss(self, data: dict, backward: Callable) -> dict:
        """Compute ``softplus(D(G(z))) + softplus(-D(real))``, or another.

        Fake and real clips pass apart, as the minibatch statistics must not
        mix them.
        """
        if self.reuse_fakes:
            fakes = data.pop('fakes')
        else:
            with torch.no_grad():
                fakes = self.make_fakes(data, 1)
        fake_logits = self.discriminate(fakes.videos, fakes.c, fakes.t)
        fake_loss = sum_of_means(self.gan_loss.fake, fake_logits)
        backward(fake_loss)
        real = from_bytes(data['video'])
        real_logits = self.discriminate(
            real, data['c'], data['t'], is_real=True
        )
        real_loss = sum_of_means(self.gan_loss.real, real_logits)
        backward(real_loss)
        true, fake = real_logits[0].detach(), fake_logits[0].detach()
        return {
            'loss_d': (fake_loss + real_loss).detach(),
            'logits_real': true.mean(),
            'logits_fake': fake.mean(),
            'signs_real': true.sign().mean(),
            'signs_fake': fake.sign().mean(),
        }

    def r1_loss(self, data: dict, backward: Callable) -> dict:
        """Compute ``gamma / 2 * |dD/dx|^2`` (Mescheder et al. 2018, eq. 9).

        The squared norm is that of each frame, averaged over the frames of
        the batch; the loss counts ``d_reg_interval`` times as it comes that
        rarely.
        """
        real = from_bytes(data['video']).requires_grad_()
        logits = self.discriminate(real, data['c'], data['t'], is_real=True)
        (grad,) = torch.autograd.grad(logits[0].sum(), real, create_graph=True)
        penalty = grad.square().sum([2, 3, 4]).mean()
        backward(self.r1_gamma / 2 * penalty * self.d_reg_interval)
        self.complete_gradients(self.discriminator)
        return {'r1_penalty': penalty.detach()}

    @staticmethod
    def complete_gradients(network: nn.Module) -> None:
        """Give gradient 0 to what a penalty does not depend on.

        Published runs step it with that, which still moves Adam's averages.
        """
        for param in network.parameters():
            if param.grad is None and param.requires_grad:
                param.grad = torch.zeros_like(param)

    def discriminate(
        self,
        videos: Tensor,
        c: Tensor | None,
        t: Tensor,
        is_real: bool = False,
    ) -> tuple[Tensor, ...]:
        """Augment clips and judge them; sets of logits."""
        if self.augment is not None:
            videos = self.augment(videos)
        logits = self.discriminator(videos, c, t)
        logits = logits if isinstance(logits, tuple) else (logits,)
        if is_real and self.augment is not None:
            self.augment.observe(logits[0])
        return logits

    def make_fakes(self, data: dict, which: int) -> Fakes:
        """Generate the ``which``-th fake batch of :meth:`add_noise`."""
        network, own = self.generator, {}
        for key, value in data.items():
            if key not in ('video', 't', 'c', 'fakes'):
                own[key.removeprefix('gen_')] = value[:, which]
        c, t = own['c'], own['t']
        ws = network.map(own['z'], c)
        if 'mixing_z' in own:
            other = network.mapping(own['mixing_z'], c, update_w_avg=False)
            layers = torch.arange(network.num_ws, device=ws.device)
            mixed = layers >= own['crossover'][:, None]  # N, num_ws
            ws = torch.where(mixed[:, :, None], other[:, None], ws)
        motion_v = None
        if network.motion_encoder is not None:
            motion_v = network.motion_encoder(
                c, t, own.get('motion_z'), own.get('first_code', 0)
            )
        noise = {key: own[key] for key in ('noise_seeds',) if key in own}
        videos = network.render(ws, motion_v, t.shape[1], **noise)
        return Fakes(videos, ws, c, t)

    @staticmethod
    def apply_gradients(optimizer: OptimWrapper, network: nn.Module) -> None:
        """Average gradients over processes, clean them, and step.

        One flat all-reduce a step instead of DistributedDataParallel, which
        hides the networks' methods and does not expect several backward
        passes and gradients of gradients.
        """
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        if get_world_size() > 1:
            all_reduce_params(grads, op='mean')
        for grad in grads:
            torch.nan_to_num(grad, nan=0, posinf=1e5, neginf=-1e5, out=grad)
        optimizer.step()
        optimizer.zero_grad()

    @torch.no_grad()
    def update_ema(self, num_clips: int) -> None:
        """Move the average generator: half-life ``ema_kimg`` kiloclips."""
        half_life = self.ema_kimg * 1000
        if self.ema_rampup is not None:
            half_life = min(half_life, int(self.frames_seen) * self.ema_rampup)
        beta = 0.5 ** (num_clips / max(half_life, 1e-8))
        torch._foreach_lerp_(
            list(self.generator_ema.parameters()),
            list(self.generator.parameters()),
            1 - beta,
        )
        pairs = zip(self.generator_ema.buffers(), self.generator.buffers())
        for average, current in pairs:
            average.copy_(current)

    def sampler(self) -> Sampler:
        """Sample from the average generator as it is now."""
        return Sampler(self.generator_ema)

    def test_step(self, data: dict) -> list[dict]:
        """Render the clips of seeds, for mmengine's loops.

        Args:
            data (dict): Batch of a ``SeedDataset``: ``seed`` [N], ``t``
                [N, T], ``c`` [N, c_dim].

        Returns:
            list: For each seed ``video`` uint8 [T, 3, H, W] and ``seed``.
        """
        seeds = [int(seed) for seed in data['seed']]
        clips = self.sampler().sample_clips(seeds, data['t'], data['c'])
        return [
            dict(video=video, seed=seed) for seed, video in zip(seeds, clips)
        ]

    val_step = test_step

    def forward(
        self, inputs: dict, data_samples: None = None, mode: str = 'tensor'
    ) -> NoReturn:
        """Not used: a GAN has two networks to call, see the ``*_step``."""
        raise NotImplementedError(
            'call train_step, test_step or sampler of StyleGANV'
        )
