"""The device that computes nothing: what it checks and what it counts."""

import pytest
import torch
from fake_device import FakeDevice, needs_fake_device
from torch import nn

pytestmark = needs_fake_device


def test_tensors_of_two_devices_do_not_meet():
    with FakeDevice():
        ours = torch.ones(2, 3).to('gpu')
        with pytest.raises(RuntimeError, match='two different devices'):
            ours + torch.ones(3)
        with pytest.raises(RuntimeError, match='device'):
            nn.Linear(3, 4)(ours)
        with pytest.raises(RuntimeError, match='two different devices'):
            nn.Conv1d(1, 4, 3)(ours[:, None])
        assert nn.Linear(3, 4).to('gpu')(ours).shape == (2, 4)
        # Those of the CPU are real all the while.
        assert (torch.arange(3) + 1).tolist() == [1, 2, 3]


def test_what_waits_for_the_device_is_listed():
    with FakeDevice() as device:
        x = torch.tensor([1.0, 2], device='gpu')
        y = torch.zeros(2, device='gpu')
        y.copy_(torch.ones(2))
        (x * y + 1).sum()
        assert device.reads == []
        assert len(device.copies) == 2
        for number, read in enumerate(
            (
                lambda: float(x[0]),
                lambda: bool(x.max() > 1),
                lambda: torch.equal(x, y),
                lambda: x.cpu(),
            ),
            1,
        ):
            read()
            assert len(device.reads) == number


def test_memory_is_counted():
    with FakeDevice() as device:
        x = torch.zeros(2**28, device='gpu', requires_grad=True)
        assert device.in_use == 2**30
        y = (x * x).exp()
        # Of a product and a power, the former goes.
        assert (device.in_use, device.peak) == (2 * 2**30, 3 * 2**30)
        y.sum().backward()
        assert x.grad.device.type == 'gpu'
        del y
        assert device.in_use == 2 * 2**30
        assert device.largest == 2**28
