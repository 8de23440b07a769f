"""CUDA graphs of losses and their gradients."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn

from ..errors import InputError
from .batch import Batch

# Passes that fill caches and choose kernels before one is captured.
_NUM_FIRST = 3


class _Graph(NamedTuple):
    """A captured pass, and the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    logs: dict[str, Tensor]
    grads: list[Tensor | None]


class LossGraphs:
    """Compute losses and gradients without launching each kernel.

    A GPU launches some thousands of kernels in an iteration, one after the
    other; a graph of them is launched at once. Each loss is captured after a
    few passes, and replayed from then on. What it does in Python happens
    once: a loss that depends on numbers of the host must not be captured.
    Random numbers are new in each pass.
    """

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()
        self._graphs: dict[str, _Graph] = {}

    def run(
        self,
        loss: Callable[[Batch, Callable], dict],
        batch: Batch,
        backward: Callable,
        network: nn.Module,
    ) -> dict[str, Tensor]:
        """Compute a loss and the gradients of a network, which has none yet.

        Args:
            loss (callable): A method; see :meth:`Stepping.step`.
            batch (Batch): Of the same size in each call.
            backward (callable): See there.
            network (nn.Module): Whose gradients the loss computes.

        Returns:
            dict: What to log, until the next call.

        Raises:
            InputError: There is no GPU, there are several processes, or the
                layers have noise, which the host draws.
        """
        if not torch.cuda.is_available() or get_world_size() > 1:
            raise InputError(
                'model.cuda_graph=True needs a GPU and a single process: set '
                'it to False'
            )
        if batch.noise_seeds is not None:
            raise InputError(
                'model.cuda_graph=True needs generator.use_noise=False'
            )
        name = loss.__name__
        self._count[name] += 1
        if self._count[name] <= _NUM_FIRST:
            return loss(batch, backward)
        if name not in self._graphs:
            self._graphs[name] = self._capture(loss, batch, backward, network)
        captured = self._graphs[name]
        for ours, theirs in zip(captured.batch, batch):
            if ours is not None and theirs is not None:
                ours.copy_(theirs)
        captured.graph.replay()
        for param, grad in zip(network.parameters(), captured.grads):
            param.grad = grad
        return captured.logs

    def _capture(
        self,
        loss: Callable[[Batch, Callable], dict],
        batch: Batch,
        backward: Callable,
        network: nn.Module,
    ) -> _Graph:
        batch = Batch._make(None if x is None else x.clone() for x in batch)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logs = loss(batch, backward)
        grads = [param.grad for param in network.parameters()]
        return _Graph(graph, batch, logs, grads)
