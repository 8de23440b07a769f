"""A small generator with random weights, as a work dir has it."""

import torch

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
