"""Finding back what a generator made."""

import math

import pytest
import torch
from torch.nn import functional as F

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation.detectors.lpips import LPIPS
from stylegan_v_mm.inference.inversion import (
    invert,
    mean_lpips,
    motion_correlation,
    motion_penalty,
    psnr,
    pyramid_loss,
)
from stylegan_v_mm.models.noise import MOTION, seeded_noise

T = 6


@pytest.fixture(scope='module')
def target(inferencer):
    return inferencer.sample(seeds=[77], num_frames=T)[0]


@pytest.fixture(scope='module')
def result(inferencer, target):
    told = []
    found = invert(
        inferencer.sampler,
        target,
        torch.arange(T),
        num_steps=120,
        num_candidates=16,
        num_starts=4,
        lr=0.1,
        seed=5,
        progress=lambda *words: told.append(words),
    )
    return found, told


def test_a_video_is_found_back(inferencer, target, result):
    found, told = result
    assert found.losses[-1] < found.losses[0] / 5
    others = inferencer.sample(num_videos=16, num_frames=T)
    nearest = max(psnr(other, target) for other in others)
    assert psnr(found.frames, target) > nearest + 4
    assert [words[0] for words in told] == list(range(120))
    assert [words[1] for words in told] == found.losses
    assert told[-1][2].shape == (T, 3, 32, 32)


def test_the_latents_are_what_the_frames_show(inferencer, result):
    latents = result[0].latents
    frames = inferencer.render(latents.ws, latents.motions, torch.arange(T))
    frames = (127.5 * frames[0] + 128).clamp(0, 255).byte()
    assert (frames.int() - result[0].frames.int()).abs().max() <= 1
    assert latents.ws.shape == (1, 8, 16)
    assert len(latents.ws[0].unique(dim=0)) == 8  # W+


def test_motion_goes_on_from_the_seed(result):
    (motion,) = result[0].latents.motions
    assert motion.codes.shape == (22, 16)
    rows = motion.rows(0, 30, 16)
    assert torch.equal(rows[:22], motion.codes)
    assert torch.equal(rows[22:], seeded_noise(5, MOTION, 22, 8, 16))


def quick(inferencer, target, t, **options):
    options = dict(num_steps=2, num_candidates=4, num_starts=2) | options
    return invert(inferencer.sampler, target, torch.as_tensor(t), **options)


def test_times_and_labels_are_obeyed(conditional, target):
    t = [100.5, 40, 130, 41, 42, 99]
    label = torch.tensor([0, 1.0, 0])
    found = quick(conditional, target, t, c=label, space='w')
    (motion,) = found.latents.motions
    assert motion.first_code == 2
    assert len(motion.codes) == 8 - 2 + 22
    assert torch.equal(found.latents.c, label[None])
    assert len(found.latents.ws[0].unique(dim=0)) == 1  # W
    latents = found.latents
    frames = conditional.render(
        latents.ws, latents.motions, torch.tensor(t), latents.c
    )
    frames = (127.5 * frames[0] + 128).clamp(0, 255).byte()
    assert (frames.int() - found.frames.int()).abs().max() <= 1


def test_a_picture_is_a_video_of_one_frame(inferencer, target):
    found = quick(inferencer, target[:1], [0])
    assert found.frames.shape == (1, 3, 32, 32)


def test_stopping_keeps_what_is_found(inferencer, target):
    def stop(step, loss, frames):
        if step == 3:
            raise KeyboardInterrupt

    found = quick(inferencer, target, range(T), num_steps=50, progress=stop)
    assert len(found.losses) == 4


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(target=torch.zeros(2, 3, 16, 16)), r'\[2, 3, 16, 16\]'),
        (dict(t=torch.arange(3)), '6 frames need as many times'),
        (dict(t=-torch.arange(6)), 'at least 0'),
        (dict(space='z'), "space='z'"),
        (dict(num_steps=0), 'num_steps=0'),
        (dict(lr=0), 'lr=0'),
    ],
)
def test_bad_values_are_named(inferencer, target, options, words):
    options = {'target': target, 't': torch.arange(T), **options}
    with pytest.raises(InputError, match=words):
        invert(inferencer.sampler, **options)


def test_pyramid_loss_by_hand():
    torch.manual_seed(0)
    ours, target = torch.randn(2, 3, 3, 8, 8), torch.randn(3, 3, 8, 8)
    expected = torch.zeros(2)
    for factor in (1, 2):
        a = F.interpolate(ours.flatten(0, 1), scale_factor=1 / factor,
                          mode='area').unflatten(0, (2, 3))  # fmt: skip
        b = F.interpolate(target, scale_factor=1 / factor, mode='area')
        for pick in (
            lambda x: x,
            lambda x: x[..., 1:, :] - x[..., :-1, :],
            lambda x: x[..., 1:] - x[..., :-1],
            lambda x: x[..., 1:, :, :, :] - x[..., :-1, :, :, :],
        ):
            expected += (pick(a) - pick(b)).square().mean((1, 2, 3, 4))
    torch.testing.assert_close(pyramid_loss(ours, target), expected)
    assert not pyramid_loss(target[None], target).any()


def test_measures_by_hand():
    black, grey = torch.zeros(4, 3, 2, 2).byte(), torch.zeros(4, 3, 2, 2)
    grey = (grey + 51).byte()
    assert psnr(grey, black) == pytest.approx(20 * math.log10(5))
    steps = torch.tensor([0, 1, 5, 7]).reshape(4, 1, 1, 1)
    ours = (black + steps).byte()
    assert motion_correlation(ours, ours + 9) == pytest.approx(1)
    other = (black + torch.tensor([0, 5, 6, 10]).reshape(4, 1, 1, 1)).byte()
    # Changes of 1, 4, 2 and of 5, 1, 4.
    expected = -57 / math.sqrt(42 * 78)
    assert motion_correlation(ours, other) == pytest.approx(expected)
    noise = torch.tensor([[[1.0, 3.0]], [[-1.0, 1.0]]])
    assert motion_penalty(noise).tolist() == [4, 0]


def test_lpips_is_added_to_the_loss(inferencer, target):
    """Of frames enlarged to 64 pixels, as VGG halves them four times.

    As soon as one start is left: here after the first of two steps.
    """
    torch.manual_seed(0)
    lpips = LPIPS('vgg')
    for head in lpips.heads:
        head.uniform_(0, 1)
    told = []
    result = quick(
        inferencer,
        target,
        range(T),
        lpips=lpips,
        progress=lambda *words: told.append(words),
    )
    wanted = target.float() / 127.5 - 1
    assert len(told) == 2
    for step, loss, frames in told:
        pixels = float(pyramid_loss(frames[None], wanted)[0])
        if step == 0:
            assert loss == pytest.approx(pixels, rel=1e-2)
            continue
        enlarged = (
            F.interpolate(x, size=(64, 64), mode='bilinear')
            for x in (frames.clamp(-1, 1), wanted)
        )
        perceptual = lpips(*enlarged).mean()
        assert perceptual > 0.01
        assert loss == pytest.approx(pixels + float(perceptual), rel=1e-2)
        assert loss > 1.05 * pixels
    # What the tool reports of the result.
    enlarged = (
        F.interpolate(x.float() / 127.5 - 1, size=(64, 64), mode='bilinear')
        for x in (result.frames, target)
    )
    expected = float(lpips(*enlarged).mean())
    assert mean_lpips(result.frames, target, lpips) == pytest.approx(expected)
