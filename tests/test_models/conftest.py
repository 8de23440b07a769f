"""The tests of this folder draw the same numbers at each run."""

import pytest
import torch

# On networks this small, threads cost more than they bring.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
