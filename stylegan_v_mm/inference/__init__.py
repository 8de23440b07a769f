"""What needs a trained generator."""

from .inferencer import VideoGANInferencer
from .latents import Latents
from .loading import find_model, load_gan
from .writing import save_frames, save_video

__all__ = [
    'Latents',
    'VideoGANInferencer',
    'find_model',
    'load_gan',
    'save_frames',
    'save_video',
]
