"""What a data set of the user's own may give that a model cannot take."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stylegan_v_mm.engine.hooks.check_data import (
    check_batch_size,
    check_clip,
    check_label,
)
from stylegan_v_mm.errors import InputError


@pytest.fixture
def model():
    return SimpleNamespace(
        c_dim=2,
        accumulative_counts=2,
        generator=SimpleNamespace(resolution=16),
        discriminator=SimpleNamespace(num_frames=3, mbstd_group_size=4),
    )


@pytest.fixture
def clip():
    return dict(
        video=torch.zeros(3, 3, 16, 16, dtype=torch.uint8),
        t=np.arange(3.0),
        c=np.zeros(2),
        gen_t=np.zeros((2, 3)),
        gen_c=np.zeros((2, 2)),
    )


@pytest.mark.parametrize(
    ('key', 'value', 'words'),
    [
        ('c', 1, "'c' as int, not an array of 1 dim"),
        ('t', [0, 1, 2], "'t' as list, not an array of 1 dim"),
        ('gen_t', np.zeros(3), r"'gen_t' as \[3\], not an array of 2 dim"),
        ('gen_t', np.zeros((1, 3)), r'num_gen=1 must be 2'),
        ('video', torch.zeros(3, 16, 16), r"'video' as \[3, 16, 16\], not an"),
        ('video', torch.zeros(3, 3, 16, 8), 'frames of 8 x 16'),
        ('video', torch.zeros(4, 3, 16, 16), 'clips of 4 frames, but'),
        ('gen_c', None, "gives no 'gen_c'"),
    ],
)
def test_items_that_no_model_takes_are_named(clip, model, key, value, words):
    check_clip(clip, model)
    clip[key] = value
    if value is None:
        del clip[key]
    with pytest.raises(InputError, match=words):
        check_clip(clip, model)


@pytest.mark.parametrize(
    ('width', 'words'),
    [(0, 'the data has no labels'), (3, '3 wide, the model takes 2')],
)
def test_labels_of_another_width_are_named(model, width, words):
    check_label([0, 1], model)
    with pytest.raises(InputError, match=words):
        check_label([0] * width, model)


@pytest.mark.parametrize(
    ('size', 'words'),
    [
        (7, 'no multiple of model.accumulative_counts=2'),
        (1, 'no multiple'),
        (10, 'mbstd_group_size=4: the 5 clips'),
    ],
)
def test_batches_that_cannot_be_divided_are_named(model, size, words):
    for good in (2, 4, 6, 8, 16):
        check_batch_size(good, model)
    with pytest.raises(InputError, match=words):
        check_batch_size(size, model)


def test_a_discriminator_may_take_any_number_of_frames(clip, model):
    del model.discriminator.num_frames
    check_clip(clip | dict(video=torch.zeros(9, 3, 16, 16)), model)
