"""Augmentation against reference vectors, closed forms and brute force."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import TINY, golden_file

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.models import image_ops
from stylegan_v_mm.models.augment import PIPELINES, Draws, VideoAugment
from stylegan_v_mm.models.image_ops import (
    filter_bands,
    recolor,
    sample_bilinear,
    warp,
)

QUIET = [name for name in PIPELINES if 'noise' not in PIPELINES[name]]


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def clips(num_clips=3, num_frames=2, size=16):
    """Random clips in [-1, 1], [N, T, 3, size, size]."""
    return torch.rand(num_clips, num_frames, 3, size, size) * 2 - 1


def matrix(*rows):
    return torch.tensor(rows, dtype=torch.float32)[None]


@pytest.mark.parametrize('name', ['tiny_augment.npz', 'augment.npz'])
def test_reference_vectors(name):
    path = TINY / name
    with np.load(path if path.exists() else golden_file(name)) as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    videos = arrays['images'].unflatten(1, (-1, 3))
    compared = 0
    for key, theirs in arrays.items():
        if '/' in key:
            pipeline, percentile = key.split('/')
            ours = VideoAugment(pipeline, p=1)(videos, float(percentile))
            torch.testing.assert_close(
                ours.flatten(1, 2), theirs, rtol=0, atol=1e-5
            )
            compared += 1
    assert compared >= 2


# -- sampling ---------------------------------------------------------------


def test_sampling_equals_pytorchs():
    images = torch.randn(2, 3, 5, 7, requires_grad=True)
    grid = torch.rand(2, 4, 6, 2) * 2.4 - 1.2  # some places lie outside
    theirs = F.grid_sample(images, grid, align_corners=False)
    ours = sample_bilinear(images, grid)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    (expected,) = torch.autograd.grad((theirs * weight).sum(), images)
    (grad,) = torch.autograd.grad((ours * weight).sum(), images)
    torch.testing.assert_close(grad, expected)


def test_sampling_differentiates_twice():
    images = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    grid = torch.rand(2, 3, 4, 2, dtype=torch.float64) * 2.4 - 1.2

    def cubed(x):
        return sample_bilinear(x, grid) ** 3

    assert torch.autograd.gradcheck(cubed, images)
    assert torch.autograd.gradgradcheck(cubed, images)


@pytest.mark.parametrize('pipeline', ['bgc', 'bgcfnc'])
def test_whole_pipeline_differentiates_twice(pipeline):
    augment = VideoAugment(pipeline, p=0.8)
    videos = clips(2, 2, 8).double().requires_grad_()

    def cubed(x):
        torch.manual_seed(5)
        return augment(x) ** 3

    assert torch.autograd.gradcheck(cubed, videos, fast_mode=True)
    assert torch.autograd.gradgradcheck(cubed, videos, fast_mode=True)


# -- geometry ---------------------------------------------------------------


def test_warp_by_whole_pixels():
    """out[y, x] = in[y + 2, x - 3], mirrored beyond the edges, exactly."""
    images = clips()[:, 0]
    shift = matrix([1, 0, -3], [0, 1, 2], [0, 0, 1])
    expected = F.pad(images, (3, 0, 0, 2), 'reflect')[:, :, 2:, :16]
    ours = warp(images, shift.expand(3, 3, 3))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_warp_flips_and_turns():
    """The filters are not quite symmetric: exact for smooth pictures only."""
    coarse = clips(size=4)[:, 0]
    images = F.interpolate(coarse, size=32, mode='bicubic')
    flip = matrix([-1, 0, 0], [0, 1, 0], [0, 0, 1])
    turn = matrix([0, -1, 0], [1, 0, 0], [0, 0, 1])
    for map_back, expected in (
        (flip, images.flip(3)),
        (turn, images.rot90(1, (2, 3))),
    ):
        ours = warp(images, map_back.expand(3, 3, 3))
        assert (ours - expected).abs().max() < 0.03
        assert (ours - images).abs().max() > 0.5


def test_warp_moves_a_smooth_blob_where_the_matrix_says():
    y, x = np.mgrid[:32, :32] - 15.5

    def blob(center_x, center_y, sigma):
        d2 = (x - center_x) ** 2 + (y - center_y) ** 2
        return torch.from_numpy(np.exp(-d2 / 2 / sigma**2)).float()

    image = blob(4, 2, 2.5).expand(1, 1, 32, 32)
    angle, factor = 0.7, 0.8  # of the input seen from the output
    cos, sin = factor * math.cos(angle), factor * math.sin(angle)
    map_back = matrix([cos, -sin, 1.5], [sin, cos, -0.5], [0, 0, 1])
    out = warp(image, map_back)[0, 0]
    center = torch.linalg.inv(map_back[0]) @ torch.tensor([4.0, 2, 1])
    expected = blob(float(center[0]), float(center[1]), 2.5 / factor)
    assert (out - expected).abs().max() < 0.02


def test_flips_turns_and_shifts_come_as_often_as_they_should():
    """Of 2000 pictures, each drawn transform has its share."""
    marked = torch.zeros(2000, 1, 3, 16, 16)
    marked[..., 4, 6] = 1
    places = VideoAugment('blit', p=0.5)(marked)[:, 0, 0].flatten(1).argmax(1)
    y, x = places // 16, places % 16
    # Unmoved: no flip (3/4), no turn (5/8), no shift (about 1/2 + 1/2 / 25).
    still = ((y == 4) & (x == 6)).float().mean()
    assert still == pytest.approx(0.75 * 0.625 * 0.52, abs=0.04)
    # A shift reaches 2 pixels, flips and turns give x or y in {4, 6, 9, 11}.
    assert set(x.tolist()) <= set(range(2, 14))


# -- colours ----------------------------------------------------------------


def test_recolor_by_hand():
    images = clips()[:, :1].flatten(1, 2)
    color = torch.randn(3, 4, 4)
    color[:, 3] = torch.tensor([0.0, 0, 0, 1])
    ours = recolor(images, color)
    for n in range(3):
        for i in range(3):
            expected = color[n, i, 3] + sum(
                color[n, i, j] * images[n, j] for j in range(3)
            )
            torch.testing.assert_close(ours[n, i], expected)


def test_hue_saturation_and_luma_flip_keep_what_they_should():
    draws = Draws(clips(8)[:, 0], 1, None)

    def draw(*names):
        augment = VideoAugment('color', p=1)
        augment.transforms = dict.fromkeys(names, 1)
        return augment.draw_color(draws)

    grey = torch.tensor([1.0, 1, 1, 1])
    for name in ('hue', 'saturation'):
        torch.testing.assert_close(draw(name) @ grey, grey.expand(8, 4))
    # A turn of colours keeps lengths and volume.
    hue = draw('hue')[:, :3, :3]
    torch.testing.assert_close(hue @ hue.mT, torch.eye(3).expand(8, 3, 3))
    torch.testing.assert_close(torch.linalg.det(hue), torch.ones(8))
    # A luma flip turns grey around and leaves pure chroma.
    flip = draw('lumaflip')
    signs = (flip @ grey)[:, 0]
    assert set(signs.round(decimals=4).tolist()) == {-1, 1}
    chroma = torch.tensor([1.0, -1, 0, 0])
    torch.testing.assert_close(flip @ chroma, chroma.expand(8, 4))


# -- filters and corruptions ------------------------------------------------


@pytest.mark.parametrize('size', [16, 32])
def test_equal_gains_only_scale(size):
    """Along either axis: twice."""
    images = clips(size=size)[:, 0]
    gains = torch.tensor([[1.0] * 4, [2.0] * 4, [0.5] * 4])
    torch.testing.assert_close(
        filter_bands(images, gains), images * gains[:, :1, None, None] ** 2
    )


def test_lowest_band_holds_the_mean_and_highest_the_checkerboard():
    flat = torch.ones(1, 3, 64, 64)
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing='ij')
    board = (1 - 2 * ((x + y) % 2)).float().expand(1, 3, 64, 64)
    low, high = torch.eye(4)[[0]], torch.eye(4)[[3]]
    torch.testing.assert_close(filter_bands(flat, low), flat)
    assert filter_bands(flat, high).abs().max() < 1e-5
    torch.testing.assert_close(filter_bands(board, high), board)
    assert filter_bands(board, low).abs().max() < 1e-5


def test_noise_has_the_asked_spread():
    """E[(sigma e)^2] = E[N^2] 0.1^2 where applied, in half of the clips."""
    videos = torch.zeros(3000, 1, 3, 4, 4)
    power = VideoAugment('noise', p=0.5)(videos).square().mean((1, 2, 3, 4))
    assert (power > 0).float().mean() == pytest.approx(0.5, abs=0.03)
    assert power.mean() == pytest.approx(0.5 * 0.01, rel=0.15)


def test_cutout_blanks_a_rectangle():
    videos = torch.ones(200, 2, 3, 32, 32)
    out = VideoAugment('cutout', p=1)(videos)
    assert set(out.unique().tolist()) == {0, 1}
    hole = out[:, 0, 0] == 0
    # Half as wide and high as the picture, but for what lies outside.
    assert hole.any(2).sum(1).max() == hole.any(1).sum(1).max() == 16
    area = hole.any(2).sum(1) * hole.any(1).sum(1)
    assert torch.equal(area, hole.sum((1, 2)))
    # The centre is uniform: on average 3/4 of the width is inside, squared.
    assert hole.float().mean() == pytest.approx(0.25 * 0.875**2, rel=0.08)
    kept = VideoAugment('cutout', p=0)(videos)
    assert torch.equal(kept, videos)


# -- the whole --------------------------------------------------------------


@pytest.mark.parametrize('pipeline', QUIET)
def test_equal_frames_stay_equal(pipeline):
    videos = clips()[:, :1].expand(-1, 3, -1, -1, -1)
    out = VideoAugment(pipeline, p=0.8)(videos)
    torch.testing.assert_close(out, out[:, :1].expand_as(out))
    assert not torch.allclose(out, videos, atol=0.1)
    lone = VideoAugment(pipeline, p=0.8, per_frame=True)(videos)
    assert not torch.allclose(lone, lone[:, :1].expand_as(lone), atol=0.1)


@pytest.mark.parametrize('pipeline', PIPELINES)
def test_p_0_changes_nothing(pipeline):
    videos = clips()
    out = VideoAugment(pipeline)(videos)
    torch.testing.assert_close(out, videos, rtol=0, atol=1e-5)


def test_half_precision_is_augmented_in_float32():
    out = VideoAugment('bgcfnc', p=1)(clips().half())
    assert out.dtype == torch.float32
    assert out.isfinite().all()


@pytest.mark.parametrize('pipeline', ['bgc', 'bgcfnc'])
def test_r1_passes_through(pipeline):
    """For a linear judge of A x + b, R1 is |A' w|^2, its gradient 2 A A' w."""
    augment = VideoAugment(pipeline, p=0.8)

    def transform(videos):
        torch.manual_seed(7)
        return augment(videos)

    videos = clips().double().requires_grad_()
    weight = torch.randn(videos.shape).double().requires_grad_()
    logits = (transform(videos) * weight).sum((1, 2, 3, 4))
    (grad,) = torch.autograd.grad(logits.sum(), videos, create_graph=True)
    grad.square().sum().backward()
    with torch.no_grad():
        expected = 2 * (transform(videos + grad) - transform(videos))
    torch.testing.assert_close(weight.grad, expected)
    assert expected.abs().max() > 0.1


# -- control ----------------------------------------------------------------


def run(augment, logits, iterations, num_clips=64):
    """Feed the same logits for some iterations; give p after each."""
    values = []
    for i in range(iterations):
        augment.observe(torch.tensor(logits))
        augment.adapt(i, num_clips)
        values.append(float(augment.p))
    return values


def test_p_follows_the_overfitting():
    step = 64 * 4 / 100_000
    augment = VideoAugment()
    sure = run(augment, [1.0, 2.0, 3.0, 0.5], 8)
    assert sure == pytest.approx([0] * 3 + [step] * 4 + [2 * step])
    # Mean sign 0.5: not sure enough, so it falls, but not below 0.
    unsure = run(augment, [1.0, 2.0, 3.0, -0.5], 12)
    assert unsure == pytest.approx([2 * step] * 3 + [step] * 4 + [0] * 5)


def test_p_looks_at_the_signs_since_its_last_change():
    augment = VideoAugment()
    for i, logit in enumerate([-1.0, 1.0, 1.0, 1.0, 1.0]):
        augment.observe(torch.full([10], logit))
        augment.adapt(i, 64)
    assert augment.p == 0  # (3 - 1) / 4 was below the target
    assert augment.signs.tolist() == [10, 10]


def test_fixed_p_stays():
    augment = VideoAugment(p=0.3, ada_target=None)
    assert run(augment, [9.0], 8) == pytest.approx([0.3] * 8)


def test_strength_is_in_the_state_dict():
    augment = VideoAugment()
    run(augment, [1.0], 6)
    other = VideoAugment()
    other.load_state_dict(augment.state_dict())
    assert run(other, [1.0], 4) == run(augment, [1.0], 4)
    assert set(augment.state_dict()) == {'p', 'signs'}


@pytest.mark.parametrize(
    ('args', 'word'),
    [
        (dict(pipeline='bcg'), 'bcg'),
        (dict(p=-0.1), 'p=-0.1'),
        (dict(ada_kimg=0), 'ada_kimg=0'),
        (dict(ada_interval=0), 'ada_interval=0'),
        (dict(ada_target=2), 'ada_target=2'),
    ],
)
def test_bad_values(args, word):
    with pytest.raises(InputError, match=word):
        VideoAugment(**args)


@pytest.mark.parametrize('size', [(16, 16), (21, 16), (33, 64)])
def test_margins_of_half_an_image_show_the_same(monkeypatch, size):
    """What a GPU computes, where points may lie anywhere beyond."""
    height, width = size
    images = torch.rand(5, 6, *size)
    turns = torch.tensor([0, 0.3, 1.7, -0.6, math.pi])
    map_back = torch.zeros(5, 3, 3)
    map_back[:, 0, 0] = map_back[:, 1, 1] = turns.cos()
    map_back[:, 1, 0], map_back[:, 0, 1] = turns.sin(), -turns.sin()
    map_back[:, :2] *= torch.tensor([1, 0.7, 0.9, 1.1, 1])[:, None, None]
    map_back[:, 0, 2] = torch.tensor([0, 0.4, -0.2, 0, -0.45]) * width
    map_back[:, 1, 2] = torch.tensor([0, -0.3, 0.1, 0.2, 0.45]) * height
    map_back[:, 2, 2] = 1
    expected = warp(images, map_back)
    far = image_ops._margins(images, map_back, 3)
    assert max(far[::2]) > width / 2
    monkeypatch.setattr(image_ops, '_margins', lambda *_: None)
    torch.testing.assert_close(
        warp(images, map_back), expected, atol=1e-4, rtol=0
    )
