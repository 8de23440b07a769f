"""What generator and discriminator learn from: losses of a batch."""

import math
from collections.abc import Callable
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from ..video.pixels import from_bytes
from .batch import Batch
from .convolution import image_gradients_only
from .fakes import Fakes, make_fakes
from .losses import GANLoss, complete_gradients, differences, sum_of_means
from .noise import own_rows


class Objectives:
    """The losses of a GAN, which :class:`Stepping` steps on.

    Each takes a batch and a function that adds up the gradients of what it is
    given (``last=False``: more follows), and returns what to log. Attributes
    are those of :class:`StyleGANV`.
    """

    generator: Any
    discriminator: Any
    augment: Any
    gan_loss: GANLoss
    r1_gamma: float
    r2_gamma: float
    penalty_sigma: float | None
    d_reg_interval: int
    pl_weight: float
    pl_mean: Tensor
    g_reg_interval: int
    reuse_fakes: bool
    kept_fakes: list[Fakes]

    def generator_loss(self, batch: Batch, backward: Callable) -> dict:
        """Compute ``softplus(-D(G(z)))``, or another :data:`GAN_LOSSES`."""
        self.discriminator.requires_grad_(False)
        fakes = make_fakes(self.generator, batch, 0)
        logits = self.discriminate(fakes.videos, fakes.c, fakes.t)
        if self.gan_loss.is_relativistic:
            with torch.no_grad():
                real = from_bytes(batch.video)
                others = self.discriminate(real, batch.c, batch.t)
            logits = differences(logits, others)
        loss = sum_of_means(self.gan_loss.generator, logits)
        backward(loss)
        if self.reuse_fakes:
            self.kept_fakes.append(Fakes(*(x.detach() for x in fakes)))
        self.discriminator.requires_grad_(True)
        return {'loss_g': loss.detach()}

    def path_length_loss(self, batch: Batch, backward: Callable) -> dict:
        """Compute ``weight * (|J^T y| - a)^2`` (StyleGAN2, equation 4).

        J is the Jacobian of a clip by its ``ws``, y is normal noise, and a is
        the running mean of the lengths. The noise of T frames is scaled by
        1 / sqrt(T): a clip that repeats one picture is as long as the
        picture. Half of the clips are enough, as in StyleGAN2. The loss is
        multiplied by ``g_reg_interval``, as so few iterations have it.
        """
        half = batch.select(slice((len(batch.t) + 1) // 2))
        fakes = make_fakes(self.generator, half, 0)
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
        complete_gradients(self.generator)
        return {'pl_penalty': penalty.detach(), 'pl_mean': mean}

    def discriminator_loss(self, batch: Batch, backward: Callable) -> dict:
        """Compute ``softplus(D(G(z))) + softplus(-D(real))``, or another.

        Fake and real clips pass separately, as the minibatch statistics must
        not mix them.
        """
        if self.reuse_fakes:
            fakes = self.kept_fakes.pop(0)
        else:
            with torch.no_grad():
                fakes = make_fakes(self.generator, batch, 1)
        fake_logits = self.discriminate(fakes.videos, fakes.c, fakes.t)
        loss = torch.zeros((), device=batch.t.device)
        if self.gan_loss.fake is not None:
            fake_loss = sum_of_means(self.gan_loss.fake, fake_logits)
            backward(fake_loss, last=False)
            loss = fake_loss.detach()
        real = from_bytes(batch.video)
        real_logits = self.discriminate(real, batch.c, batch.t)
        if self.gan_loss.is_relativistic:
            # Nothing else determines what is common to all logits.
            real_logits, fake_logits = (
                differences(real_logits, fake_logits),
                differences(fake_logits, real_logits),
            )
        self.observe(real_logits[0])
        real_loss = sum_of_means(self.gan_loss.real, real_logits)
        backward(real_loss)
        true, fake = real_logits[0].detach(), fake_logits[0].detach()
        return {
            'loss_d': loss + real_loss.detach(),
            'logits_real': true.mean(),
            'logits_fake': fake.mean(),
            'signs_real': true.sign().mean(),
            'signs_fake': fake.sign().mean(),
        }

    def r1_loss(self, batch: Batch, backward: Callable) -> dict:
        """Compute ``gamma / 2 * |dD/dx|^2`` (Mescheder et al. 2018, eq. 9).

        Of real clips and, with ``r2_gamma``, of fake ones. The squared norm of
        each frame's gradient is averaged over the frames. The loss is
        multiplied by ``d_reg_interval``, as so few iterations have it.
        """
        weight = self.d_reg_interval / 2
        real = from_bytes(batch.video)
        r1, logits = self.gradient_norm(real, batch.c, batch.t)
        if not self.gan_loss.is_relativistic:
            self.observe(logits)
        backward(self.r1_gamma * weight * r1, last=self.r2_gamma == 0)
        logs = {'r1_penalty': r1.detach()}
        if self.r2_gamma > 0:
            with torch.no_grad():
                fakes = make_fakes(self.generator, batch, 1)
            r2, _ = self.gradient_norm(fakes.videos, fakes.c, fakes.t)
            backward(self.r2_gamma * weight * r2)
            logs['r2_penalty'] = r2.detach()
        complete_gradients(self.discriminator)
        return logs

    def gradient_norm(
        self, videos: Tensor, c: Tensor | None, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Average ``|dD/dx|^2`` of frames x, or estimate it by noise.

        Returns:
            tuple: The average, and the logits [N] of the clips.
        """
        if self.penalty_sigma is None:
            videos = videos.requires_grad_()
            logits = self.discriminate(videos, c, t)[0]
            with image_gradients_only():
                (grad,) = torch.autograd.grad(
                    logits.sum(), videos, create_graph=True
                )
            return grad.square().sum([2, 3, 4]).mean(), logits
        if self.augment is not None:
            videos = self.augment(videos)
        noise = own_rows(torch.randn, videos.shape, videos.device)
        logits = self.logits(videos, c, t)[0]
        noisy = self.logits(videos + self.penalty_sigma * noise, c, t)[0]
        slopes = (noisy - logits) / self.penalty_sigma
        return slopes.square().mean() / videos.shape[1], logits

    def discriminate(
        self, videos: Tensor, c: Tensor | None, t: Tensor
    ) -> tuple[Tensor, ...]:
        """Augment clips and return the sets of their logits."""
        if self.augment is not None:
            videos = self.augment(videos)
        return self.logits(videos, c, t)

    def observe(self, logits: Tensor) -> None:
        """Show the augmentation the logits [N] of real clips."""
        if self.augment is not None:
            self.augment.observe(logits)

    def logits(
        self, videos: Tensor, c: Tensor | None, t: Tensor
    ) -> tuple[Tensor, ...]:
        """Return the sets of logits of clips as they are."""
        logits = self.discriminator(videos, c, t)
        return logits if isinstance(logits, tuple) else (logits,)
