"""What needs a trained generator."""

from ..models.latents import Latents
from .inferencer import VideoGANInferencer
from .loading import find_model, load_sampler
from .writing import save_frames, save_video

__all__ = [
    'Latents',
    'VideoGANInferencer',
    'find_model',
    'load_sampler',
    'save_frames',
    'save_video',
]
