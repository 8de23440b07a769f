"""StyleGANV: how the two networks train each other, and how they sample.

Skorokhodov et al., "StyleGAN-V" (CVPR 2022), on the training of StyleGAN2-ADA
(Karras et al. 2020).
"""

import copy
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, all_reduce_params, get_world_size
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

from ..errors import InputError
from ..registry import MODELS
from .noise import CONTENT, MOTION, own_rows, seeded_noise


def to_bytes(videos: Tensor) -> Tensor:
    """Convert [-1, 1] to uint8 as the published metrics do: 127.5 x + 128."""
    return (videos * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def from_bytes(videos: Tensor) -> Tensor:
    """Convert uint8 to float32 in [-1, 1]."""
    return videos.float() / 127.5 - 1


@MODELS.register_module()
class StyleGANV(BaseModel):
    """The GAN: generator, its moving average, and discriminator.

    An iteration is a generator step, a discriminator step and, every
    ``d_reg_interval`` iterations, a discriminator step on the R1 penalty
    alone ("lazy regularisation", Karras et al. 2020, section 3.1). Adam's
    learning rate and betas are to be corrected for that in the config.

    Noise is drawn for the batches of all processes, from random states that
    are equal everywhere, and each process keeps its share: an iteration is
    the same for any number of processes. Reduced over them: gradients, logs,
    ``w_avg``, the signs that steer the augmentation. Local, as published:
    the groups of the minibatch deviation.

    Args:
        generator (dict): Config of the generator.
        discriminator (dict): Config of the discriminator.
        r1_gamma (float): Weight of the R1 penalty.
        d_reg_interval (int): Iterations from one R1 step to the next.
            Defaults to 16.
        ema_kimg (float): Half-life of the generator's moving average, in
            thousands of clips. Defaults to 20.
        ema_rampup (float, optional): The half-life is at most this share of
            the frames seen so far. Defaults to None, no limit.
        augment (dict, optional): Config of a ``VideoAugment`` of all clips
            that the discriminator sees. Defaults to None, no augmentation.
        data_preprocessor (dict, optional): mmengine's, to move data.

    Raises:
        InputError: The two networks do not fit, or a value is out of range.
    """

    def __init__(
        self,
        generator: dict,
        discriminator: dict,
        r1_gamma: float,
        d_reg_interval: int = 16,
        ema_kimg: float = 20,
        ema_rampup: float | None = None,
        accumulative_counts: int = 1,
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
        if r1_gamma < 0 or d_reg_interval < 1 or ema_kimg < 0:
            raise InputError(
                f'model.r1_gamma={r1_gamma} and model.ema_kimg={ema_kimg} '
                f'must be at least 0, d_reg_interval={d_reg_interval} at '
                'least 1'
            )
        if accumulative_counts < 1:
            raise InputError(
                f'model.accumulative_counts={accumulative_counts} must be at '
                'least 1'
            )
        self.augment = None if augment is None else MODELS.build(augment)
        # mmengine's ExponentialMovingAverage copies at its first update and
        # has no ramp-up, so it would not follow the published average.
        self.generator_ema = copy.deepcopy(self.generator)
        self.generator_ema.requires_grad_(False).eval()
        self.r1_gamma = r1_gamma
        self.d_reg_interval = d_reg_interval
        self.ema_kimg = ema_kimg
        self.ema_rampup = ema_rampup
        self.accumulative_counts = accumulative_counts
        self.register_buffer('iteration', torch.zeros([], dtype=torch.int64))
        self.register_buffer('frames_seen', torch.zeros([], dtype=torch.int64))

    @property
    def c_dim(self) -> int:
        """Width of the class labels; 0 for an unconditional model."""
        return self.generator.c_dim

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
                [N, 2, L, motion_z_dim].
            optim_wrapper (OptimWrapperDict): ``generator`` and
                ``discriminator``.

        Returns:
            dict: What to log, scalars.
        """
        data = self.data_preprocessor(data, True)
        iteration = int(self.iteration)
        num_clips, num_frames = data['video'].shape[:2]
        num_clips *= get_world_size()
        parts = self.split(self.add_noise(data))
        logs = self.step(
            'generator', self.generator_loss, parts, optim_wrapper
        )
        logs |= self.step(
            'discriminator', self.discriminator_loss, parts, optim_wrapper
        )
        if iteration % self.d_reg_interval == 0:
            logs |= self.step(
                'discriminator', self.r1_loss, parts, optim_wrapper
            )
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
            dict: ``data`` with ``gen_z`` [N, 2, z_dim], ``motion_z``
            [N, 2, L, motion_z_dim] and ``first_code`` [N, 2] (see
            ``MotionEncoder.forward``); without the last two if the generator
            has no motion.
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
        return data | noise

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
        pieces = {key: value.chunk(count) for key, value in data.items()}
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
            dict: What to log, averaged over the parts.
        """
        optimizer, network = optim_wrapper[name], getattr(self, name)

        def backward(loss: Tensor) -> None:
            optimizer.backward(loss / len(parts))

        logs = [loss(part, backward) for part in parts]
        self.apply_gradients(optimizer, network)
        return {
            key: torch.stack([log[key] for log in logs]).mean()
            for key in logs[0]
        }

    def generator_loss(self, data: dict, backward: Callable) -> dict:
        """Compute ``softplus(-D(G(z)))``, the non-saturating loss."""
        self.discriminator.requires_grad_(False)
        fake, c, t = self.make_fakes(data, 0)
        loss = F.softplus(-self.discriminate(fake, c, t)).mean()
        backward(loss)
        self.discriminator.requires_grad_(True)
        return {'loss_g': loss.detach()}

    def discriminator_loss(self, data: dict, backward: Callable) -> dict:
        """Compute ``softplus(D(G(z))) + softplus(-D(real))``.

        Fake and real clips pass apart, as the minibatch statistics must not
        mix them.
        """
        with torch.no_grad():
            fake, c, t = self.make_fakes(data, 1)
        fake_logits = self.discriminate(fake, c, t)
        fake_loss = F.softplus(fake_logits).mean()
        backward(fake_loss)
        real = from_bytes(data['video'])
        real_logits = self.discriminate(
            real, data['c'], data['t'], is_real=True
        )
        real_loss = F.softplus(-real_logits).mean()
        backward(real_loss)
        real_logits, fake_logits = real_logits.detach(), fake_logits.detach()
        return {
            'loss_d': (fake_loss + real_loss).detach(),
            'logits_real': real_logits.mean(),
            'logits_fake': fake_logits.mean(),
            'signs_real': real_logits.sign().mean(),
            'signs_fake': fake_logits.sign().mean(),
        }

    def r1_loss(self, data: dict, backward: Callable) -> dict:
        """Compute ``gamma / 2 * |dD/dx|^2`` (Mescheder et al. 2018, eq. 9).

        The squared norm is that of each frame, averaged over the frames of
        the batch; the loss counts ``d_reg_interval`` times as it comes that
        rarely.
        """
        real = from_bytes(data['video']).requires_grad_()
        logits = self.discriminate(real, data['c'], data['t'], is_real=True)
        (grad,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        penalty = grad.square().sum([2, 3, 4]).mean()
        backward(self.r1_gamma / 2 * penalty * self.d_reg_interval)
        for param in self.discriminator.parameters():
            if param.grad is None:
                # The penalty does not depend on it. Published runs step it
                # with gradient 0, which still moves Adam's averages.
                param.grad = torch.zeros_like(param)
        return {'r1_penalty': penalty.detach()}

    def discriminate(
        self, videos: Tensor, c, t: Tensor, is_real: bool = False
    ) -> Tensor:
        """Augment clips and judge them; logits [N]."""
        if self.augment is None:
            return self.discriminator(videos, c, t)
        logits = self.discriminator(self.augment(videos), c, t)
        if is_real:
            self.augment.observe(logits)
        return logits

    def make_fakes(
        self, data: dict, which: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Generate the ``which``-th fake batch, and its labels and times."""
        c, t = data['gen_c'][:, which], data['gen_t'][:, which]
        motion_z, first_code = None, 0
        if 'motion_z' in data:
            motion_z = data['motion_z'][:, which]
        if 'first_code' in data:
            first_code = data['first_code'][:, which]
        z = data['gen_z'][:, which]
        return self.generator(z, c, t, motion_z, first_code), c, t

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

    @torch.no_grad()
    def sample_video(
        self,
        seed: int,
        t: Tensor,
        c: Tensor | None = None,
        motion_seed: int | None = None,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        chunk: int = 32,
    ) -> Iterator[Tensor]:
        """Render a video of the average generator, chunk by chunk.

        Every frame depends on the seeds and its own time alone. Memory does
        not depend on the length (but for LSTM motion codes, whose states are
        computed from time 0).

        Args:
            seed (int): Fixes content and motion.
            t (Tensor): Times [T], in frames, at least 0, any order.
            c (Tensor, optional): One-hot label [c_dim].
            motion_seed (int, optional): Fixes the motion instead of ``seed``.
            truncation_psi (float): See the generator's ``map``. Defaults to
                1. A conditional model truncates towards its class's mean.
            truncation_cutoff (int, optional): See there.
            chunk (int): Frames rendered at a time. Defaults to 32.

        Yields:
            Tensor: The next frames, uint8 [<= chunk, 3, H, W], on the CPU.
        """
        network = self.generator_ema
        device = next(network.parameters()).device
        if c is not None:
            c = c[None].to(device, torch.float32)
        z = seeded_noise(seed, CONTENT, 0, 1, network.z_dim).to(device)
        center = None
        if network.c_dim > 0 and truncation_psi != 1:
            center = network.class_center(c)
        ws = network.map(z, c, truncation_psi, truncation_cutoff, center)

        # Codes in float64 are the same however the times are chunked, and
        # their phases stay accurate for millions of frames.
        encoder = network.motion_encoder
        if encoder is not None:
            encoder = copy.deepcopy(encoder).double()
        motion_seed = seed if motion_seed is None else motion_seed
        for times in t.to(device, torch.float64).split(chunk):
            motion_v = None
            if encoder is not None:
                first, count = encoder.code_range(times[None])
                motion_z = seeded_noise(
                    motion_seed,
                    MOTION,
                    int(first),
                    count,
                    encoder.motion_z_dim,
                )
                motion_z = motion_z[None].to(device)
                motion_v = encoder(c, times[None], motion_z, first).float()
            yield to_bytes(network.render(ws, motion_v, len(times))[0]).cpu()

    def test_step(self, data: dict) -> list[dict]:
        """Render the clips that seeds stand for.

        Args:
            data (dict): Batch of a ``SeedDataset``: ``seed`` [N], ``t``
                [N, T], ``c`` [N, c_dim].

        Returns:
            list: For each seed ``video`` uint8 [T, 3, H, W] and ``seed``.
        """
        return [
            dict(
                video=torch.cat(list(self.sample_video(int(seed), t, c))),
                seed=int(seed),
            )
            for seed, t, c in zip(data['seed'], data['t'], data['c'])
        ]

    val_step = test_step

    def forward(self, inputs: dict, data_samples=None, mode: str = 'tensor'):
        """Not used: a GAN has two networks to call, see the ``*_step``."""
        raise NotImplementedError(
            'call train_step, test_step or sample_video of StyleGANV'
        )
