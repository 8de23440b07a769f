"""What needs a trained generator."""

from .sampling import load_gan, sample_grid, save_frames

__all__ = ['load_gan', 'sample_grid', 'save_frames']
