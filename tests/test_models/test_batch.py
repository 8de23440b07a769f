"""What training takes of a data set's clips."""

import pytest
import torch

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.models.batch import Batch, take_tensors

N, T = 4, 3


def fields():
    return dict(
        video=torch.randint(0, 256, (N, T, 3, 16, 16), dtype=torch.uint8),
        t=torch.rand(N, T).double(),
        c=torch.eye(3)[[0, 1, 2, 0]],
        gen_t=torch.rand(N, 2, T).double(),
        gen_c=torch.eye(3)[torch.randint(3, (N, 2))],
    )


def test_parts_are_the_batch_in_order():
    batch = Batch(**fields(), gen_z=torch.randn(N, 2, 6))
    for count in (1, 2, 4):
        parts = batch.split(count)
        assert [len(part.t) for part in parts] == [N // count] * count
        for name, value in batch._asdict().items():
            pieces = [getattr(part, name) for part in parts]
            if value is None:
                assert pieces == [None] * count
            else:
                assert torch.equal(torch.cat(pieces), value)
    with pytest.raises(InputError, match=r'4 clips.*accumulative_counts=3'):
        batch.split(3)


def test_other_keys_are_left_out():
    data = fields()
    extra = dict(name=['a.mp4'], number=3, place=torch.arange(N), nothing=None)
    taken = take_tensors({**extra, **data})
    assert taken.keys() == data.keys()
    assert all(taken[name] is value for name, value in data.items())
    data['video'] = list(data['video'])
    with pytest.raises(InputError, match=r"'video' of a batch is a list"):
        take_tensors(data)
