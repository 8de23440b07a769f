"""Metrics of generated videos, for mmengine's test and validation loops."""

from .base import DetectorMetric
from .comparing import ComparingMetric
from .flow_distance import FlowDistance
from .frechet_video_distance import FrechetVideoDistance
from .inception_score import InceptionScore
from .kernel_distance import KernelDistance
from .precision_recall import PrecisionRecall

__all__ = [
    'ComparingMetric',
    'DetectorMetric',
    'FlowDistance',
    'FrechetVideoDistance',
    'InceptionScore',
    'KernelDistance',
    'PrecisionRecall',
]
