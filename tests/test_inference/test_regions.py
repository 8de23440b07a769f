"""Edits of a region, and how a region is found again."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import uniform_filter

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.inference.directions import move, pca_directions
from stylegan_v_mm.inference.editing import EditReport
from stylegan_v_mm.inference.regions import (
    carry_mask,
    read_mask,
    render_region,
)
from stylegan_v_mm.video.pixels import to_bytes


def softened(mask):
    """Average over 3x3 places; masks here keep off the border."""
    return torch.from_numpy(uniform_filter(mask.numpy(), 3, mode='nearest'))


def test_a_mask_follows_what_it_lies_on():
    """A patch of known features moves over stripes that stay."""
    torch.manual_seed(0)
    stripes, patch = torch.randn(64, 16, 1), torch.randn(64, 5, 4)
    frames = stripes.expand(64, 16, 16).repeat(4, 1, 1, 1)
    masks = torch.zeros(4, 16, 16)
    for i, (y, x) in enumerate(((2, 3), (2, 4), (8, 9), (7, 2))):
        frames[i, :, y : y + 5, x : x + 4] = patch
        masks[i, y : y + 5, x : x + 4] = 1
    reference = frames[0].clone()
    # A little noise does not matter, nor does brightness.
    frames += 0.02 * torch.randn_like(frames)
    frames *= torch.tensor([1, 2, 0.001, 1])[:, None, None, None]
    found = carry_mask(masks[0], reference, frames)
    for mask, expected in zip(found, masks):
        assert torch.allclose(mask, softened(expected), atol=1e-6)


def test_a_mask_on_plain_ground_stays_where_it_is():
    features = torch.ones(4, 12, 12)
    mask = torch.zeros(12, 12)
    mask[3:7, 2:9] = 1
    found = carry_mask(mask, features, features[None])[0]
    assert torch.allclose(found, softened(mask), atol=1e-6)


def test_a_thing_that_became_tiny_is_found_and_one_that_is_gone_is_not():
    """Its features then are nearer to the ground's than to its own."""
    torch.manual_seed(0)
    ground, thing = torch.eye(64)[:2, :, None, None]
    plain = ground + 0.02 * torch.randn(64, 16, 16)
    # Ground is unlike the thing, but for one place, a little.
    plain[1] = 0
    plain[1, 7, 13] = 0.2
    reference = plain.clone()
    reference[:, 3:9, 4:10] = thing + 0.05 * torch.randn(64, 6, 6)
    mask = torch.zeros(16, 16)
    mask[3:9, 4:10] = 1
    tiny, gone = plain.clone(), plain
    tiny[:, 7, 12] = (ground + 0.5 * thing)[:, 0, 0]
    expected = torch.zeros(16, 16)
    expected[7, 12] = 1
    found = carry_mask(mask, reference, torch.stack([reference, tiny, gone]))
    assert torch.allclose(found[0], softened(mask), atol=1e-6)
    assert torch.allclose(found[1], softened(expected), atol=1e-6)
    assert found[2].max() == 0


def test_a_faint_mask_is_carried_too():
    features = torch.ones(4, 12, 12)
    mask = torch.zeros(12, 12)
    mask[5] = 0.25
    found = carry_mask(mask, features, features[None])[0]
    assert torch.allclose(found, softened(mask), atol=1e-6)


@pytest.fixture(scope='module')
def edit(inferencer):
    """Latents of a video, edited styles, and a mask."""
    latents = inferencer.latents([3])
    direction = pca_directions(inferencer.sampler, 1)[0]
    mask = torch.zeros(32, 32)
    mask[6:20, 10:26] = 1
    return latents, move(latents.ws, direction, 3), mask


def rendered(inferencer, edit, t, **options):
    pieces = render_region(inferencer.sampler, *edit, t, **options)
    return [torch.cat(parts) for parts in zip(*pieces)]


def test_the_region_changes_and_the_rest_does_not(inferencer, edit):
    latents, _, mask = edit
    t = inferencer.times(12)
    before, after, masks = rendered(inferencer, edit, t)
    plain = inferencer.render(latents.ws, latents.motions, t)[0]
    assert (before - plain).abs().max() < 1e-5
    assert torch.allclose(masks[0], softened(mask), atol=1e-6)
    change = (after - before).abs().amax(1)
    assert change[masks == 0].max() < 1e-5
    assert change[0][mask.bool()].mean() > 0.02
    report = EditReport()
    report.add(to_bytes(before), to_bytes(after), masks)
    assert report.contrast.nan_to_num(99).min() > 3
    # Nothing stays behind in the network.
    again = inferencer.render(latents.ws, latents.motions, t)[0]
    assert torch.equal(again, plain)


