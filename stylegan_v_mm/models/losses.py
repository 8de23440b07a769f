"""GAN losses as functions of logits, and what penalties leave out."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GANLoss(NamedTuple):
    """Three functions that map logits to losses, element by element.

    Attributes:
        generator (callable): Loss of fake clips for the generator.
        fake (callable, optional): Loss of fake clips for the discriminator.
            None for a relativistic loss: there, the logit of a fake clip less
            that of a real one takes the place of the former, and the reverse
            that of the latter.
        real (callable): Loss of real clips for the discriminator.
    """

    generator: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor] | None
    real: Callable[[Tensor], Tensor]

    @property
    def is_relativistic(self) -> bool:
        """Whether logits count relative to those of the other clips."""
        return self.fake is None


GAN_LOSSES = {
    # Non-saturating (Goodfellow et al. 2014), as in the published model.
    'logistic': GANLoss(
        generator=lambda x: F.softplus(-x),
        fake=F.softplus,
        real=lambda x: F.softplus(-x),
    ),
    # Lim & Ye 2017.
    'hinge': GANLoss(
        generator=lambda x: -x,
        fake=lambda x: F.relu(1 + x),
        real=lambda x: F.relu(1 - x),
    ),
    # Arjovsky et al. 2017; R1 stands in for their Lipschitz constraint.
    'wasserstein': GANLoss(
        generator=lambda x: -x,
        fake=lambda x: x,
        real=lambda x: -x,
    ),
    # Jolicoeur-Martineau 2018; with R1 and R2, Huang et al. 2024 (R3GAN).
    'relativistic': GANLoss(
        generator=lambda x: F.softplus(-x),
        fake=None,
        real=lambda x: F.softplus(-x),
    ),
}


def sum_of_means(loss: Callable, logits: tuple[Tensor, ...]) -> Tensor:
    """Average a loss over each set of logits; return the sum."""
    return sum(loss(each).mean() for each in logits)


def differences(
    a: tuple[Tensor, ...], b: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Subtract sets of logits b from sets a, pair by pair."""
    return tuple(x - y for x, y in zip(a, b))


def complete_gradients(network: nn.Module) -> None:
    """Set gradients to zero where a penalty does not reach.

    Published runs do, and Adam then moves these weights by its averages.
    """
    for param in network.parameters():
        if param.grad is None and param.requires_grad:
            param.grad = torch.zeros_like(param)
