"""Counters of a model that are Python's, and tensors in state dicts alone."""

from typing import Any, ClassVar

import torch
from torch import nn


class Counting(nn.Module):
    """A module with integers in its state dict.

    They are no buffers: on a GPU, each look at one would be a wait.

    Attributes:
        counters (tuple): Names of the integers, attributes of the module.
    """

    counters: ClassVar[tuple[str, ...]] = ('iteration', 'frames_seen')

    def _save_to_state_dict(
        self, destination: dict, prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self.counters:
            destination[prefix + name] = torch.tensor(getattr(self, name))

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any
    ) -> None:
        _, strict, missing, *_ = args
        for name in self.counters:
            if prefix + name in state_dict:
                setattr(self, name, int(state_dict.pop(prefix + name)))
            elif strict:
                missing.append(prefix + name)
        super()._load_from_state_dict(state_dict, prefix, *args)