def test_features_are_blended_after_each_block(inferencer, edit):
    """At time 0, where the mask is known, block by block."""
    latents, ws, mask = edit
    network = inferencer.sampler.generator
    t = torch.zeros(1)
    motion_v = inferencer.sampler.motion_codes(latents, t)[0]
    old = new = (network.synthesis.b4.input(1, motion_v), None)
    first = 0
    with torch.no_grad():
        for name in network.synthesis.block_names:
            block = getattr(network.synthesis, name)
            used = slice(first, first + block.num_conv + 1)
            old = block(*old, latents.ws[:, used])
            new = block(*new, ws[:, used])
            size = new[0].shape[-1]
            share = softened(mask)[None, None]
            if size < 32:
                share = torch.nn.functional.interpolate(
                    share, (size, size), mode='bilinear', antialias=True
                )
            new = [o + share * (n - o) for o, n in zip(old, new)]
            first += block.num_conv
    after = rendered(inferencer, edit, t)[1]
    assert (after - new[1]).abs().max() < 1e-5
    change = (after - inferencer.render(ws, latents.motions, t)[0]).abs()
    assert change[0, :, 8:18, 12:24].max() > 1e-3


def test_a_region_that_is_all_of_the_picture(inferencer, edit):
    latents, ws, mask = edit
    t = torch.tensor([0, 7.25, 400])
    everything = (latents, ws, torch.ones_like(mask))
    after = rendered(inferencer, everything, t)[1]
    expected = inferencer.render(ws, latents.motions, t)[0]
    assert (after - expected).abs().max() < 1e-5


def test_every_time_is_reached_directly(inferencer, edit):
    t = torch.tensor([0, 3, 2000, 17.5, 40]).double()
    together = rendered(inferencer, edit, t)
    pieces = rendered(inferencer, edit, t, chunk=2)
    alone = rendered(inferencer, edit, t[2:3])
    for all_of, piece, one in zip(together, pieces, alone):
        assert (all_of - piece).abs().max() < 1e-5
        assert (all_of[2] - one[0]).abs().max() < 1e-5


def test_report_agrees_with_numpy():
    generator = torch.Generator().manual_seed(0)
    size = (9, 3, 6, 6)
    before, noise = (
        torch.randint(0, 200, size, generator=generator).byte()
        for _ in range(2)
    )
    after = before // 2 + noise // 8
    masks = torch.zeros(9, 6, 6)
    masks[1:, :3] = 1
    report = EditReport()
    for piece in (slice(0, 4), slice(4, 9)):
        report.add(before[piece], after[piece], masks[piece])
    a, b = before.numpy().astype(float), after.numpy().astype(float)
    change = abs(a - b).mean(1)
    assert report.change.numpy() == pytest.approx(change.mean((1, 2)))
    energies = [(np.diff(x, axis=0) ** 2).mean((1, 2, 3)) for x in (a, b)]
    assert report.motion == pytest.approx(np.corrcoef(*energies)[0, 1])
    assert report.contrast[0].isnan()
    expected = change[1:, :3].mean((1, 2)) / change[1:, 3:].mean((1, 2))
    assert report.contrast[1:].numpy() == pytest.approx(expected)
    assert 'region seen in 8 of 9 frames' in str(report)


def test_masks_are_read_at_any_size(tmp_path):
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, 32:] = 255
    Image.fromarray(picture).save(tmp_path / 'mask.png')
    mask = read_mask(tmp_path / 'mask.png', 16)
    expected = torch.zeros(16, 16)
    expected[:, 8:] = 1
    assert torch.equal(mask, expected)


@pytest.mark.parametrize(
    ('picture', 'message'),
    [
        (None, 'there is no file .*mask.png: draw'),
        (b'no picture', 'mask.png is not a picture'),
        (np.zeros((8, 8), np.uint8), 'mask.png is black'),
        (np.full((8, 12), 255, np.uint8), 'mask.png is 12x8'),
    ],
)
def test_wrong_masks_are_named(tmp_path, picture, message):
    path = tmp_path / 'mask.png'
    if isinstance(picture, bytes):
        path.write_bytes(picture)
    elif picture is not None:
        Image.fromarray(picture).save(path)
    with pytest.raises(InputError, match=message):
        read_mask(path, 16)
