"""A small trained model, made once by the real tools."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
from real_process import ROOT, Process, run_tool

from stylegan_v_mm import zoo
from stylegan_v_mm.files import sha256_of

CONFIG = f"""
_base_ = ['{ROOT}/configs/stylegan_v/demo_moving_shapes.py']
data_root = '{{data_root}}'
resolution = 16
num_fp16_res = 0  # the same numbers on all CPUs
batch_size = 4
max_iters = 4
num_workers = 0
log_interval = 2
preview_interval = 2
checkpoint_interval = 2
num_test_videos = 6
model = dict(
    augment=dict(_delete_=True, type='VideoAugment', p=0.2),
    ema_kimg=0.01,
    generator=dict(
        z_dim=8, w_dim=8, motion_z_dim=8, motion_v_dim=8, time_enc_dim=4,
        channel_max=8,
    ),
    discriminator=dict(channel_max=8),
)
"""


class Job(NamedTuple):
    """What a training run started from and left."""

    config: Path
    data: Path
    work_dir: Path
    train: Process

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint."""
        return self.work_dir / 'iter_4.pth'


@pytest.fixture(scope='session')
def job(tmp_path_factory):
    """Make videos and train on them: real files, real processes."""
    folder = tmp_path_factory.mktemp('job')
    data = folder / 'videos'
    made = run_tool(
        'dataset_converters/moving_shapes.py',
        data,
        '--num-videos=8',
        '--num-frames=40',
        '--resolution=16',
    )
    assert made.returncode == 0, made.stderr
    config = folder / 'config.py'
    config.write_text(CONFIG.format(data_root=data))
    work_dir = folder / 'work'
    train = run_tool(
        'train.py',
        config,
        '--work-dir',
        work_dir,
        XDG_CACHE_HOME=str(folder / 'cache'),
    )
    assert train.returncode == 0, train.stderr
    return Job(config, data, work_dir, train)


@pytest.fixture
def tiny(job, tmp_path, monkeypatch):
    """The zoo holds the job's model, and nothing else does."""
    entry = dict(
        config=str(job.config),
        weights=str(job.checkpoint),
        sha256=sha256_of(job.checkpoint),
        about='Moving shapes',
    )
    (tmp_path / 'index.json').write_text(json.dumps({'tiny': entry}))
    monkeypatch.setattr(zoo, 'FOLDER', tmp_path)
    monkeypatch.chdir(tmp_path)
