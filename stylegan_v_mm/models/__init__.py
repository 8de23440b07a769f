"""Networks, and the GAN that trains them."""

from .discriminator import StyleGANVDiscriminator
from .generator import StyleGANVGenerator
from .stylegan_v import StyleGANV

__all__ = ['StyleGANV', 'StyleGANVDiscriminator', 'StyleGANVGenerator']
