"""Conversion of pixels between networks and files."""

import torch
from torch import Tensor


def to_bytes(videos: Tensor) -> Tensor:
    """Convert [-1, 1] to uint8 as the published metrics do: 127.5 x + 128."""
    return (videos * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def from_bytes(videos: Tensor) -> Tensor:
    """Convert uint8 to float32 in [-1, 1]."""
    return videos.float() / 127.5 - 1
