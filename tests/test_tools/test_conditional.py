"""Conditional training learns what its labels mean."""

import pytest
import torch
from real_process import ROOT, run_tool

from stylegan_v_mm.datasets import VideoDataset
from stylegan_v_mm.inference import load_sampler

CONFIG = f"""
_base_ = ['{ROOT}/configs/stylegan_v/demo_three_classes.py']
data_root = '{{data_root}}'
resolution = 16
num_frames, batch_size = 1, 16
max_iters = 120
preview_interval = checkpoint_interval = 120
model = dict(
    generator=dict(channel_max=32), discriminator=dict(channel_max=32),
    r1_gamma=1, ema_kimg=0.2, reuse_fakes=True)
"""


# Labels act on a clip as a whole: from single frames, the networks learn what
# they mean in a fifth of the time.
@pytest.mark.slow
def test_clips_look_like_their_class(tmp_path):
    data, config = tmp_path / 'videos', tmp_path / 'config.py'
    config.write_text(CONFIG.format(data_root=data))
    made = run_tool(
        'dataset_converters/moving_shapes.py',
        data,
        *['--num-videos=60', '--num-frames=40', '--resolution=16'],
        '--by-class=colour',
    )
    assert made.returncode == 0, made.stderr
    trained = run_tool('train.py', config, '--work-dir', tmp_path / 'work')
    assert trained.returncode == 0, trained.stderr

    # The mean picture of each class of real videos.
    videos = VideoDataset(data, labels='folder')
    assert videos.metainfo['classes'] == ('blue', 'green', 'red')
    pictures = torch.stack(
        [
            torch.from_numpy(source.read(range(16))).float().mean(0)
            for source in videos.sources
        ]
    ).flatten(1)
    labels = torch.from_numpy(videos.labels)
    means = labels.T @ pictures / labels.sum(0)[:, None]

    sampler = load_sampler(str(config), str(tmp_path / 'work/iter_120.pth'))
    t, right = torch.arange(16), 0
    for label, c in enumerate(torch.eye(3)):
        for seed in range(20):
            clip = torch.cat(list(sampler.sample_video(seed, t, c))).float()
            picture = clip.mean(0).permute(1, 2, 0).flatten()
            nearest = (means - picture).square().sum(1).argmin()
            right += int(nearest) == label
    # By chance it would be a third, give or take 0.06.
    assert right / 60 > 0.6
