"""The generator: names, sizes, and what its frames depend on."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d, correlate2d

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.models import StyleGANVGenerator, layers
from stylegan_v_mm.models import generator as generator_module
from stylegan_v_mm.models.layers import FullyConnected
from stylegan_v_mm.registry import MODELS

TINY = dict(
    resolution=16,
    z_dim=6,
    w_dim=7,
    channel_base=128,
    channel_max=8,
    motion_v_dim=8,
    motion_z_dim=5,
    motion_z_distance=8,
    motion_kernel_size=3,
    time_enc_dim=4,
    min_period_len=8,
    max_period_len=64,
)
LSTM = dict(motion_type='lstm', fourier=False, motion_z_distance=1)
VARIANTS = {
    'concat_const': {},
    'concat_w': dict(cond_type='concat_w'),
    'sum_w': dict(cond_type='sum_w', w_dim=8),
    'mocogan': dict(cond_type='concat_w', **LSTM),
    'image': dict(motion_v_dim=0),
    'image_sum_w': dict(motion_v_dim=0, cond_type='sum_w'),
    'conditional': dict(c_dim=3),
    'conditional_concat_w': dict(c_dim=3, cond_type='concat_w'),
    'conditional_mocogan': dict(c_dim=3, cond_type='concat_w', **LSTM),
    'conditional_image': dict(c_dim=3, motion_v_dim=0),
    'deep_mapping': dict(mapping_layers=8),
    'coordinates': dict(coord_dim=3),
    'coordinates_concat_w': dict(coord_dim=3, cond_type='concat_w'),
    'coordinates_sum_w': dict(coord_dim=3, cond_type='sum_w', w_dim=8),
    'coordinates_image': dict(coord_dim=3, motion_v_dim=0),
    'widths': dict(motion_v_dim=9),
    'widths_concat_w': dict(motion_v_dim=9, cond_type='concat_w'),
    'widths_sum_w': dict(motion_v_dim=9, cond_type='sum_w', w_dim=8),
    'noise': dict(use_noise=True),
    'noise_mocogan': dict(use_noise=True, cond_type='concat_w', **LSTM),
}


def make(**options):
    """Build a tiny generator with biases that are not zero."""
    generator = StyleGANVGenerator(**dict(TINY, **options))
    for name, param in generator.named_parameters():
        if name.endswith('bias') and 'affine' not in name:
            torch.nn.init.normal_(param, std=0.3)
        if name.endswith('noise_strength'):
            torch.nn.init.normal_(param)
    return generator


def inputs(generator, num_clips=2, num_frames=3):
    """Draw z, c, t and all motion noise that t can need."""
    c = None
    if generator.c_dim:
        c = torch.eye(generator.c_dim)[torch.arange(num_clips) % 3]
    t = torch.rand(num_clips, num_frames).double() * 30
    encoder = generator.motion_encoder
    motion_z = encoder and torch.randn(num_clips, 40, encoder.motion_z_dim)
    return torch.randn(num_clips, generator.z_dim), c, t, motion_z


# Names and sizes


def published_names(
    resolution=256,
    width=512,
    c_dim=0,
    mapping_layers=2,
    base=16384,
    max_channels=512,
    freqs=256,
    taps=11,
    motion='concat_const',
    noise=False,
):
    """List the entries of the published state dict but filters, and shapes.

    ``motion`` is 'concat_const', 'mocogan' (LSTM, concatenated to w) or
    'image' (none). All widths but the channels are ``width``.
    """
    names = {'mapping.w_avg': [width]}
    in_features = width
    if c_dim:
        names['mapping.embed.weight'] = [width, c_dim]
        names['mapping.embed.bias'] = [width]
        in_features = 2 * width
    for i in range(mapping_layers):
        names[f'mapping.fc{i}.weight'] = [width, in_features]
        names[f'mapping.fc{i}.bias'] = [width]
        in_features = width

    encoder = 'synthesis.motion_encoder'
    if motion == 'concat_const':
        for i, extra in enumerate((c_dim, 0)):
            names[f'{encoder}.conv.{i}.weight'] = [width, width + extra, taps]
            names[f'{encoder}.conv.{i}.bias'] = [width]
        time = f'{encoder}.time_encoder'
        names[f'{time}.freqs'] = [1, freqs]
        names[f'{time}.phase_scales'] = [1, freqs]
        names[f'{time}.periods_predictor.weight'] = [freqs, width]
        names[f'{time}.phase_predictor.weight'] = [freqs, width]
        names[f'{time}.aligners_predictor.weight'] = [2 * freqs, width]
    elif motion == 'mocogan':
        for kind in ('ih', 'hh'):
            names[f'{encoder}.rnn.weight_{kind}_l0'] = [4 * width, width]
            names[f'{encoder}.rnn.bias_{kind}_l0'] = [4 * width]
        for i in range(2):
            names[f'{encoder}.mapping.fc{i}.weight'] = [width, width]
            names[f'{encoder}.mapping.fc{i}.bias'] = [width]

    style = 2 * width if motion == 'mocogan' else width
    res, in_channels = 4, None
    while res <= resolution:
        out = min(base // res, max_channels)
        block = f'synthesis.b{res}'
        convs = {'conv0': in_channels, 'conv1': out}
        if res == 4:
            del convs['conv0']
            if motion == 'concat_const':
                names[f'{block}.input.input.const'] = [1, out, 4, 4]
                convs['conv1'] = out + width
            else:
                names[f'{block}.input.input'] = [out, 4, 4]
        for conv, channels in convs.items():
            names[f'{block}.{conv}.weight'] = [out, channels, 3, 3]
            names[f'{block}.{conv}.bias'] = [out]
            names[f'{block}.{conv}.affine.weight'] = [channels, style]
            names[f'{block}.{conv}.affine.bias'] = [channels]
            if noise:
                names[f'{block}.{conv}.noise_const'] = [res, res]
                names[f'{block}.{conv}.noise_strength'] = []
        names[f'{block}.torgb.weight'] = [3, out, 1, 1]
        names[f'{block}.torgb.bias'] = [3]
        names[f'{block}.torgb.affine.weight'] = [out, style]
        names[f'{block}.torgb.affine.bias'] = [out]
        res, in_channels = 2 * res, out
    return names


def on_meta(**options):
    with torch.device('meta'):
        return StyleGANVGenerator(**options)


def names_of(network):
    return {k: list(v.shape) for k, v in network.state_dict().items()}


def count(network):
    return sum(param.numel() for param in network.parameters())


@pytest.mark.parametrize(
    ('resolution', 'base', 'num_ws', 'parameters'),
    [
        (128, 16384, 12, 31863698),
        (256, 16384, 14, 32105941),
        (512, 32768, 16, 37615064),
        (1024, 32768, 18, 37708539),
    ],
)
def test_published_sizes(resolution, base, num_ws, parameters):
    generator = on_meta(resolution=resolution, channel_base=base)
    assert count(generator) == parameters
    assert generator.num_ws == num_ws
    expected = published_names(resolution, base=base)
    assert names_of(generator) == expected


def test_published_parts_at_256():
    generator = on_meta(resolution=256)
    # Appendix of 115 entries, 20 of them filters, which are constants.
    assert len(names_of(generator)) == 115 - 20
    assert count(generator.mapping) == 525312
    assert count(generator.motion_encoder) == 6292480


def test_names_of_a_conditional_model():
    generator = on_meta(resolution=256, c_dim=101, mapping_layers=8)
    assert names_of(generator) == published_names(c_dim=101, mapping_layers=8)


def test_names_of_the_mocogan_baseline():
    generator = on_meta(resolution=256, cond_type='concat_w', **LSTM)
    assert count(generator) == 29619157
    assert names_of(generator) == published_names(motion='mocogan')


def test_names_of_an_image_model():
    generator = on_meta(resolution=64, motion_v_dim=0)
    assert names_of(generator) == published_names(64, motion='image')


def test_names_of_noise():
    generator = on_meta(resolution=64, use_noise=True)
    assert names_of(generator) == published_names(64, noise=True)
    # Of the maps, none is trained; of the strengths, all are.
    assert count(generator) == count(on_meta(resolution=64)) + 9


@pytest.mark.parametrize('motion', ['concat_const', 'image'])
def test_names_of_coordinates(motion):
    sizes = dict(motion_v_dim=0) if motion == 'image' else {}
    generator = on_meta(resolution=64, coord_dim=16, **sizes)
    names = published_names(64, motion=motion)
    first = 'synthesis.b4.conv1'
    names[f'{first}.weight'][1] += 16
    names[f'{first}.affine.weight'][0] += 16
    names[f'{first}.affine.bias'][0] += 16
    for i, channels in enumerate((2, 16)):
        coords = f'synthesis.b4.input.coords.conv{i}'
        names[f'{coords}.weight'] = [16, channels, 3, 3]
        names[f'{coords}.bias'] = [16]
    assert names_of(generator) == names
    # Two 3x3 convolutions, 2 -> d -> d, and d more inputs of the first layer,
    # each with 512 filters, a row of 512 and a bias of its style.
    more = 9 * 2 * 16 + 16 + 9 * 16**2 + 16 + 16 * (512 * 9 + 512 + 1)
    published = count(on_meta(resolution=64, **sizes))
    assert count(generator) == published + more


@pytest.mark.parametrize('resolution', [16, 32, 64, 128, 256, 512, 1024])
def test_every_resolution_can_be_built(resolution):
    generator = on_meta(**dict(TINY, resolution=resolution, channel_base=2048))
    assert generator.num_ws == 2 * math.log2(resolution) - 2
    assert f'synthesis.b{resolution}.conv1.weight' in generator.state_dict()


def test_initial_values():
    generator = StyleGANVGenerator(**TINY)
    state = generator.state_dict()
    assert state['mapping.w_avg'].eq(0).all()
    for name, value in state.items():
        if name.endswith('affine.bias'):
            assert value.eq(1).all(), name
        elif name.endswith('bias'):
            assert value.eq(0).all(), name
    drawn = torch.cat(
        [v.flatten() for k, v in state.items() if k.endswith('conv1.weight')]
    )
    assert drawn.std().item() == pytest.approx(1, abs=0.05)
    # Layers of the mappings learn 100 times slower, so are stored larger.
    assert state['mapping.fc1.weight'].std().item() > 50
    assert state['synthesis.motion_encoder.conv.0.weight'].std().item() > 50


def test_the_registry_knows_it():
    generator = MODELS.build(dict(type='StyleGANVGenerator', **TINY))
    assert isinstance(generator, StyleGANVGenerator)


# Frames


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('num_frames', [1, 4])
def test_videos_of_every_variant(variant, num_frames):
    generator = make(**VARIANTS[variant])
    z, c, t, motion_z = inputs(generator, 3, num_frames)
    videos = generator(z, c, t, motion_z)
    assert videos.shape == (3, num_frames, 3, 16, 16)
    assert videos.dtype == torch.float32
    assert torch.isfinite(videos).all()
    videos.square().sum().backward()
    for name, param in generator.named_parameters():
        # With one frame at a code's start, no neighbour: no excuse either.
        assert param.grad is not None, name
        assert param.grad.abs().sum() > 0, name
    # Noise that is not given is drawn.
    one, other = (generator(z, c, t) for _ in range(2))
    assert torch.equal(one, other) == variant.endswith(
        ('image', 'image_sum_w')
    )


def test_a_larger_resolution():
    generator = make(resolution=32)
    z, c, t, motion_z = inputs(generator)
    assert generator(z, c, t, motion_z).shape == (2, 3, 3, 32, 32)


@pytest.mark.parametrize('variant', VARIANTS)
def test_frames_depend_on_their_own_time_and_clip_alone(variant):
    generator = make(**VARIANTS[variant]).eval()
    z, c, t, motion_z = inputs(generator, 2, 5)
    with torch.no_grad():
        whole = generator(z, c, t, motion_z)
        order = [3, 0, 4]
        some = generator(z, c, t[:, order], motion_z)
        alone = generator(
            z[1:],
            c if c is None else c[1:],
            t[1:],
            motion_z if motion_z is None else motion_z[1:],
        )
    close = dict(rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(some, whole[:, order], **close)
    torch.testing.assert_close(alone, whole[1:], **close)
    frames_differ = (whole[:, 0] - whole[:, 1]).abs().max() > 1e-3
    assert frames_differ == ('image' not in variant)
    assert (whole[0] - whole[1]).abs().max() > 1e-3


def test_the_label_enters_content_and_motion():
    generator = make(c_dim=3).eval()
    z, c, t, motion_z = inputs(generator)
    other = c.roll(1, 1)
    with torch.no_grad():
        assert not torch.allclose(generator.map(z, c), generator.map(z, other))
        assert not torch.allclose(
            generator.motion_encoder(c, t, motion_z),
            generator.motion_encoder(other, t, motion_z),
        )


def test_motion_ignores_content():
    generator = make().eval()
    z, _, t, motion_z = inputs(generator)
    seen = []
    hook = generator.motion_encoder.register_forward_hook(
        lambda _, args, output: seen.append(output)
    )
    for content in (z, torch.randn_like(z)):
        generator(content, None, t, motion_z)
    hook.remove()
    assert torch.equal(*seen)


def test_styles_go_to_the_layers_as_published():
    """Colours share their style with the first layer of the next block."""
    generator = make(resolution=32, w_dim=8).eval()
    seen = {}
    for name, module in generator.synthesis.named_modules():
        if name.endswith('affine'):
            assert isinstance(module, FullyConnected)
            module.register_forward_hook(
                lambda _, args, output, name=name: seen.update(
                    {name.removesuffix('.affine'): args[0]}
                )
            )
    ws = torch.arange(8.0)[None, :, None].expand(2, 8, 8)
    generator.render(ws, torch.randn(6, 8), 3)
    assert {name: w.unique().tolist() for name, w in seen.items()} == {
        'b4.conv1': [0],
        'b4.torgb': [1],
        'b8.conv0': [1],
        'b8.conv1': [2],
        'b8.torgb': [3],
        'b16.conv0': [3],
        'b16.conv1': [4],
        'b16.torgb': [5],
        'b32.conv0': [5],
        'b32.conv1': [6],
        'b32.torgb': [7],
    }
    # One row a clip, not a frame.
    assert {len(w) for w in seen.values()} == {2}


@pytest.mark.parametrize('cond_type', ['concat_w', 'sum_w'])
def test_motion_in_the_styles(cond_type):
    generator = make(cond_type=cond_type, w_dim=8).eval()
    seen = []
    affine = generator.synthesis.b8.conv0.affine
    affine.register_forward_hook(lambda _, args, output: seen.append(args[0]))
    ws, motion_v = torch.randn(2, 6, 8), torch.randn(6, 8)
    generator.render(ws, motion_v, 3)
    w = ws[:, 1].repeat_interleave(3, 0)
    expected = {
        'concat_w': torch.cat([w, motion_v], 1),
        'sum_w': w + motion_v,
    }[cond_type]
    assert torch.equal(seen[0], expected)


def test_motion_stands_behind_the_constant():
    generator = make().eval()
    seen = []
    generator.synthesis.b4.conv1.register_forward_hook(
        lambda _, args, output: seen.append(args[0])
    )
    motion_v = torch.randn(6, 8)
    generator.render(torch.randn(2, 6, 7), motion_v, 3)
    const = generator.synthesis.b4.input.input.const[0]
    assert seen[0].shape == (6, 16, 4, 4)
    for frame, v in zip(seen[0], motion_v):
        assert torch.equal(frame[:8], const)
        assert torch.equal(frame[8:], v[:, None, None].expand(8, 4, 4))


@pytest.mark.parametrize('variant', ['coordinates', 'coordinates_image'])
def test_coordinates_stand_behind_the_rest(variant):
    generator = make(**VARIANTS[variant]).eval().double()
    seen = []
    generator.synthesis.b4.conv1.register_forward_hook(
        lambda _, args, output: seen.append(args[0].detach().numpy())
    )
    motion_v = None
    if generator.motion_encoder is not None:
        motion_v = torch.randn(6, 8).double()
    generator.render(torch.randn(2, 6, 7).double(), motion_v, 3)

    x, y = np.meshgrid([-1, -1 / 3, 1 / 3, 1], [-1, -1 / 3, 1 / 3, 1])
    maps, state = [x, y], generator.synthesis.b4.input.coords.state_dict()
    for i in range(2):
        weight, bias = (
            state[f'conv{i}.{name}'].numpy() for name in ('weight', 'bias')
        )
        weight = weight / np.sqrt(9 * len(maps))
        sums = [
            sum(
                correlate2d(before, kernel, 'same')
                for before, kernel in zip(maps, kernels)
            )
            for kernels in weight
        ]
        sums = [total + b for total, b in zip(sums, bias)]
        maps = [np.sqrt(2) * np.maximum(v, 0.2 * v) for v in sums]
    const = 8 + (0 if motion_v is None else 8)
    assert seen[0].shape == (6, const + 3, 4, 4)
    for frame in seen[0]:
        # The grid is made in single precision.
        np.testing.assert_allclose(frame[const:], maps, atol=1e-6)


def test_coordinates_tell_pixels_apart():
    """Where the constant is the same everywhere, they alone can."""
    maps = {}
    for coord_dim in (0, 3):
        generator = make(coord_dim=coord_dim).eval()
        torch.nn.init.ones_(generator.synthesis.b4.input.input.const)
        layer = generator.synthesis.b4.conv1
        layer.register_forward_hook(
            lambda _, args, output, dim=coord_dim: maps.update(
                {dim: output.detach()[0]}
            )
        )
        generator.render(torch.randn(1, 6, 7), torch.randn(1, 8), 1)
    # Without, only the padding makes a difference.
    center = maps[0][:, 1:3, 1:3]
    torch.testing.assert_close(center, center[:, :1, :1].expand(8, 2, 2))
    assert len(maps[3].flatten(1).T.unique(dim=0)) == 16
    center = maps[3][:, 1:3, 1:3]
    assert not torch.allclose(center, center[:, :1, :1].expand(8, 2, 2))


def test_colours_of_all_blocks_add_up():
    generator = make().eval().double()
    parts = []
    for name in ('b4', 'b8', 'b16'):
        generator.synthesis.get_submodule(name).torgb.register_forward_hook(
            lambda _, args, output: parts.append(output.detach().numpy())
        )
    ws, motion_v = torch.randn(1, 6, 7).double(), torch.randn(2, 8).double()
    video = generator.render(ws, motion_v, 2)[0].detach()
    fir = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    for frame in range(2):
        for colour in range(3):
            image = np.zeros((2, 2))
            for part in parts:
                stuffed = np.zeros([2 * size for size in image.shape])
                stuffed[::2, ::2] = image
                padded = np.pad(stuffed, (2, 1))
                image = 4 * convolve2d(padded, fir, 'valid')
                image = image + part[frame, colour]
            np.testing.assert_allclose(video[frame, colour], image, atol=1e-7)


def test_colours_of_a_block():
    generator = make().eval().double()
    torgb = generator.synthesis.b8.torgb
    x, w = torch.randn(2, 8, 4, 4).double(), torch.randn(2, 7).double()
    styles = w @ torgb.affine.weight.T / 7**0.5 + torgb.affine.bias
    # No demodulation, the fan-in of 8 is in the style.
    weight = torgb.weight[:, :, 0, 0] * styles[:, None] / 8**0.5
    expected = torch.einsum('noi,nihw->nohw', weight, x)
    expected = expected + torgb.bias[:, None, None]
    torch.testing.assert_close(torgb(x, w), expected)


# Noise


def test_noise_comes_between_the_convolution_and_the_bias():
    generator = make(use_noise=True, conv_clamp=2).eval().double()
    for layer in (generator.synthesis.b8.conv0, generator.synthesis.b8.conv1):
        x = torch.randn(6, 8, 8 // layer.up, 8 // layer.up).double()
        w, noise = torch.randn(2, 7).double(), torch.randn(6, 1, 8, 8).double()
        layer.bias.data.zero_()
        clamp, layer.conv_clamp = layer.conv_clamp, None
        plain = layer(x, w)
        # Undo the leaky ReLU: what the convolution gives.
        plain = plain.where(plain > 0, plain / 0.2) / 2**0.5
        layer.conv_clamp = clamp
        layer.bias.data.normal_()
        expected = plain + layer.noise_strength * noise
        expected = expected + layer.bias[:, None, None]
        expected = 2**0.5 * torch.maximum(expected, 0.2 * expected)
        torch.testing.assert_close(
            layer(x, w, noise), expected.clamp(-2, 2), rtol=1e-9, atol=1e-9
        )


def noise_of_layers(generator, *args, **options):
    """Render with layers that show their noise alone."""
    seen = []
    for module in generator.synthesis.modules():
        if hasattr(module, 'noise_strength'):
            module.register_forward_hook(
                lambda layer, args, output: seen.append(
                    torch.where(output > 0, output, output / 0.2) / 2**0.5
                )
            )
            module.weight.data.zero_()
            module.bias.data.zero_()
            module.noise_strength.data.fill_(1)
            module.conv_clamp = None
    with torch.no_grad():
        generator.render(*args, **options)
    return seen


@pytest.mark.parametrize('variant', ['noise', 'noise_mocogan'])
def test_in_training_each_frame_has_noise_of_its_own(variant):
    generator = make(**dict(VARIANTS[variant], resolution=32)).train()
    ws, motion_v = torch.randn(4, 8, 7), torch.randn(12, 8)
    maps = noise_of_layers(generator, ws, motion_v, 3)
    assert [x.shape[2:] for x in maps] == [
        (res, res) for res in (4, 8, 8, 16, 16, 32, 32)
    ]
    for x in maps:
        # All channels of a pixel the same.
        torch.testing.assert_close(x, x[:, :1].expand_as(x))
    values = torch.cat([x[:, 0].flatten(1) for x in maps], 1)  # 12, 2704
    assert values.mean().abs() < 4 / values.numel() ** 0.5
    assert values.var().item() == pytest.approx(1, abs=0.03)
    # Neither frames nor layers nor passes share any.
    correlation = torch.corrcoef(values) - torch.eye(12)
    assert correlation.abs().max() < 5 / 2704**0.5
    last = torch.corrcoef(torch.stack([x[:, 0].flatten() for x in maps[-2:]]))
    assert last[0, 1].abs() < 4 / (12 * 1024) ** 0.5
    again = noise_of_layers(generator, ws, motion_v, 3)
    assert not torch.allclose(again[0], maps[0])


@pytest.mark.parametrize('variant', ['noise', 'noise_mocogan'])
def test_seeded_noise_is_that_of_each_clip(variant):
    generator = make(**VARIANTS[variant]).train()
    ws, motion_v = torch.randn(4, 6, 7), torch.randn(12, 8)
    seeds = torch.tensor([3, 2**62, 5, 3])
    before = torch.get_rng_state()
    maps = noise_of_layers(generator, ws, motion_v, 3, noise_seeds=seeds)
    assert torch.equal(torch.get_rng_state(), before)
    some = noise_of_layers(
        generator, ws[1:3], motion_v[3:9], 3, noise_seeds=seeds[1:3]
    )
    for whole, part in zip(maps, some):
        torch.testing.assert_close(part, whole[3:9])
        torch.testing.assert_close(whole[:3], whole[9:])
        assert not torch.allclose(whole[:3], whole[3:6])


@pytest.mark.parametrize('variant', ['noise', 'noise_mocogan'])
def test_in_sampling_all_frames_have_the_stored_noise(variant):
    generator = make(**VARIANTS[variant]).eval()
    ws, motion_v = torch.randn(2, 6, 7), torch.randn(6, 8)
    maps = noise_of_layers(generator, ws, motion_v, 3)
    stored = [
        value
        for name, value in generator.state_dict().items()
        if name.endswith('noise_const')
    ]
    assert [len(each) for each in stored] == [4, 8, 8, 16, 16]
    for x, const in zip(maps, stored):
        torch.testing.assert_close(x, const.expand_as(x))


def test_sampling_without_noise():
    generator = make(use_noise=True, noise_mode='none').eval()
    args = inputs(generator)
    with torch.no_grad():
        without = generator(*args)
        generator.synthesis.noise_mode = 'const'
        assert not torch.allclose(generator(*args), without, atol=1e-2)
        for name, param in generator.named_parameters():
            if name.endswith('noise_strength'):
                param.zero_()
        assert torch.equal(generator(*args), without)
    # It says nothing of training.
    generator.train().synthesis.noise_mode = 'none'
    maps = noise_of_layers(
        generator, torch.randn(2, 6, 7), torch.randn(6, 8), 3
    )
    assert maps[-1].std() > 0.9


def test_noise_starts_at_strength_zero():
    state = StyleGANVGenerator(**TINY, use_noise=True).state_dict()
    strengths = [v for k, v in state.items() if k.endswith('noise_strength')]
    assert len(strengths) == 5
    assert not any(strengths)
    maps = [v for k, v in state.items() if k.endswith('noise_const')]
    values = torch.cat([each.flatten() for each in maps])
    assert values.std().item() == pytest.approx(1, abs=0.1)


# Mapping and truncation


def test_map_repeats_w_for_every_layer():
    generator = make().eval()
    z = torch.randn(2, 6)
    ws = generator.map(z)
    assert ws.shape == (2, 6, 7)
    for layer in range(6):
        assert torch.equal(ws[:, layer], generator.mapping(z, None))


def test_the_mean_of_w_moves_as_published():
    generator = make()
    z, c, t, motion_z = inputs(generator)
    generator(z, c, t, motion_z)
    w = generator.mapping.eval()(z, None).detach()
    expected = 0.005 * w.mean(0)
    torch.testing.assert_close(generator.mapping.w_avg, expected)


def test_truncation_reaches_the_frames():
    generator = make().eval()
    generator.mapping.w_avg.normal_()
    z, _, t, motion_z = inputs(generator)
    with torch.no_grad():
        w, center = generator.map(z), generator.mapping.w_avg
        motion_v = generator.motion_encoder(None, t, motion_z)
        ws = center + 0.6 * (w - center)
        ws[:, 4:] = w[:, 4:]
        expected = generator.render(ws, motion_v, 3)
        videos = generator(
            z, None, t, motion_z, truncation_psi=0.6, truncation_cutoff=4
        )
    torch.testing.assert_close(videos, expected)


# Precision and clamping


def dtypes(generator):
    """Note the dtype in which each layer's convolution runs."""
    seen = {}
    for name, module in generator.synthesis.named_modules():
        if name.endswith(('conv0', 'conv1', 'torgb')):
            module.register_forward_hook(
                lambda _, args, output, name=name: seen.update(
                    {name: output.dtype}
                )
            )
    return seen


