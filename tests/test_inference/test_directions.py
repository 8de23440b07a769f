"""Directions of w: closed form against NumPy, and what they do to videos."""

import copy

import numpy as np
import pytest
import torch

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.inference.directions import (
    move,
    pca_directions,
    read_layers,
    sample_w,
    sefa_directions,
    style_weights,
)
from stylegan_v_mm.inference.editing import EditReport
from stylegan_v_mm.models import Sampler, StyleGANVGenerator
from stylegan_v_mm.video.pixels import to_bytes


class Linear(torch.nn.Module):
    """A mapping network that multiplies with a matrix."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = matrix

    def forward(self, z, c):
        return z @ self.matrix


@pytest.fixture(scope='module')
def spread():
    """Standard deviations of w along its axes, and a generator of such w."""
    torch.manual_seed(0)
    std = torch.tensor([0.5, 4, 0.1, 2, 1, 0.3, 0.2, 8])
    network = StyleGANVGenerator(16, z_dim=8, w_dim=8, channel_max=8)
    network.mapping = Linear(torch.diag(std))
    return std, Sampler(network)


def test_principal_components_are_those_of_the_distribution(spread):
    std, sampler = spread
    directions = pca_directions(sampler, 4, num_samples=20000)
    expected = torch.zeros(4, 8)
    for row, axis in enumerate((7, 1, 3, 4)):
        expected[row, axis] = std[axis]
    assert (directions - expected).abs().max() < 0.03 * 8
    assert torch.allclose(
        directions.norm(dim=1), expected.norm(dim=1), rtol=0.03
    )


@pytest.mark.parametrize('layers', [None, [2, 3], [5]])
def test_sefa_is_the_svd_of_the_weights(spread, layers):
    std, sampler = spread
    state = sampler.generator.synthesis.state_dict()
    # Which affine layers a style vector goes through, at 16 px.
    table = [
        ['b4.conv1'],
        ['b4.torgb', 'b8.conv0'],
        ['b8.conv1'],
        ['b8.torgb', 'b16.conv0'],
        ['b16.conv1'],
        ['b16.torgb'],
    ]
    rows = []
    for layer in range(6) if layers is None else layers:
        for name in table[layer]:
            weight = state[f'{name}.affine.weight'].numpy() / np.sqrt(8)
            if 'torgb' in name:
                weight = weight / np.sqrt(len(weight))
            rows.append(weight)
    vectors = np.linalg.svd(np.concatenate(rows).astype(float))[2]
    directions = sefa_directions(sampler, 3, layers, 100000).double().numpy()
    lengths = np.linalg.norm(directions, axis=1)
    cosines = (directions * vectors[:3]).sum(1) / lengths
    assert abs(cosines) == pytest.approx([1, 1, 1], abs=1e-5)
    expected = np.sqrt((vectors[:3] ** 2) @ std.double().numpy() ** 2)
    assert lengths == pytest.approx(expected, rel=0.02)
    largest = abs(directions).argmax(1)
    assert (directions[range(3), largest] > 0).all()


@pytest.mark.parametrize('cond_type', ['concat_const', 'concat_w'])
def test_style_weights_say_how_styles_change(cond_type):
    """They are the Jacobian of what the layers do with each vector."""
    torch.manual_seed(1)
    network = StyleGANVGenerator(
        16,
        w_dim=8,
        channel_max=8,
        cond_type=cond_type,
        motion_v_dim=6,
        time_enc_dim=3,
    )
    styles = {}
    for name, module in network.synthesis.named_modules():
        if name.endswith('affine'):
            owner = network.synthesis.get_submodule(name[: -len('.affine')])
            gain = getattr(owner, 'style_gain', 1)

            def hook(module, inputs, output, name=name, gain=gain):
                styles[name] = output[0] * gain

            module.register_forward_hook(hook)

    def all_styles(ws):
        with torch.no_grad():
            network.synthesis(ws, torch.ones(1, 6), 1)
        return {name: style.clone() for name, style in styles.items()}

    ws, step = torch.randn(1, 6, 8), torch.randn(8)
    before = all_styles(ws)
    for layer, weights in enumerate(style_weights(Sampler(network))):
        moved = ws.clone()
        moved[0, layer] += step
        after = all_styles(moved)
        changed = [
            after[name] - before[name]
            for name in before
            if (after[name] != before[name]).any()
        ]
        expected = weights.float() @ step
        # Colours come after the convolutions of their block, but first here.
        assert torch.allclose(
            torch.cat(changed).sort()[0], expected.sort()[0], atol=1e-5
        )


def test_an_edit_changes_all_frames_and_keeps_the_motion(inferencer):
    latents = inferencer.latents([4])
    t = inferencer.times(48)

    def frames(ws, motions):
        return to_bytes(inferencer.render(ws, motions, t)[0])

    before = frames(latents.ws, latents.motions)
    sampler = inferencer.sampler
    layers = range(2, sampler.generator.num_ws)
    for direction in (
        sefa_directions(sampler, 1, layers)[0],
        pca_directions(sampler, 1)[0],
    ):
        ws = move(latents.ws, direction, 3, layers)
        report = EditReport()
        report.add(before, frames(ws, latents.motions))
        assert report.change.min() > 1
        assert report.motion > 0.9
    other = EditReport()
    other.add(before, frames(latents.ws, inferencer.latents([5]).motions))
    assert other.motion < 0.7


def test_move_leaves_other_layers_and_its_input_alone():
    ws = torch.randn(2, 6, 4)
    kept, direction = ws.clone(), torch.randn(4)
    moved = move(ws, direction, -2, range(1, 3))
    assert torch.equal(ws, kept)
    assert torch.equal(moved[:, [0, 3, 4, 5]], ws[:, [0, 3, 4, 5]])
    step = (moved - ws)[:, 1:3]
    assert torch.allclose(step, (-2 * direction).expand(2, 2, 4), atol=1e-6)
    assert torch.allclose(move(ws, direction, 1) - ws, direction, atol=1e-6)


def test_all_classes_count(conditional):
    sampler, w_dim = conditional.sampler, conditional.sampler.generator.w_dim
    w = sample_w(sampler, 300)
    known = copy.deepcopy(sampler)
    known.generator.mapping.embed.weight.data.zero_()
    known.generator.mapping.embed.bias.data.zero_()
    assert w.shape == (300, w_dim)
    assert (w - sample_w(known, 300)).abs().amax(1).min() > 1e-3
    assert sefa_directions(sampler, 2).shape == (2, w_dim)


def test_more_directions_than_there_are_is_an_error(spread):
    for num in (0, 9):
        with pytest.raises(InputError, match='from 1 to 8'):
            pca_directions(spread[1], num)


@pytest.mark.parametrize(
    ('text', 'layers'), [('2-', [2, 3]), ('0-1', [0, 1]), ('3-3', [3])]
)
def test_layers_are_read(text, layers):
    assert list(read_layers('--layers', text, 4)) == layers


@pytest.mark.parametrize('text', ['4-', '2-1', '1-4', '-2', '1', '', 'a-b'])
def test_wrong_layers_are_an_error(text):
    with pytest.raises(InputError, match=f'--layers {text}: give A-B.*to 3'):
        read_layers('--layers', text, 4)
