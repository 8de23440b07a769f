"""From seeds and times to frames."""

import copy

import numpy as np
import pytest
import torch
from small_model import small_sampler

from stylegan_v_mm.models.latents import Latents
from stylegan_v_mm.models.noise import CONTENT, MOTION, seeded_noise
from stylegan_v_mm.video.pixels import to_bytes


def sample(sampler, seed, t, **options):
    t = torch.as_tensor(t, dtype=torch.float64)
    return torch.cat(list(sampler.sample_video(seed, t, **options)))


def assert_same_pictures(ours, theirs):
    """Equal but for pixels that lie on the border of two bytes."""
    assert ours.dtype == theirs.dtype == torch.uint8
    difference = (ours.int() - theirs.int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 1e-3


VARIANTS = {
    'stylegan-v': {},
    'mocogan': dict(
        motion_type='lstm',
        fourier=False,
        motion_z_distance=1,
        cond_type='concat_w',
    ),
    'image': dict(motion_v_dim=0),
    'conditional': dict(c_dim=3),
    'noise': dict(use_noise=True),
}


def label(sampler, index=1):
    return torch.eye(3)[index] if sampler.generator.c_dim else None


@pytest.mark.parametrize('variant', VARIANTS)
def test_a_video_is_what_the_generator_makes_of_its_seed(variant):
    sampler = small_sampler(**VARIANTS[variant])
    t = torch.tensor([0.0, 3.3, 16, 29.5]).double()
    video = sample(sampler, 5, t, c=label(sampler))
    assert video.shape == (4, 3, 16, 16)
    c = None if label(sampler) is None else label(sampler)[None]
    with torch.no_grad():
        expected = sampler.generator(
            seeded_noise(5, CONTENT, 0, 1, 6),
            c,
            t[None],
            seeded_noise(5, MOTION, 0, 50, 5)[None],
        )[0]
    expected = np.clip(127.5 * expected.numpy() + 128, 0, 255).astype(np.uint8)
    assert_same_pictures(video, torch.from_numpy(expected))


@pytest.mark.parametrize('variant', VARIANTS)
def test_chunks_and_order_do_not_matter(variant):
    sampler = small_sampler(**VARIANTS[variant])
    t = np.arange(21) * 1.7
    whole = sample(sampler, 3, t, c=label(sampler), chunk=64)
    assert len(whole) == 21
    chunked = sample(sampler, 3, t, c=label(sampler), chunk=4)
    assert_same_pictures(chunked, whole)
    order = [17, 2, 9, 9]
    some = sample(sampler, 3, t[order], c=label(sampler), chunk=3)
    assert_same_pictures(some, whole[order])


def test_chunks_come_one_by_one():
    sampler = small_sampler()
    video = sampler.sample_video(0, torch.arange(10), chunk=4)
    assert [len(chunk) for chunk in video] == [4, 4, 2]


def test_seeds_of_content_and_motion():
    sampler = small_sampler()
    t = np.arange(0, 40, 5)
    video = sample(sampler, 1, t)
    assert torch.equal(sample(sampler, 1, t), video)
    assert torch.equal(sample(sampler, 1, t, motion_seed=1), video)
    assert not torch.equal(sample(sampler, 2, t), video)
    other_motion = sample(sampler, 1, t, motion_seed=2)
    assert not torch.equal(other_motion, video)
    with torch.no_grad():
        expected = sampler.generator(
            seeded_noise(1, CONTENT, 0, 1, 6),
            None,
            torch.from_numpy(t)[None],
            seeded_noise(2, MOTION, 0, 20, 5)[None],
        )[0]
    assert_same_pictures(other_motion, to_bytes(expected))


def test_far_away_times_are_accurate():
    sampler = small_sampler()
    t = torch.from_numpy(1e6 + np.arange(6))
    video = sample(sampler, 1, t)
    assert_same_pictures(sample(sampler, 1, t[2:3]), video[2:3])
    assert not torch.equal(video[0], video[5])
    # All in float64, where a float32 phase would be off by a tenth.
    network = copy.deepcopy(sampler.generator).double()
    first = 10**6 // 8
    noise = seeded_noise(1, MOTION, first, 10, 5)[None]
    with torch.no_grad():
        z = seeded_noise(1, CONTENT, 0, 1, 6).double()
        expected = network(z, None, t[None], noise, first_code=first)[0]
    assert_same_pictures(video, to_bytes(expected))


def test_times_far_apart_need_no_codes_between_them():
    sampler = small_sampler()
    latents = sampler.latents([3, 4])
    t = torch.tensor([0, 1e9, 0.25, 1e12]).double()
    alone = [sampler.motion_codes(latents, x) for x in t.split(1)]
    together = sampler.motion_codes(latents, t)
    assert torch.equal(together, torch.cat(alone, 1))


def test_truncation():
    sampler = small_sampler()
    sampler.generator.mapping.w_avg.normal_()
    t = [0, 7.5]
    # All contents are the mean one, the motions stay.
    one, other = (
        sample(sampler, seed, t, motion_seed=9, truncation_psi=0)
        for seed in (1, 2)
    )
    assert torch.equal(one, other)
    assert not torch.equal(sample(sampler, 1, t, motion_seed=9), one)
    assert not torch.equal(
        sample(sampler, 1, t, motion_seed=8, truncation_psi=0), one
    )
    cut = sample(
        sampler, 1, t, motion_seed=9, truncation_psi=0, truncation_cutoff=0
    )
    assert torch.equal(cut, sample(sampler, 1, t, motion_seed=9))


def test_class_center_is_the_mean_of_its_class():
    sampler = small_sampler(c_dim=3)
    c = torch.eye(3)[[2, 0, 2]]
    centers = sampler.class_center(c, 20000)
    assert torch.equal(centers[0], centers[2])
    with torch.no_grad():
        for row, center in enumerate(centers):
            label = c[row].expand(20000, 3)
            w = sampler.generator.mapping(torch.randn(20000, 6), label)
            error = w.std(0) / 20000**0.5
            assert ((w.mean(0) - center).abs() < 6 * error + 1e-6).all()
    # The same at each call, and no draw from the global generator.
    before = torch.get_rng_state()
    assert torch.equal(sampler.class_center(c, 20000), centers)
    assert torch.equal(torch.get_rng_state(), before)


def test_truncation_goes_to_the_mean_of_the_class():
    sampler = small_sampler(c_dim=3)
    network = sampler.generator
    c, t = torch.eye(3), torch.tensor([0.0, 7.5]).double()
    video = sample(sampler, 1, t, c=c[2], truncation_psi=0)
    with torch.no_grad():
        center = sampler.class_center(c[2:])
        motion_v = network.motion_encoder(
            c[2:], t[None], seeded_noise(1, MOTION, 0, 20, 5)[None]
        )
        ws = center[:, None].expand(1, network.num_ws, -1)
        expected = to_bytes(network.render(ws, motion_v, 2)[0])
    assert_same_pictures(video, expected)


def test_clips_that_share_chunks_are_those_rendered_alone():
    """As on a GPU; clips of another length do not share."""
    sampler = small_sampler(c_dim=3)
    lengths = [20, 20, 20, 3, 20]
    t = [torch.arange(float(length)).double() for length in lengths]
    t[1] = 3 * t[1]
    seeds, c = [4, 2, 2, 1, 0], list(torch.eye(3)[[0, 2, 1, 0, 1]])
    alone = [
        sample(sampler, seed, times, c=one_hot)
        for seed, times, one_hot in zip(seeds, t, c)
    ]
    found = list(sampler.sample_clips(seeds, t, c))
    assert len(found) == len(lengths)
    for clip, expected in zip(found, alone):
        assert torch.equal(clip, expected)
    passes = []
    sampler.generator.synthesis.register_forward_pre_hook(
        lambda _, inputs: passes.append((len(inputs[0]), inputs[2]))
    )
    sampler.videos_at_once = 2
    found = list(sampler.sample_clips(seeds, t, c))
    # Videos and frames of each pass.
    single, short = [(1, 16), (1, 4)], [(1, 3)]
    assert passes == [(2, 16), (2, 4), *single, *short, *single]
    for clip, expected in zip(found, alone):
        assert_same_pictures(clip, expected)


def test_motion_codes_are_computed_in_float64():
    sampler = small_sampler()
    encoder = copy.deepcopy(sampler.generator.motion_encoder).double()
    latents = sampler.latents([1, 2])
    t = torch.tensor([1e6 + 0.5, 1e6 + 8.5]).double()
    found = sampler.motion_codes(latents, t)
    assert found.dtype == torch.float32
    first = [10**6 // 8, 10**6 // 8 + 1]
    for i, seed in enumerate([1, 2]):
        for j, place in enumerate(first):
            noise = seeded_noise(seed, MOTION, place, 10, 5)[None]
            expected = encoder(None, t[None, j : j + 1], noise, place)
            torch.testing.assert_close(found[i, j], expected[0].float())
    # The generator's own encoder stays in float32.
    parameters = sampler.generator.parameters()
    assert {param.dtype for param in parameters} == {torch.float32}


@pytest.mark.parametrize('variant', VARIANTS)
def test_frames_in_one_pass_are_those_in_chunks(variant):
    sampler = small_sampler(**VARIANTS[variant])
    c = None if label(sampler) is None else torch.eye(3)[[0, 2]]
    latents = sampler.latents([3, 4], c)
    t = torch.arange(7) * 2.5
    ws = latents.ws.clone().requires_grad_()
    frames = sampler.frames(Latents(ws, latents.motions, c), t)
    expected = torch.cat(list(sampler.render(latents, t, chunk=4)), 1)
    torch.testing.assert_close(frames.detach(), expected)
    assert not expected.requires_grad
    (grad,) = torch.autograd.grad(frames.sum(), ws)
    assert grad.abs().sum(2).min() > 0


def test_a_loop_repeats_itself():
    sampler = small_sampler()
    latents = sampler.latents([3], period=5)
    t = torch.tensor([0, 7.5, 31, 40, 47.5, 71]).double()
    frames = next(sampler.render(latents, t))[0]
    torch.testing.assert_close(frames[3:], frames[:3])
    assert not torch.allclose(frames[0], frames[1], atol=0.1)
