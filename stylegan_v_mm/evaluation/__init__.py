"""Metrics of generated videos, and the detectors they rest on."""

from .detectors import (
    I3D,
    VGG16,
    C3DTorchScript,
    FIDInception,
    I3DTorchScript,
    InceptionTorchScript,
    RandomI3D,
    VideoTorchScript,
)
from .flow import FlowHistograms
from .frechet import FeatureStats, frechet_distance
from .metrics import (
    FlowDistance,
    FrechetVideoDistance,
    InceptionScore,
    KernelDistance,
    PrecisionRecall,
)
from .mmagic_frames import MMagicFrames
from .motion_report import MotionReport

__all__ = [
    'I3D',
    'VGG16',
    'C3DTorchScript',
    'FIDInception',
    'FeatureStats',
    'FlowDistance',
    'FlowHistograms',
    'FrechetVideoDistance',
    'I3DTorchScript',
    'InceptionScore',
    'InceptionTorchScript',
    'KernelDistance',
    'MMagicFrames',
    'MotionReport',
    'PrecisionRecall',
    'RandomI3D',
    'VideoTorchScript',
    'frechet_distance',
]
