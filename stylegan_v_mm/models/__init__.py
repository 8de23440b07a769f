"""Networks, and the GAN that trains them."""

from .augment import VideoAugment
from .discriminator import StyleGANVDiscriminator
from .generator import StyleGANVGenerator
from .stylegan_v import StyleGANV

__all__ = [
    'StyleGANV',
    'StyleGANVDiscriminator',
    'StyleGANVGenerator',
    'VideoAugment',
]
