"""Pixels in [-1, 1] and in bytes."""

import numpy as np
import torch

from stylegan_v_mm.video.pixels import from_bytes, to_bytes


def test_bytes():
    values = torch.tensor([-9, -1.01, -1, -0.5, 0, 0.5, 0.999, 1, 1.01, 9])
    expected = [0, 0, 0, 64, 128, 191, 255, 255, 255, 255]
    assert to_bytes(values).tolist() == expected
    assert to_bytes(values).dtype == torch.uint8


def test_bytes_and_back():
    every = torch.arange(256).to(torch.uint8)
    values = from_bytes(every)
    assert values.dtype == torch.float32
    assert (values[0], values[255]) == (-1, 1)
    np.testing.assert_allclose(values, np.arange(256) / 127.5 - 1, atol=1e-6)
    assert torch.equal(to_bytes(values), every)
