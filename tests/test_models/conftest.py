"""The tests of this folder draw the same numbers at each run."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
