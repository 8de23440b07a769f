"""What fixes a video, in memory and in a file."""

import dataclasses

import pytest
import torch
from small_model import small_sampler

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.models.latents import Latents, decompose
from stylegan_v_mm.models.noise import MotionNoise


@pytest.fixture(scope='module')
def sampler():
    return small_sampler()


@pytest.fixture(scope='module')
def conditional():
    """A sampler of three classes."""
    return small_sampler(c_dim=3)


CLASSES = torch.eye(3)[[0, 2, 1]]


def rendered(sampler, latents, t):
    return torch.cat(list(sampler.render(latents, t)), 1)


def test_a_file_gives_back_the_videos(conditional, tmp_path):
    latents = conditional.latents([1, 2, 3], CLASSES)
    codes = torch.randn(7, 5)
    latents.motions[1] = MotionNoise(2, codes, first_code=3)
    latents.motions[2] = MotionNoise(2**40, period=5)
    t = torch.arange(0, 320, 11)
    expected = rendered(conditional, latents, t)
    path = tmp_path / 'new/some.safetensors'
    latents.save(path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    (tmp_path / 'any').touch()
    assert path.stat().st_mode == (tmp_path / 'any').stat().st_mode
    loaded = Latents.load(path, conditional.generator)
    assert torch.equal(rendered(conditional, loaded, t), expected)
    # A part of them is a part of the videos.
    part = rendered(conditional, loaded[1:], t)
    assert (part - expected[1:]).abs().max() < 1e-5
    assert len(loaded) == 3
    assert len(loaded[1:]) == 2


def test_files_of_other_generators_are_refused(sampler, conditional, tmp_path):
    path = tmp_path / 'some.safetensors'
    network = sampler.generator
    conditional.latents([1], CLASSES[:1]).save(path)
    with pytest.raises(InputError, match=rf'{path} is of another.*c is'):
        Latents.load(path, network)
    latents = sampler.latents([1])
    latents.save(path)
    with pytest.raises(InputError, match='c is'):
        Latents.load(path, conditional.generator)
    Latents(latents.ws[:, 1:], latents.motions).save(path)
    with pytest.raises(InputError, match=r'ws is \[1, 5, 7\].*\[1, 6, 7\]'):
        Latents.load(path, network)
    motion = MotionNoise(0, torch.zeros(3, 9))
    Latents(latents.ws, [motion]).save(path)
    with pytest.raises(InputError, match=r'motion_z\.0 is \[3, 9\]'):
        Latents.load(path, network)


def test_damaged_and_missing_files_are_named(sampler, tmp_path):
    path = tmp_path / 'some.safetensors'
    network = sampler.generator
    with pytest.raises(InputError, match='there is no file'):
        Latents.load(path, network)
    sampler.latents([1]).save(path)
    whole = path.read_bytes()
    for damaged in (b'', whole[: len(whole) // 2], b'<html>' * 99):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=str(path)):
            Latents.load(path, network)


def test_decomposition_pairs_all(conditional):
    latents = conditional.latents([1, 2, 3], CLASSES)
    t = torch.arange(0, 60, 7)
    grid = rendered(conditional, decompose(latents), t)
    assert len(grid) == 9
    for row in range(3):
        for column in range(3):
            alone = conditional.latents(
                [column + 1],
                CLASSES[column : column + 1],
                motion_seeds=[row + 1],
            )
            alone = rendered(conditional, alone, t)[0]
            assert (grid[3 * row + column] - alone).abs().max() < 1e-5


def test_motion_noise_is_a_table():
    seeded = MotionNoise(4).rows(10, 20, 6)
    given = MotionNoise(4, torch.ones(3, 6), first_code=12).rows(10, 20, 6)
    expected = seeded.clone()
    expected[2:5] = 1
    assert torch.equal(given, expected)
    loop = dataclasses.replace(MotionNoise(4), period=7).rows(10, 20, 6)
    first = MotionNoise(4).rows(0, 7, 6)
    assert torch.equal(loop, first[torch.arange(10, 30) % 7])
