"""A generator that adds noise: still one video for a seed, in every use."""

from pathlib import Path

import pytest
import torch

from stylegan_v_mm.inference import VideoGANInferencer
from stylegan_v_mm.inference.inversion import invert
from stylegan_v_mm.inference.regions import render_region
from stylegan_v_mm.video.pixels import to_bytes


def same_pictures(ours, theirs):
    difference = (ours.int() - theirs.int()).abs()
    return difference.max() <= 1 and (difference > 0).double().mean() < 0.01


def test_a_seed_is_a_video(noisy):
    """Alone or among others, in any chunk, before or after others."""
    videos = noisy.sample(seeds=[4, 8, 6], num_frames=9)
    for seed, video in zip((4, 8, 6), videos):
        for chunk in (2, 64):
            alone = noisy.sample(seeds=[seed], num_frames=9, chunk=chunk)
            assert same_pictures(alone[0], video)
    latents = noisy.latents([4, 8, 6])
    together = torch.cat(list(noisy.stream(latents, noisy.times(9), 5)), 1)
    assert same_pictures(together, videos)
    assert not same_pictures(videos[0], videos[1])


def test_nothing_flickers(noisy):
    latents = noisy.latents([4])
    still = noisy.render(latents.ws, latents.motions, torch.full([3], 7.5))
    assert torch.equal(still[0, 0], still[0, 1])
    assert torch.equal(still[0, 0], still[0, 2])


def test_sampling_without_noise(noisy):
    with_noise = noisy.sample(seeds=[4], num_frames=2)
    folder = Path(noisy.checkpoint).parent
    options = {'model.generator.noise_mode': 'none'}
    other = VideoGANInferencer(folder, device='cpu', options=options)
    without = other.sample(seeds=[4], num_frames=2)
    assert not same_pictures(without, with_noise)
    other.sampler.generator.synthesis.noise_mode = 'const'
    assert torch.equal(other.sample(seeds=[4], num_frames=2), with_noise)


@pytest.mark.parametrize('what', ['content', 'motion'])
def test_walks_meet_their_stations(noisy, what):
    latents = noisy.latents([4, 8], motion_seeds=[1, 2])
    walk = torch.cat(list(noisy.walk(latents, torch.full([5], 3.0), what)))
    seeds = ([4, 8], [1, 1]) if what == 'content' else ([4, 4], [1, 2])
    stations = noisy.latents(seeds[0], motion_seeds=seeds[1])
    t = torch.tensor([3.0])
    frames = to_bytes(noisy.render(stations.ws, stations.motions, t))[:, 0]
    assert same_pictures(walk[[0, -1]], frames)


def test_a_region_is_edited_and_the_rest_is_not(noisy):
    latents, t = noisy.latents([4]), torch.tensor([0, 5.0])
    ws = noisy.latents([8]).ws
    mask = torch.zeros(32, 32)
    mask[8:20, 4:16] = 1
    (piece,) = render_region(noisy.sampler, latents, ws, mask, t)
    plain = noisy.render(latents.ws, latents.motions, t)[0]
    torch.testing.assert_close(piece.before, plain)
    change = (piece.after - plain).abs().amax(1)
    where = piece.masks
    assert change[where == 0].max() < 1e-4
    assert change[where > 0.9].mean() > 0.05


def test_what_it_made_is_found_back(noisy):
    t = torch.arange(4)
    target = noisy.sample(seeds=[77], num_frames=4)[0]
    found = invert(
        noisy.sampler,
        target,
        t,
        num_steps=60,
        num_candidates=8,
        num_starts=2,
        lr=0.1,
    )
    assert found.losses[-1] < found.losses[0] / 2
    latents = found.latents
    frames = to_bytes(noisy.render(latents.ws, latents.motions, t))[0]
    assert same_pictures(frames, found.frames)
