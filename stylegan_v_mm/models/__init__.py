"""Networks, and the GAN that trains them."""

from .augment import VideoAugment
from .discriminator import StyleGANVDiscriminator
from .generator import StyleGANVGenerator
from .sampler import Sampler
from .stylegan_v import StyleGANV

__all__ = [
    'Sampler',
    'StyleGANV',
    'StyleGANVDiscriminator',
    'StyleGANVGenerator',
    'VideoAugment',
]
