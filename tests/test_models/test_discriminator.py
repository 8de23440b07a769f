"""The discriminator: names, sizes, and what its logits depend on."""

import numpy as np
import pytest
import torch

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.models import StyleGANVDiscriminator
from stylegan_v_mm.models import discriminator as discriminator_module
from stylegan_v_mm.models.clip_layers import temporal_shift
from stylegan_v_mm.registry import MODELS

TINY = dict(
    resolution=16,
    channel_base=128,
    channel_max=8,
    concat_res=8,
    max_num_frames=32,
)


def make(**options):
    """Build a tiny discriminator with biases that are not zero."""
    discriminator = StyleGANVDiscriminator(**dict(TINY, **options))
    for name, param in discriminator.named_parameters():
        if name.endswith('bias'):
            torch.nn.init.normal_(param, std=0.3)
    return discriminator


def inputs(discriminator, num_clips=4):
    res, num_frames = discriminator.resolution, discriminator.num_frames
    videos = torch.randn(num_clips, num_frames, 3, res, res)
    c = None
    if discriminator.c_dim:
        c = torch.eye(discriminator.c_dim)[torch.arange(num_clips) % 3]
    gaps = torch.randint(1, 16, (num_clips, num_frames)).double()
    return videos, c, gaps.cumsum(1) + torch.rand(num_clips, 1).double()


def numbers(tensor):
    return tensor.detach().double().numpy()


# Names and sizes


