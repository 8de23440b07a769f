"""Training asks a GPU for nothing and sends it batches alone.

The GPU computes nothing (see ``fake_device``); loop and hooks are real.
"""

from unittest import mock

import pytest
from fake_device import FakeDevice, needs_fake_device
from mmengine.hooks import Hook

from stylegan_v_mm.config import load_config
from stylegan_v_mm.engine import VideoGANRunner
from stylegan_v_mm.engine.optim import list_optimizers
from stylegan_v_mm.models import image_ops

NUM_ITERS = 2  # of which the first fills caches

# The published augmentation; nothing is logged or saved.
SETTINGS = {
    'max_iters': 1000,
    'preview_interval': 1000,
    'checkpoint_interval': 1000,
    'log_interval': 100,
    'model.augment': {'_delete_': True, 'type': 'VideoAugment'},
}


class Enough(Exception):
    """The iterations that count are done."""


class Watch(Hook):
    """Note what each iteration asked the device for, and sent to it."""

    priority = 'HIGHEST'

    def __init__(self, device):
        self.device = device
        self.iterations = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.iterations.append(
            (len(self.device.reads), len(self.device.copies))
        )
        if len(self.iterations) > NUM_ITERS:
            raise Enough


def places(config, tmp_path, **options):
    """Train on the device; return the places that read, and that copied."""
    run = load_config(
        str(config), {**SETTINGS, 'work_dir': str(tmp_path), **options}
    )
    run.experiment_name = tmp_path.name
    for cache in (image_ops._constant, image_ops._lowpass,
                  image_ops._filter_bank):  # fmt: skip
        cache.cache_clear()
    runner = VideoGANRunner.from_cfg(run)
    with FakeDevice() as device:
        with mock.patch('stylegan_v_mm.engine.runner.get_device') as found:
            found.return_value = 'gpu'
            runner.model = runner.wrap_model(None, runner.model)
        watch = Watch(device)
        runner.register_hook(watch)
        with pytest.raises(Enough):
            runner.train()
        # One kernel for all weights.
        for optimizer in list_optimizers(runner.optim_wrapper):
            assert all(group['fused'] for group in optimizer.param_groups)
        reads, copies = watch.iterations[1]
        return device.reads[reads:], device.copies[copies:]


# Noise in layers is missing: the device has no generators.
EVERYTHING = {
    'model.augment': {
        '_delete_': True,
        'type': 'VideoAugment',
        'ada_interval': 1,
        'pipeline': 'bgcfnc',
    },
    'model.d_reg_interval': 1,
    'model.discriminator.frame_fusion': 'mean',
    'model.discriminator.mbstd_group_size': 2,
    'model.discriminator.temporal_shift': True,
    'model.ema_rampup': 0.05,
    'model.generator.cond_type': 'sum_w',
    'model.generator.coord_dim': 4,
    'model.generator.motion_type': 'lstm',
    'model.generator.motion_v_dim': 8,
    'model.num_fp16_res': 2,
    'model.g_reg_interval': 1,
    'model.gan_loss': 'relativistic',
    'model.pl_weight': 2,
    'model.r2_gamma': 1,
    'model.reuse_fakes': True,
    'model.style_mixing_prob': 0.9,
}


@needs_fake_device
def test_an_iteration_neither_reads_nor_copies(config, tmp_path):
    reads, copies = places(config, tmp_path, **EVERYTHING)
    assert reads == []
    assert_only_the_batch(copies)


@needs_fake_device
def test_values_are_read_when_they_are_logged(config, tmp_path):
    # Single frames, for networks without motion.
    options = {
        'model.accumulative_counts': 2,
        'model.augment': None,
        'num_frames': 1,
    }
    reads, copies = places(config, tmp_path, log_interval=2, **options)
    files = {place.partition(':')[0] for place in reads}
    assert files == {'engine/hooks/logs.py', 'engine/hooks/divergence.py'}
    assert_only_the_batch(copies)


def assert_only_the_batch(copies):
    """Its video, times and labels."""
    (place,) = set(copies)
    assert place.startswith('models/stylegan_v.py')
    assert len(copies) == 5
