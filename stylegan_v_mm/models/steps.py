"""Optimizer steps on losses."""

from collections.abc import Callable
from typing import Any

import torch
from mmengine.optim import OptimWrapperDict
from torch import Tensor

from .batch import Batch
from .gradients import GradientBuckets
from .graphs import LossGraphs


class Stepping:
    """A model whose networks learn one after the other.

    Attributes:
        gradient_dtype (torch.dtype): What processes send each other.
        graphs (LossGraphs, optional): Through which losses are computed.
    """

    gradient_dtype: torch.dtype
    graphs: LossGraphs | None

    def step(
        self,
        name: str,
        loss: Callable[[Batch, Callable], dict],
        parts: list[Batch],
        optim_wrapper: OptimWrapperDict,
    ) -> dict[str, Tensor]:
        """Take an optimizer step on the mean of a loss over the batch.

        Args:
            name (str): Network to step, 'generator' or 'discriminator'.
            loss (callable): Takes a part of the batch and a function that
                adds up the gradients of losses (``last=False``: another one
                of this part follows); returns what to log.
            parts (list): The parts of the batch, see :meth:`Batch.split`.
            optim_wrapper (OptimWrapperDict): See :meth:`train_step`.

        Returns:
            dict: What to log, averaged over the parts; ``bad_gradients``
            counts the weights whose gradient is not finite.
        """
        network: Any = getattr(self, name)
        optimizer = optim_wrapper[name]
        buckets = GradientBuckets(network, self.gradient_dtype)

        def backward(loss: Tensor, last: bool = True) -> None:
            with buckets.sending(last and part is parts[-1]):
                optimizer.backward(loss / len(parts))

        logs = []
        for part in parts:
            if self.graphs is None:
                logs.append(loss(part, backward))
            else:
                logs.append(self.graphs.run(loss, part, backward, network))
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        largest = torch.stack(torch._foreach_norm(grads, torch.inf))
        buckets.finish()
        for grad in grads:
            torch.nan_to_num(grad, nan=0, posinf=1e5, neginf=-1e5, out=grad)
        optimizer.step()
        optimizer.zero_grad()
        return {
            key: torch.stack([log[key] for log in logs]).mean()
            for key in logs[0]
        } | {'bad_gradients': (~largest.isfinite()).float().sum()}
