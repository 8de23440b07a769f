"""A small model to train on two videos."""

import pytest
import torch
from real_process import ROOT

from stylegan_v_mm.video.encoding import write_video

CONFIG = f"""
_base_ = ['{ROOT}/configs/stylegan_v/demo_moving_shapes.py']
data_root = '{{data_root}}'
resolution = 16
batch_size = 4
max_iters = 8
log_interval = preview_interval = checkpoint_interval = 2
model = dict(
    ema_kimg=0.01,
    generator=dict(
        z_dim=8, w_dim=8, motion_z_dim=8, motion_v_dim=8, time_enc_dim=4,
        channel_max=8,
    ),
    discriminator=dict(channel_max=8),
)
"""


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """A config and two videos to train on."""
    folder = tmp_path_factory.mktemp('two_videos')
    for i in range(2):
        video = torch.full((40, 3, 16, 16), 100 * i, dtype=torch.uint8)
        write_video(folder / f'videos/{i}.mp4', video, 25)
    path = folder / 'config.py'
    path.write_text(CONFIG.format(data_root=folder / 'videos'))
    return path