@pytest.mark.parametrize('use_noise', [False, True])
def test_bfloat16_blocks(use_noise):
    options = dict(resolution=32, use_noise=use_noise)
    generator = make(**options).eval()
    half = make(num_fp16_res=2, half_dtype='bfloat16', **options).eval()
    half.load_state_dict(generator.state_dict())
    args = inputs(generator)
    seen = dtypes(half)
    with torch.no_grad():
        expected, videos = generator(*args), half(*args)
    low = {name for name, dtype in seen.items() if dtype == torch.bfloat16}
    assert low == {
        f'b{r}.{n}' for r in (16, 32) for n in ('conv0', 'conv1', 'torgb')
    }
    assert videos.dtype == torch.float32
    error = (videos - expected).square().mean().sqrt()
    # bfloat16 has 8 bits: 0.4 % a rounding.
    assert 1e-5 < error / expected.std() < 0.02


@pytest.mark.parametrize(
    ('dtype', 'limit'), [(torch.float16, 0.002), (torch.bfloat16, 0.02)]
)
def test_half_types_are_near_to_float32(monkeypatch, dtype, limit):
    """Frames and the gradient of their sum, in types that GPUs compute."""
    generator = make(resolution=32, num_fp16_res=3)
    args, found = inputs(generator), []
    for each in (torch.float32, dtype):
        monkeypatch.setattr(
            generator_module,
            'block_dtype',
            lambda device, half, wide, each=each: wide if not half else each,
        )
        frames = generator(*args)
        weights = generator.synthesis.b32.conv0.weight
        (grad,) = torch.autograd.grad(frames.square().mean(), weights)
        found.append((frames.detach(), grad))
    for expected, half in zip(*found):
        assert half.isfinite().all()
        error = (half - expected).norm() / expected.norm()
        assert 1e-6 < error < limit


