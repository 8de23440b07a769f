"""StyleGAN-V, the continuous-time video GAN (CVPR 2022), for OpenMMLab."""

from .version import __version__

__all__ = ['__version__']
