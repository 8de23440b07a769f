"""MoCoGAN+SG2: importing it registers its discriminator."""

from .discriminator import MoCoGANDiscriminator

__all__ = ['MoCoGANDiscriminator']
