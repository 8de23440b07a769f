"""Collate clips into a batch."""

from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import default_collate

from ..registry import FUNCTIONS


@FUNCTIONS.register_module()
def collate_clips(items: list[dict]) -> dict[str, Any]:
    """Stack arrays of one shape; put everything else in lists.

    torch's default function fails if it cannot stack an extra key, such as
    None or lists of different lengths.

    Args:
        items (list): N items of a data set, as dicts.

    Returns:
        dict: For each key, a tensor [N, ...] or a list of N values, with None
        for an item without this key.
    """
    keys = dict.fromkeys(key for item in items for key in item)
    return {key: _join([item.get(key) for item in items]) for key in keys}


def _join(values: list) -> Any:
    shapes = {tuple(x.shape) if _is_array(x) else None for x in values}
    if len(shapes) == 1 and None not in shapes:
        return default_collate(values)
    return values


def _is_array(value: object) -> bool:
    return isinstance(value, Tensor) or (
        isinstance(value, np.ndarray) and value.dtype.kind in 'biuf'
    )
