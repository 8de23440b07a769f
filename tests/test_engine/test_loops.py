"""The training loop's own rules; tests of the tools run it whole."""

from types import SimpleNamespace

import pytest
from torch.utils.data import DataLoader

from stylegan_v_mm.engine import ClipTrainLoop
from stylegan_v_mm.errors import InputError


def test_workers_that_would_outlive_the_stream_are_refused():
    loader = DataLoader(range(3), num_workers=1, persistent_workers=True)
    with pytest.raises(InputError, match=r'persistent_workers=True: remove'):
        ClipTrainLoop(SimpleNamespace(), loader, max_iters=1)
