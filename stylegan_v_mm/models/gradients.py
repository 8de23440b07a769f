"""Gradients averaged over processes while the backward pass goes on."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
import torch.distributed as dist
from mmengine.dist import get_world_size
from torch import Tensor, nn

#: What gradients are sent in, by name.
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16}
#: Bytes of gradients that are sent together, as in DistributedDataParallel.
BUCKET_BYTES = 25 * 2**20


class _Sent(NamedTuple):
    """A bucket on its way."""

    grads: list[Tensor]
    flat: Tensor
    work: dist.Work


class GradientBuckets:
    """Average the gradients of a step over all processes.

    They are sent in buckets of neighbouring parameters, from the last to the
    first, as they become ready in about that order: while one is on its way,
    the backward pass goes on to the next. All processes send the same buckets
    in the same order.

    Our own: DistributedDataParallel hides the networks' methods, and expects
    neither several backward passes nor gradients of gradients.

    Args:
        network (nn.Module): Whose gradients to average.
        dtype (torch.dtype): One of :data:`DTYPES`.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype):
        self._dtype = dtype
        self._buckets: list[list[nn.Parameter]] = []
        self._sent: list[_Sent] = []
        self._next = 0  # bucket to send
        self._began = False
        if get_world_size() == 1:
            return
        size = BUCKET_BYTES
        for param in reversed([*network.parameters()]):
            if size >= BUCKET_BYTES:
                self._buckets.append([])
                size = 0
            self._buckets[-1].append(param)
            size += param.numel() * param.element_size()

    @contextmanager
    def sending(self, final: bool) -> Iterator[None]:
        """Run a backward pass inside; send what becomes ready in it.

        Args:
            final (bool): Whether it is the last one of the step; nothing is
                sent before.

        Raises:
            RuntimeError: It follows the last one.
        """
        if self._began:
            raise RuntimeError(
                'a backward pass after the last one of a step: all passes of '
                'a loss but its last are backward(loss, last=False)'
            )
        self._began = final
        if not final:
            yield
            return
        hooks, missing = [], []
        for number, bucket in enumerate(self._buckets):
            learning = [param for param in bucket if param.requires_grad]
            missing.append(len(learning))
            arrived = partial(self._arrived, missing, number)
            for param in learning:
                hook = param.register_post_accumulate_grad_hook(arrived)
                hooks.append(hook)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def finish(self) -> None:
        """Send what the pass did not reach; wait for all, and set them."""
        while self._next < len(self._buckets):
            self._send()
        for grads, flat, work in self._sent:
            work.wait()
            pieces = flat.split([grad.numel() for grad in grads])
            for grad, piece in zip(grads, pieces):
                grad.copy_(piece.view(grad.shape))

    def _arrived(
        self, missing: list[int], number: int, param: nn.Parameter
    ) -> None:
        """Send all that is complete and comes next."""
        missing[number] -= 1
        while self._next < len(missing) and missing[self._next] == 0:
            self._send()

    def _send(self) -> None:
        """Send the next bucket's share of the mean."""
        bucket = self._buckets[self._next]
        self._next += 1
        grads = [param.grad for param in bucket if param.grad is not None]
        if grads:
            flat = torch.cat([grad.flatten() for grad in grads])
            flat = (flat / get_world_size()).to(self._dtype)
            work = dist.all_reduce(flat, async_op=True)
            self._sent.append(_Sent(grads, flat, work))
