"""Metrics of generated videos, and the detectors that they use."""

from .detectors.eager import I3D, VGG16, FIDInception, RandomI3D
from .detectors.torchscript import (
    C3DTorchScript,
    I3DTorchScript,
    InceptionTorchScript,
    VideoTorchScript,
)
from .flow import FlowHistograms
from .frechet import FeatureStats, frechet_distance
from .metrics.flow_distance import FlowDistance
from .metrics.frechet_video_distance import FrechetVideoDistance
from .metrics.inception_score import InceptionScore
from .metrics.kernel_distance import KernelDistance
from .metrics.precision_recall import PrecisionRecall
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
