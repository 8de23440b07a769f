"""Small generators with random weights, alone and as a work dir has one."""

import torch
from torch import nn

from stylegan_v_mm.checkpoints.loading import load_checkpoint, load_weights
from stylegan_v_mm.config import load_config
from stylegan_v_mm.models import Sampler, StyleGANVGenerator
from stylegan_v_mm.registry import MODELS

CONFIG = """
model = dict(
    type='StyleGANV',
    generator=dict(
        type='StyleGANVGenerator', resolution=32, c_dim={c_dim}, z_dim=16,
        w_dim=16, motion_z_dim=16, motion_v_dim=32, time_enc_dim=16,
        channel_max=16, motion_z_distance=16, use_noise={use_noise},
    ),
    discriminator=dict(
        type='StyleGANVDiscriminator', resolution=32, c_dim={c_dim},
        num_frames=3, max_num_frames=64, channel_max=16,
    ),
    r1_gamma=1,
)
"""


def make_work_dir(folder, c_dim=0, use_noise=False):
    """Make a folder with a config and a checkpoint of random weights."""
    folder.mkdir(parents=True)
    config = CONFIG.format(c_dim=c_dim, use_noise=use_noise)
    (folder / 'small.py').write_text(config)
    variables = {}
    exec(config, variables)
    torch.manual_seed(0)
    gan = MODELS.build(variables['model'])
    # Random biases, so that no layer is as symmetric as a new one; and noise
    # that can be seen.
    for name, param in gan.generator_ema.named_parameters():
        if name.endswith(('bias', 'noise_strength')):
            param.data += 0.3 * torch.randn_like(param)
    state = {'state_dict': gan.state_dict()}
    torch.save(state, folder / 'iter_1.pth')
    return folder


def load_whole(config, checkpoint):
    """Load all networks of a checkpoint, in eval mode."""
    gan = MODELS.build(load_config(str(config)).model)
    load_weights(gan, load_checkpoint(str(checkpoint)), str(checkpoint))
    return gan.eval()


def small_sampler(**options):
    """Make a sampler of 16 px whose biases and noise can be seen."""
    sizes = dict(resolution=16, channel_base=128, channel_max=8)
    sizes |= dict(z_dim=6, w_dim=7, motion_v_dim=8, motion_z_dim=5)
    times = dict(motion_z_distance=8, motion_kernel_size=3, time_enc_dim=4)
    times |= dict(min_period_len=8, max_period_len=64)
    generator = StyleGANVGenerator(**{**sizes, **times, **options})
    for name, param in generator.named_parameters():
        if name.endswith('bias') and 'affine' not in name:
            nn.init.normal_(param, std=0.3)
        if name.endswith('noise_strength'):
            nn.init.normal_(param)
    return Sampler(generator.eval().requires_grad_(False))