@pytest.mark.parametrize('has_it', [False, True])
def test_auto_is_what_the_device_is_fast_in(monkeypatch, has_it):
    monkeypatch.setattr(layers, 'cpu_has_bfloat16', lambda: has_it)
    cpu, gpu = torch.device('cpu'), torch.device('cuda')
    on_cpu = torch.bfloat16 if has_it else torch.float32
    assert layers.block_dtype(cpu, 'auto', torch.float32) == on_cpu
    assert layers.block_dtype(gpu, 'auto', torch.float32) == torch.float16
    assert layers.block_dtype(cpu, 'auto', torch.float64) == torch.float64
    assert layers.block_dtype(cpu, None, torch.float32) == torch.float32
    generator = make(num_fp16_res=1, half_dtype='auto').eval()
    seen = dtypes(generator)
    generator(*inputs(generator))
    assert seen['b16.conv0'] == on_cpu


def test_float16_is_for_gpus():
    generator = make().eval()
    half = make(num_fp16_res=4, half_dtype='float16').eval()
    half.load_state_dict(generator.state_dict())
    args = inputs(generator)
    seen = dtypes(half)
    with torch.no_grad():
        assert torch.equal(half(*args), generator(*args))
    assert set(seen.values()) == {torch.float32}


@pytest.mark.parametrize('use_noise', [False, True])
def test_float64_throughout(use_noise):
    options = dict(half_dtype='bfloat16', use_noise=use_noise)
    generator = make(num_fp16_res=4, **options).eval().double()
    z, c, t, motion_z = inputs(generator)
    videos = generator(z.double(), c, t, motion_z)
    assert videos.dtype == torch.float64
    single = generator.float()(z, c, t, motion_z)
    # Two of three blocks now run in bfloat16.
    assert not torch.allclose(single.double(), videos, atol=1e-5)


