"""What the checks of data against the model find, and how they name it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stylegan_v_mm.engine.hooks.check_data import check_batch_size, check_clip
from stylegan_v_mm.errors import InputError

T = 3


@pytest.fixture
def clip():
    return dict(
        video=torch.zeros(T, 3, 16, 16, dtype=torch.uint8),
        t=torch.arange(T).double(),
        c=torch.eye(3)[0],
        gen_t=torch.rand(2, T).double(),
        gen_c=torch.eye(3)[:2],
    )


def model(accumulative_counts=1, **discriminator):
    return SimpleNamespace(
        generator=SimpleNamespace(resolution=16),
        discriminator=SimpleNamespace(**discriminator),
        accumulative_counts=accumulative_counts,
    )


@pytest.mark.parametrize(
    ('key', 'value', 'words'),
    [
        ('c', 1, "'c' as int, not an array of 1 dim"),
        ('t', [0, 1, 2], "'t' as list, not an array of 1 dim"),
        ('gen_t', np.zeros(3), r"'gen_t' as \[3\], not an array of 2 dim"),
        ('gen_t', np.zeros((1, 3)), 'num_gen=1 must be 2'),
        ('video', torch.zeros(3, 16, 16), r"'video' as \[3, 16, 16\], not an"),
        ('video', torch.zeros(T, 3, 16, 8), 'frames of 8 x 16'),
        (
            'video',
            torch.zeros(4, 3, 16, 16),
            'clips of 4 frames.*num_frames=3',
        ),
        ('gen_c', None, "gives no 'gen_c'"),
    ],
)
def test_items_that_are_not_clips_are_named(clip, key, value, words):
    check_clip(clip, model(num_frames=T))
    clip[key] = value
    if value is None:
        del clip[key]
    with pytest.raises(InputError, match=words):
        check_clip(clip, model(num_frames=T))


def test_a_discriminator_may_take_any_number_of_frames(clip):
    check_clip(clip, model())
    check_clip(clip | dict(video=torch.zeros(9, 3, 16, 16)), model())


def test_batches_that_cannot_be_divided_are_named():
    check_batch_size(8, model(accumulative_counts=2, mbstd_group_size=4))
    # A group is at most as large as the part.
    check_batch_size(2, model(mbstd_group_size=4))
    for batch_size, options, words in (
        (8, dict(accumulative_counts=3), '8 clips.*accumulative_counts=3'),
        (0, dict(), '0 clips'),
        (6, dict(mbstd_group_size=4), 'mbstd_group_size=4: the 6 clips'),
    ):
        with pytest.raises(InputError, match=words):
            check_batch_size(batch_size, model(**options))
