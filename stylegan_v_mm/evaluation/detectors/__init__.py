"""Networks that turn clips into features, for metrics.

A detector has

* ``features(video)``: uint8 [N, T, 3, H, W], RGB, on any device -> float32
  [N, ``num_features``] on the detector's device, or
  ``probabilities(video)``: the same -> float32 [N, classes], or both,
* ``min_num_frames``, the smallest T, and optionally ``max_num_frames``, the
  largest,
* ``digest``: a string that changes when its features do, for caches,
* ``is_random``: True if it is untrained, so that its distances can only be
  compared with themselves,
* ``precision``: dtype of its computation, by default 'float32',
* ``name``: optional suffix for the names of results. The usual detectors have
  none: I3D for clips, Inception-v3 of 2015 for images.
"""

from .eager import I3D, VGG16, FIDInception, RandomI3D
from .torchscript import (
    C3DTorchScript,
    I3DTorchScript,
    InceptionTorchScript,
    TorchScriptDetector,
    VideoTorchScript,
)

__all__ = [
    'I3D',
    'VGG16',
    'C3DTorchScript',
    'FIDInception',
    'I3DTorchScript',
    'InceptionTorchScript',
    'RandomI3D',
    'TorchScriptDetector',
    'VideoTorchScript',
]