def test_conv_clamp_holds_everywhere():
    generator = make(conv_clamp=0.4).eval()
    largest = {}
    for name, module in generator.synthesis.named_modules():
        if name.endswith(('conv0', 'conv1', 'torgb')):
            module.register_forward_hook(
                lambda _, args, output, name=name: largest.update(
                    {name: float(output.detach().abs().max())}
                )
            )
    generator(*inputs(generator))
    assert len(largest) == 8
    for name, value in largest.items():
        assert value <= 0.4 + 1e-7, name
        if 'conv' in name:
            assert value == pytest.approx(0.4), name


def test_a_wide_clamp_changes_nothing():
    generator, free = make().eval(), make(conv_clamp=None).eval()
    free.load_state_dict(generator.state_dict())
    args = inputs(generator)
    assert torch.equal(generator(*args), free(*args))


# Bad values


@pytest.mark.parametrize(
    ('options', 'key'),
    [
        (dict(resolution=48), 'resolution=48'),
        (dict(resolution=8), 'resolution=8'),
        (dict(resolution=2048), 'resolution=2048'),
        (dict(cond_type='concat'), "cond_type='concat'"),
        (dict(half_dtype='fp16'), "half_dtype='fp16'"),
        (dict(cond_type='sum_w'), r'2 \* time_enc_dim=8 must equal w_dim=7'),
        (
            dict(cond_type='sum_w', fourier=False, motion_v_dim=9),
            'motion_v_dim=9 must equal w_dim=7',
        ),
        (dict(noise_mode='random'), "noise_mode='random'"),
        (dict(noise_mode='none'), 'use_noise=True'),
        (dict(motion_type='rnn'), "motion_type='rnn'"),
        (dict(motion_z_distance=0), 'motion_z_distance=0'),
        (dict(min_period_len=100), 'min_period_len=100'),
        (dict(channel_base=8), 'channel_base=8'),
        (dict(channel_max=0), 'channel_max=0'),
        (dict(motion_kernel_size=0), 'motion_kernel_size=0'),
        (dict(coord_dim=-1), 'coord_dim=-1'),
    ],
)
def test_nonsense_is_refused(options, key):
    with pytest.raises(InputError, match=key):
        make(**options)
