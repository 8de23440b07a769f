"""Grids and frame folders."""

import numpy as np
import pytest
import torch
from PIL import Image

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.inference.writing import grids, save_frames


def random_frames(num_frames, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (num_frames, 3, 4, 6)
    return torch.randint(0, 256, shape, generator=generator).byte()


def test_a_grid_is_made_chunk_by_chunk():
    videos = torch.stack([random_frames(5, seed) for seed in range(3)])
    chunks = list(grids(videos.split(2, 1), 2))
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    grid = torch.cat(chunks)
    assert grid.shape == (5, 3, 10, 14)
    assert torch.equal(grid[:, :, :4, :6], videos[0])
    assert torch.equal(grid[:, :, :4, 8:], videos[1])
    assert torch.equal(grid[:, :, 6:, :6], videos[2])
    assert not grid[:, :, 6:, 8:].any()


@pytest.mark.parametrize('suffix', ['png', 'webp'])
def test_lossless_frames_are_exact_and_in_order(tmp_path, suffix):
    frames = random_frames(12)
    save_frames(frames.split(5), tmp_path / 'a', suffix)
    files = sorted((tmp_path / 'a').iterdir())
    assert [f.name for f in files] == [f'{i:06d}.{suffix}' for i in range(12)]
    images = np.stack([np.array(Image.open(f)) for f in files])
    assert (images == frames.permute(0, 2, 3, 1).numpy()).all()


def test_jpeg_quality_decides_the_error(tmp_path):
    frames = random_frames(1)
    errors = []
    for quality in (10, 95):
        folder = tmp_path / str(quality)
        save_frames([frames], folder, 'jpg', quality)
        image = np.array(Image.open(folder / '000000.jpg')).astype(int)
        errors.append(abs(image - frames[0].permute(1, 2, 0).numpy()).mean())
    assert errors[1] < errors[0]


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / 'a').mkdir()
    with pytest.raises(InputError, match='exists'):
        save_frames([random_frames(1)], tmp_path / 'a', 'png')
    assert not any((tmp_path / 'a').iterdir())


def test_an_error_midway_leaves_nothing(tmp_path):
    def chunks():
        yield random_frames(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_frames(chunks(), tmp_path / 'a', 'png')
    assert not any(tmp_path.iterdir())