def published_names(
    resolution=256,
    num_frames=3,
    c_dim=0,
    base=16384,
    concat_res=16,
    max_num_frames=1024,
    num_freqs=10,
):
    """List the entries of the published state dict but filters, and shapes."""
    names = {}
    cond = c_dim
    if num_frames > 1:
        names['time_encoder.const_embed.weight'] = [max_num_frames, 256]
        names['time_encoder.time_encoder.fourier_coefs'] = [1, num_freqs]
        cond += (num_frames - 1) * (256 + 2 * num_freqs)
    if cond:
        names['mapping.embed.weight'] = [512, cond]
        names['mapping.embed.bias'] = [512]
        for i in range(2):
            names[f'mapping.fc{i}.weight'] = [512, 512]
            names[f'mapping.fc{i}.bias'] = [512]

    res, in_channels = resolution, None
    while res > 4:
        mid, out = (min(base // r, 512) for r in (res, res // 2))
        if res // 2 == concat_res:
            out //= 2
        if in_channels is None:
            names[f'b{res}.fromrgb.weight'] = [mid, 3, 1, 1]
            names[f'b{res}.fromrgb.bias'] = [mid]
            in_channels = mid
        if res == concat_res:
            in_channels *= num_frames
        names[f'b{res}.conv0.weight'] = [mid, in_channels, 3, 3]
        names[f'b{res}.conv0.bias'] = [mid]
        names[f'b{res}.conv1.weight'] = [out, mid, 3, 3]
        names[f'b{res}.conv1.bias'] = [out]
        names[f'b{res}.skip.weight'] = [out, in_channels, 1, 1]
        res, in_channels = res // 2, out
    names['b4.conv.weight'] = [512, 513, 3, 3]
    names['b4.conv.bias'] = [512]
    names['b4.fc.weight'] = [512, 8192]
    names['b4.fc.bias'] = [512]
    names['b4.out.weight'] = [512 if cond else 1, 512]
    names['b4.out.bias'] = [512 if cond else 1]
    return names


def on_meta(**options):
    with torch.device('meta'):
        return StyleGANVDiscriminator(**options)


def names_of(network):
    return {k: list(v.shape) for k, v in network.state_dict().items()}


def count(network):
    return sum(param.numel() for param in network.parameters())


@pytest.mark.parametrize(
    ('resolution', 'num_frames', 'base', 'parameters'),
    [
        (128, 3, 16384, 25214848),
        (256, 3, 16384, 25333568),
        (256, 2, 16384, 23881536),
        (512, 3, 32768, 30315328),
        (1024, 3, 32768, 30344992),
        (1024, 2, 32768, 28892960),
    ],
)
def test_published_sizes(resolution, num_frames, base, parameters):
    discriminator = on_meta(
        resolution=resolution, num_frames=num_frames, channel_base=base
    )
    assert count(discriminator) == parameters
    expected = published_names(resolution, num_frames, base=base)
    assert names_of(discriminator) == expected


def test_published_appendix():
    # 72 entries, 26 of them filters, which are constants.
    names = names_of(on_meta(resolution=256))
    assert len(names) == 72 - 26
    assert names['b16.conv0.weight'] == [512, 768, 3, 3]
    assert names['b32.conv1.weight'] == [256, 512, 3, 3]
    assert names['mapping.embed.weight'] == [512, 552]


@pytest.mark.parametrize('num_frames', [1, 2, 5])
@pytest.mark.parametrize('c_dim', [0, 7])
def test_names_of_variants(num_frames, c_dim):
    discriminator = on_meta(
        resolution=128, num_frames=num_frames, c_dim=c_dim, concat_res=32
    )
    expected = published_names(128, num_frames, c_dim, concat_res=32)
    assert names_of(discriminator) == expected


@pytest.mark.parametrize('resolution', [16, 32, 64, 128, 256, 512, 1024])
def test_every_resolution_can_be_built(resolution):
    options = dict(TINY, resolution=resolution, channel_base=2048)
    discriminator = on_meta(**options)
    assert f'b{resolution}.fromrgb.weight' in discriminator.state_dict()


def test_initial_values():
    discriminator = StyleGANVDiscriminator(**TINY)
    state = discriminator.state_dict()
    for name, value in state.items():
        if name.endswith('bias'):
            assert value.eq(0).all(), name
    embedding = state['time_encoder.const_embed.weight']
    assert embedding.std().item() == pytest.approx(1, abs=0.05)
    assert state['mapping.fc0.weight'].std().item() > 50
    assert state['mapping.embed.weight'].std().item() < 2


def test_the_registry_knows_it():
    network = MODELS.build(dict(type='StyleGANVDiscriminator', **TINY))
    assert isinstance(network, StyleGANVDiscriminator)


# Logits


@pytest.mark.parametrize('num_frames', [1, 2, 3, 5])
@pytest.mark.parametrize('c_dim', [0, 3])
@pytest.mark.parametrize('resolution', [16, 32])
def test_one_logit_a_clip(num_frames, c_dim, resolution):
    discriminator = make(
        num_frames=num_frames, c_dim=c_dim, resolution=resolution
    )
    logits = discriminator(*inputs(discriminator))
    assert logits.shape == (4,)
    assert len(logits.unique()) == 4
    logits.square().sum().backward()
    for name, param in discriminator.named_parameters():
        assert param.grad is not None, name
        assert param.grad.abs().sum() > 0, name


def test_one_frame_without_label_has_no_condition():
    discriminator = make(num_frames=1)
    assert not hasattr(discriminator, 'mapping')
    videos, _, t = inputs(discriminator)
    assert discriminator.condition(None, t) is None
    # The logit is then the last layer's only output.
    seen = []
    discriminator.b4.out.register_forward_hook(
        lambda _, args, output: seen.append(output)
    )
    logits = discriminator(videos, None, t)
    assert torch.equal(logits, seen[0][:, 0])


def test_only_time_differences_matter():
    discriminator = make()
    videos, c, t = inputs(discriminator)
    logits = discriminator(videos, c, t)
    shifted = discriminator(
        videos, c, t + torch.tensor([[64.0], [3], [9], [1]])
    )
    torch.testing.assert_close(shifted, logits)
    longer = t.clone()
    longer[:, 2] += 1
    assert (discriminator(videos, c, longer) - logits).abs().min() > 1e-6


def test_the_order_of_frames_matters():
    discriminator = make()
    videos, c, _ = inputs(discriminator)
    t = torch.tensor([[0.0, 4, 8]]).expand(4, 3)
    logits = discriminator(videos, c, t)
    assert not torch.allclose(discriminator(videos.flip(1), c, t), logits)


def test_clips_in_any_order_when_one_group_holds_them():
    discriminator = make(mbstd_group_size=4)
    videos, c, t = inputs(discriminator)
    logits = discriminator(videos, c, t)
    order = [2, 0, 3, 1]
    permuted = discriminator(videos[order], c, t[order])
    torch.testing.assert_close(permuted, logits[order])


def test_statistics_stay_within_their_group():
    discriminator = make(mbstd_group_size=2)
    videos, c, t = inputs(discriminator)
    logits = discriminator(videos, c, t)
    # Clips 0 and 2 are a group, 1 and 3 the other.
    changed = videos.clone()
    changed[1] = torch.randn(3, 3, 16, 16)
    after = discriminator(changed, c, t)
    close = torch.isclose(after, logits, rtol=1e-4, atol=1e-6)
    assert close.tolist() == [True, False, True, False]


def test_a_batch_that_does_not_fit_the_group():
    discriminator = make(mbstd_group_size=4)
    with pytest.raises(InputError, match='mbstd_group_size=4'):
        discriminator(*inputs(discriminator, 6))
    # Fewer clips than a group are a group.
    assert discriminator(*inputs(discriminator, 3)).shape == (3,)


def test_frames_are_joined_frame_by_frame():
    discriminator = make(resolution=32, num_frames=3, channel_base=256)
    seen = {}
    for name in ('b32', 'b16', 'b8'):
        getattr(discriminator, name).register_forward_hook(
            lambda _, args, output, name=name: seen.update(
                {name: (args[0], output)}
            )
        )
    videos, c, t = inputs(discriminator, 2)
    discriminator(videos, c, t)
    before, after = seen['b16'][1], seen['b8'][0]
    frames = seen['b32'][1]
    # Frames pass alone down to 8x8, clip by clip.
    torch.testing.assert_close(discriminator.b32(videos[1, :1]), frames[3:4])
    assert before.shape == (6, 4, 8, 8)
    assert after.shape == (2, 12, 8, 8)
    for clip in range(2):
        for frame in range(3):
            part = after[clip, 4 * frame : 4 * frame + 4]
            assert torch.equal(part, before[3 * clip + frame])


def test_residual_block():
    """Halves of the variance come from the skip and from the two layers."""
    discriminator = make(conv_clamp=None).double()
    block = discriminator.b16
    x = torch.randn(2, 3, 16, 16).double()
    y = block.fromrgb(x)
    expected = block.skip(y) + block.conv1(block.conv0(y))
    torch.testing.assert_close(block(x), expected / 2**0.5)


def test_conv_clamp_holds_everywhere():
    discriminator = make(conv_clamp=0.5)
    largest = {}
    for name, module in discriminator.named_modules():
        if name.endswith(('conv0', 'conv1', 'fromrgb', 'b4.conv')):
            module.register_forward_hook(
                lambda _, args, output, name=name: largest.update(
                    {name: float(output.detach().abs().max())}
                )
            )
    videos, c, t = inputs(discriminator)
    discriminator(videos * 3, c, t)
    assert len(largest) == 6
    for name, value in largest.items():
        # The factor of a block's last layer scales its clamp too.
        clamp = 0.5 * 0.5**0.5 if name.endswith('conv1') else 0.5
        assert value <= clamp + 1e-7, name
    assert largest['b16.conv1'] == pytest.approx(0.5 * 0.5**0.5)
    assert largest['b16.fromrgb'] == pytest.approx(0.5)


# Condition


def test_encoding_of_time_differences():
    discriminator = make(max_num_frames=1024, num_frames=3)
    encoder = discriminator.time_encoder
    diffs = torch.tensor(
        [[1, 32], [3 - 1e-9, 1000 + 1e-9]], dtype=torch.float64
    )
    ours = numbers(encoder(diffs))
    freqs = np.pi * 2.0 ** np.arange(10) / 1024
    table = numbers(encoder.const_embed.weight)
    assert ours.shape == (2, 552)
    for row, pair in zip(ours, [[1, 32], [3, 1000]]):
        expected = []
        for gap in pair:
            expected += [table[gap], np.sin(gap * freqs), np.cos(gap * freqs)]
        np.testing.assert_allclose(row, np.concatenate(expected), atol=1e-4)


@pytest.mark.parametrize(
    ('max_num_frames', 'num_freqs'), [(2, 1), (32, 5), (33, 6), (1000, 10)]
)
def test_frequencies_for_shorter_data(max_num_frames, num_freqs):
    encoder = make(max_num_frames=max_num_frames).time_encoder.time_encoder
    expected = [np.pi * 2**k / 2**num_freqs for k in range(num_freqs)]
    np.testing.assert_allclose(encoder.fourier_coefs, [expected], rtol=1e-6)


def test_high_frequencies_can_be_left_out():
    whole = make().time_encoder.time_encoder.fourier_coefs
    encoder = make(skip_small_t_freqs=2).time_encoder
    assert torch.equal(encoder.time_encoder.fourier_coefs, whole[:, :-2])
    assert encoder.dim == 256 + 6


def test_gaps_of_a_clip_in_order():
    discriminator = make()
    t = torch.tensor([[5.0, 6.0, 20.0]])
    seen = []
    discriminator.time_encoder.register_forward_hook(
        lambda _, args, output: seen.append(args[0].tolist())
    )
    discriminator.condition(None, t)
    assert seen == [[[1, 14]]]


def test_uniform_gaps_are_encoded_once():
    discriminator = make(num_frames=4, uniform_gaps=True)
    assert discriminator.mapping.embed.weight.shape[1] == 256 + 10
    videos, c, _ = inputs(discriminator)
    t = torch.arange(4.0).expand(4, 4) * 3
    logits = discriminator(videos, c, t)
    assert not torch.allclose(discriminator(videos, c, t * 2), logits)
    assert make(num_frames=1, uniform_gaps=True).num_diffs == 0


def test_projection():
    discriminator = make(c_dim=3)
    seen = {}
    for name in ('b4.out', 'mapping'):
        discriminator.get_submodule(name).register_forward_hook(
            lambda _, args, output, name=name: seen.update({name: output})
        )
    videos, c, t = inputs(discriminator)
    logits = numbers(discriminator(videos, c, t))
    features, cmap = numbers(seen['b4.out']), numbers(seen['mapping'])
    expected = np.einsum('nj,nj->n', features, cmap) / np.sqrt(8)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-6)


def test_the_label_comes_before_the_gaps():
    discriminator = make(c_dim=3)
    seen = []
    discriminator.mapping.embed.register_forward_hook(
        lambda _, args, output: seen.append(args[0])
    )
    _, c, t = inputs(discriminator)
    discriminator.condition(c, t)
    assert torch.equal(seen[0][:, :3], c)
    encoded = discriminator.time_encoder(t[:, 1:] - t[:, :-1])
    assert torch.equal(seen[0][:, 3:], encoded)


def test_a_blanked_condition():
    discriminator = make(c_dim=3, dummy_c=True)
    videos, c, t = inputs(discriminator)
    logits = discriminator(videos, c, t)
    assert torch.equal(discriminator(videos, c.roll(1, 1), t + t), logits)


# Frozen layers

# As published: from the frames on.
LAYERS = [
    'b16.fromrgb',
    'b16.conv0',
    'b16.conv1',
    'b16.skip',
    'b8.conv0',
    'b8.conv1',
    'b8.skip',
]


@pytest.mark.parametrize('freeze_layers', [0, 1, 3, 7])
def test_frozen_layers_stay(freeze_layers):
    discriminator = make(freeze_layers=freeze_layers)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=0.1)
    before = {k: v.clone() for k, v in discriminator.state_dict().items()}
    for _ in range(2):
        # As the generator's step does.
        assert discriminator.requires_grad_(False) is discriminator
        assert not any(p.requires_grad for p in discriminator.parameters())
        assert discriminator.requires_grad_(True) is discriminator
        discriminator(*inputs(discriminator)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    for name, param in discriminator.named_parameters():
        frozen = name.rpartition('.')[0] in LAYERS[:freeze_layers]
        assert torch.equal(param, before[name]) == frozen, name
        assert param.requires_grad != frozen, name


def test_freezing_changes_neither_names_nor_logits():
    free, frozen = make(), make(freeze_layers=5)
    frozen.load_state_dict(free.state_dict())
    names = [name for name, _ in free.named_parameters()]
    assert names == [name for name, _ in frozen.named_parameters()]
    args = inputs(free)
    assert torch.equal(frozen(*args), free(*args))


def test_the_penalty_goes_through_frozen_layers():
    gradients = []
    for freeze_layers in (0, 7):
        torch.manual_seed(1)
        discriminator = make(freeze_layers=freeze_layers)
        videos, c, t = inputs(discriminator)
        logits = discriminator(videos.requires_grad_(), c, t)
        (grad,) = torch.autograd.grad(logits.sum(), videos, create_graph=True)
        grad.square().sum().backward()
        gradients.append(discriminator.b4.conv.weight.grad)
        skip = discriminator.b8.skip.weight
        assert (skip.grad is None) == (freeze_layers == 7)
    assert gradients[0].abs().max() > 0
    assert torch.equal(*gradients)


# Precision


def test_bfloat16_blocks():
    options = dict(resolution=32, concat_res=16, channel_base=256)
    discriminator = make(**options)
    half = make(num_fp16_res=2, half_dtype='bfloat16', **options)
    half.load_state_dict(discriminator.state_dict())
    seen = {}
    for name, module in half.named_children():
        module.register_forward_hook(
            lambda _, args, output, name=name: seen.update(
                {name: output.dtype}
            )
        )
    args = inputs(discriminator)
    expected, logits = discriminator(*args).detach(), half(*args).detach()
    assert seen.pop('b32') == seen.pop('b16') == torch.bfloat16
    assert set(seen.values()) == {torch.float32}
    assert logits.dtype == torch.float32
    error = (logits - expected).abs().max()
    assert 1e-6 < error / expected.abs().max() < 0.05


@pytest.mark.parametrize(
    ('dtype', 'limit'), [(torch.float16, 0.04), (torch.bfloat16, 0.2)]
)
def test_half_types_are_near_to_float32(monkeypatch, dtype, limit):
    """Logits and their gradient, in types that GPUs compute."""
    discriminator = make(resolution=32, num_fp16_res=3)
    videos, c, t = inputs(discriminator)
    videos.requires_grad_()
    found = []
    for each in (torch.float32, dtype):
        monkeypatch.setattr(
            discriminator_module,
            'block_dtype',
            lambda device, half, wide, each=each: wide if not half else each,
        )
        logits = discriminator(videos, c, t)
        found.append((logits, *torch.autograd.grad(logits.sum(), videos)))
    for expected, half in zip(*found):
        assert half.isfinite().all()
        error = (half - expected).norm() / expected.norm()
        assert 1e-6 < error < limit


def test_float16_is_for_gpus():
    discriminator = make()
    half = make(num_fp16_res=4, half_dtype='float16')
    half.load_state_dict(discriminator.state_dict())
    args = inputs(discriminator)
    assert torch.equal(half(*args), discriminator(*args))


# Bad values


@pytest.mark.parametrize(
    ('options', 'key'),
    [
        (dict(resolution=48), 'resolution=48'),
        (dict(num_frames=0), 'num_frames=0'),
        (dict(half_dtype='half'), "half_dtype='half'"),
        (dict(concat_res=4), 'concat_res=4'),
        (dict(concat_res=16), 'concat_res=16'),
        (dict(concat_res=12), 'concat_res=12'),
        (dict(channel_base=8), 'channel_base=8'),
        (dict(num_frames_div_factor=0), 'num_frames_div_factor=0'),
        (dict(num_frames_div_factor=9), 'num_frames_div_factor=9'),
        (dict(mbstd_group_size=0), 'mbstd_group_size=0'),
        (dict(max_num_frames=0), 'max_num_frames=0'),
        (dict(freeze_layers=-1), 'freeze_layers=-1'),
        (dict(freeze_layers=8), 'freeze_layers=8 must be from 0 to 7'),
    ],
)
def test_nonsense_is_refused(options, key):
    with pytest.raises(InputError, match=key):
        make(**options)


def test_clips_of_another_shape_are_refused():
    discriminator = make()
    for shape in ((4, 2, 3, 16, 16), (4, 3, 3, 32, 32), (4, 3, 3, 16, 8)):
        with pytest.raises(InputError, match=f'got {shape[1]} of {shape[4]}x'):
            discriminator(torch.zeros(shape), None, torch.zeros(4, shape[1]))


@pytest.mark.parametrize(
    ('times', 'apart'), [([0, 1, 33], '32'), ([0, 5, 2], '-3')]
)
def test_impossible_gaps_are_refused(times, apart):
    discriminator = make()
    t = torch.tensor([[0, 1, 2], times]).double()
    with pytest.raises(InputError, match=f'lie {apart} .*max_num_frames=32'):
        discriminator(torch.zeros(2, 3, 3, 16, 16), None, t)


def test_the_longest_gap_is_allowed():
    discriminator = make(num_frames=2)
    t = torch.tensor([[0.0, 31], [0, 0]])
    assert discriminator(torch.zeros(2, 2, 3, 16, 16), None, t).shape == (2,)


def test_width_of_the_time_encoding():
    gaps = 2 * (6 + 2 * 6)  # learned, sines and cosines of 64 = 2 ** 6
    network = StyleGANVDiscriminator(
        16, 3, c_dim=5, max_num_frames=64, time_embed_dim=6, concat_res=8
    )
    assert network.time_encoder.const_embed.weight.shape == (64, 6)
    assert network.mapping.embed.weight.shape == (512, 5 + gaps)
    with pytest.raises(InputError, match='time_embed_dim=0'):
        StyleGANVDiscriminator(16, time_embed_dim=0, concat_res=8)


# Other ways from frames to a clip


@pytest.mark.parametrize('num_frames', [2, 3, 5])
def test_shifted_channels_by_brute_force(num_frames):
    x = torch.randn(2 * num_frames, 17, 3, 4)
    x = x.contiguous(memory_format=torch.channels_last)
    found = temporal_shift(x, num_frames)
    assert found.is_contiguous(memory_format=torch.channels_last)
    clips = numbers(x).reshape(2, num_frames, 17, 3, 4)
    expected = clips.copy()
    for clip in range(2):
        for frame in range(num_frames):
            for channel in range(4):
                # Two come from the frame before, two from that after.
                other = frame - 1 if channel < 2 else frame + 1
                expected[clip, frame, channel] = (
                    clips[clip, other, channel]
                    if 0 <= other < num_frames
                    else 0
                )
    assert np.array_equal(numbers(found), expected.reshape(found.shape))


def test_frames_are_shifted_before_they_are_concatenated():
    """Without adding a parameter, and at the higher resolutions only."""
    torch.manual_seed(0)
    plain = make()
    shifting = make(temporal_shift=True)
    shifting.load_state_dict(plain.state_dict())
    assert [getattr(shifting, f'b{res}').shift_frames for res in (16, 8)] == [
        3,
        1,
    ]
    videos, c, t = inputs(plain)
    (x,) = (videos.flatten(0, 1),)
    block = shifting.b16
    y = block.skip(block.fromrgb(x), gain=0.5**0.5)
    x = temporal_shift(block.fromrgb(x), 3)
    x = block.conv1(block.conv0(x), gain=0.5**0.5)
    torch.testing.assert_close(block(videos.flatten(0, 1)), y + x)
    assert not torch.allclose(plain(videos, c, t), shifting(videos, c, t))


def test_averaged_frames_take_any_number():
    discriminator = make(frame_fusion='mean', mbstd_group_size=1)
    assert discriminator.b8.conv0.weight.shape[1] == 4
    videos, _, t = inputs(discriminator)
    order = [2, 0, 1]
    torch.testing.assert_close(
        discriminator(videos[:, order], None, t),
        discriminator(videos, None, t),
    )
    # Twice as many frames of the same distances, on average.
    t = torch.arange(3).double()[None] * 4
    once = discriminator(videos[:1], None, t)
    longer = torch.arange(6).double()[None] * 4
    twice = discriminator(videos[:1].repeat(1, 2, 1, 1, 1), None, longer)
    torch.testing.assert_close(once, twice)
    # A network of images has the same parameters, and none for distances is
    # used.
    image = make(frame_fusion='mean', num_frames=1, mbstd_group_size=1)
    image.load_state_dict(discriminator.state_dict())
    torch.testing.assert_close(
        image(videos[:, :1], None, t[:, :1]),
        discriminator(videos[:, :1], None, t[:, :1]),
    )


def test_the_mean_is_that_of_features_and_encodings():
    discriminator = make(frame_fusion='mean', mbstd_group_size=1)
    videos, _, t = inputs(discriminator)
    features = discriminator.b16(videos.flatten(0, 1))
    features = features.reshape(4, 3, *features.shape[1:]).mean(1)
    encoder = discriminator.time_encoder
    code = (encoder(t.diff()[:, :1]) + encoder(t.diff()[:, 1:])) / 2
    expected = discriminator.b4(
        discriminator.b8(features), discriminator.mapping(None, code)
    )
    torch.testing.assert_close(discriminator(videos, None, t), expected)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(frame_fusion='max'), "frame_fusion='max'"),
        (dict(temporal_shift=True, num_frames=1), 'temporal_shift=True'),
    ],
)
def test_bad_fusions_are_named(options, words):
    with pytest.raises(InputError, match=words):
        make(**options)
    shifting = make(frame_fusion='mean', temporal_shift=True)
    videos, _, t = inputs(shifting)
    with pytest.raises(InputError, match='takes clips of 3 frames'):
        shifting(videos[:, :2], None, t[:, :2])
