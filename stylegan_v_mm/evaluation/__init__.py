"""Metrics of generated videos, and the detectors they rest on."""

from .detectors import I3DTorchScript, InceptionTorchScript, RandomI3D
from .frame_difference import FrameDifference
from .frechet import FeatureStats, frechet_distance
from .metrics import FrechetVideoDistance

__all__ = [
    'FeatureStats',
    'FrameDifference',
    'FrechetVideoDistance',
    'I3DTorchScript',
    'InceptionTorchScript',
    'RandomI3D',
    'frechet_distance',
]
