"""A small generator with random weights."""

import pytest
from small_model import make_work_dir

from stylegan_v_mm.inference import VideoGANInferencer


@pytest.fixture(scope='session')
def work_dir(tmp_path_factory):
    """A work dir of an unconditional model."""
    return make_work_dir(tmp_path_factory.mktemp('inference') / 'work')


@pytest.fixture(scope='session')
def inferencer(work_dir):
    """That model; tests do not change it."""
    return VideoGANInferencer(work_dir, device='cpu')


@pytest.fixture(scope='session')
def conditional(tmp_path_factory):
    """A model of three classes."""
    folder = make_work_dir(tmp_path_factory.mktemp('conditional') / 'w', 3)
    return VideoGANInferencer(folder, device='cpu')


@pytest.fixture(scope='session')
def noisy(tmp_path_factory):
    """A model whose layers add noise."""
    folder = tmp_path_factory.mktemp('noisy') / 'work'
    return VideoGANInferencer(
        make_work_dir(folder, use_noise=True), device='cpu'
    )
