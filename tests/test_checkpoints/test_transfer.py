"""Starting from the weights of another run: what the network then does."""

import math

import pytest
import torch

from stylegan_v_mm.checkpoints.transfer import transfer_weights
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.models import StyleGANV

SIZES = dict(resolution=16, channel_base=128, channel_max=8)
MOTION = dict(motion_v_dim=8, motion_z_dim=5, motion_kernel_size=3)
WAVES = dict(motion_z_distance=8, time_enc_dim=4, min_period_len=8)
LSTM = dict(motion_type='lstm', fourier=False, cond_type='concat_w')


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def gan(c_dim=0, generator=None, discriminator=None, **sizes):
    sizes = dict(SIZES, c_dim=c_dim, **sizes)
    return StyleGANV(
        dict(type='StyleGANVGenerator', z_dim=6, w_dim=7)
        | dict(max_period_len=64, **MOTION, **WAVES)
        | sizes
        | (generator or {}),
        dict(type='StyleGANVDiscriminator', concat_res=8, max_num_frames=64)
        | sizes
        | (discriminator or {}),
        r1_gamma=1.0,
        augment=dict(type='VideoAugment', ada_kimg=1),
    ).eval()


def trained(**options):
    """A model far from its start, in all that is saved."""
    model = gan(**options)
    for name, value in model.state_dict().items():
        if name.endswith(('weight', 'bias', 'const', 'w_avg', 'augment.p')):
            value.add_(torch.randn_like(value) * value.std(correction=0))
            value.add_(torch.randn_like(value) / 5)
    model.iteration, model.frames_seen = 7, 84
    return model


def transfer(source, target):
    """Transfer; return the counts of each part and the reshaped names."""
    checkpoint = {'state_dict': source.state_dict()}
    head, *lines = transfer_weights(target, checkpoint, 'x.pth').split('\n')
    assert head.split() == ['loaded', 'reshaped', 'new', 'left', 'out']
    named = [line.split()[1] for line in lines if line.startswith('reshaped')]
    rows = [line.split() for line in lines[: len(lines) - len(named)]]
    return {part: tuple(map(int, counts)) for part, *counts in rows}, named


def weights_of(model, network='generator'):
    state = getattr(model, network).state_dict()
    return {name: value.clone() for name, value in state.items()}


def fake_inputs(c_dim=0, num_frames=3):
    """Draw z, c, t, motion noise and videos for 4 clips."""
    c = torch.eye(c_dim)[torch.arange(4) % c_dim] if c_dim else None
    t = torch.tensor([0.0, 5, 7, 12, 20])[:num_frames].expand(4, -1).double()
    videos = torch.randn(4, num_frames, 3, 16, 16)
    return torch.randn(4, 6), c, t, torch.randn(4, 40, 5), videos


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_same_architecture_is_loaded_whole():
    source, target = trained(c_dim=2), gan(c_dim=2)
    start = {k: v.clone() for k, v in target.state_dict().items()}
    counts, reshaped = transfer(source, target)
    theirs = source.state_dict()
    loaded = 0
    for name, value in target.state_dict().items():
        network, constant = name.split('.')[0], name.split('.')[-1]
        learned = network in ('generator', 'generator_ema', 'discriminator')
        if constant in ('freqs', 'phase_scales', 'fourier_coefs'):
            learned = False
        loaded += learned
        assert torch.equal(value, theirs[name] if learned else start[name])
        if learned:
            assert not torch.equal(value, start[name]), name
    assert counts['total'] == (loaded, 0, 0, 0)
    assert reshaped == []


def test_periods_are_those_of_the_config():
    source = trained(generator=dict(min_period_len=16, max_period_len=128))
    target = gan()
    expected = 2 * math.pi / torch.tensor([64.0, 32, 16, 8])
    assert transfer(source, target)[0]['total'][1:] == (0, 0, 0)
    encoder = target.generator.motion_encoder.time_encoder
    close(encoder.freqs[0], expected)
    close(encoder.phase_scales[0], torch.tensor([1.0, 2, 4, 8]))


def test_the_table_counts_each_part():
    counts, reshaped = transfer(trained(), gan(c_dim=3))
    # Loaded, reshaped, new, left out.
    expected = {
        'discriminator.b4': (6, 0, 0, 0),
        'discriminator.b8': (5, 0, 0, 0),
        'discriminator.b16': (7, 0, 0, 0),
        'discriminator.mapping': (5, 1, 0, 0),
        'discriminator.time_encoder': (1, 0, 0, 0),
    }
    for network in ('generator', 'generator_ema'):
        expected |= {
            f'{network}.mapping': (4, 1, 2, 0),
            f'{network}.synthesis.b4': (9, 0, 0, 0),
            f'{network}.synthesis.b8': (12, 0, 0, 0),
            f'{network}.synthesis.b16': (12, 0, 0, 0),
            f'{network}.synthesis.motion_encoder': (6, 1, 0, 0),
        }
    total = tuple(map(sum, zip(*expected.values())))
    assert counts == expected | {'total': total}
    assert list(counts) == [*expected, 'total']
    assert set(reshaped) == {
        'discriminator.mapping.embed.weight',
        'generator.mapping.fc0.weight',
        'generator.synthesis.motion_encoder.conv.0.weight',
        'generator_ema.mapping.fc0.weight',
        'generator_ema.synthesis.motion_encoder.conv.0.weight',
    }


@pytest.mark.parametrize('motion', [{}, LSTM])
def test_a_conditional_model_starts_as_the_unconditional_one(motion):
    source = trained(generator=motion)
    target = gan(c_dim=3, generator=motion)
    transfer(source, target)
    z, c, t, motion_z, videos = fake_inputs(3)
    with torch.no_grad():
        for name in ('generator', 'generator_ema'):
            ours, theirs = (getattr(x, name) for x in (target, source))
            close(ours(z, c, t, motion_z), theirs(z, None, t, motion_z))
            close(ours.mapping.w_avg, theirs.mapping.w_avg)
        # New classes of an embedding are random; without any it is as it was.
        none, logits = (
            network(videos, label, t)
            for network, label in (
                (target.discriminator, torch.zeros(4, 3)),
                (source.discriminator, None),
            )
        )
        close(none, logits)
        changed = target.discriminator(videos, c, t) - logits
        assert 0 < changed.square().mean() < logits.square().mean()
    # What is zero learns.
    target.generator(z, c, t, motion_z).square().sum().backward()
    fc0 = target.generator.mapping.fc0.weight
    assert (fc0[:, 6:] == 0).all()
    assert fc0.grad[:, 6:].abs().amax(0).gt(0).all()


def test_an_unconditional_model_keeps_what_needs_no_label():
    source, target = trained(c_dim=3), gan()
    counts, _ = transfer(source, target)
    assert counts['generator.mapping'] == (4, 1, 0, 2)
    *_, t, motion_z, videos = fake_inputs()
    theirs = weights_of(source)
    fc0 = theirs['mapping.fc0.weight'][:, :6] * (6 / 13) ** 0.5
    torch.testing.assert_close(target.generator.mapping.fc0.weight, fc0)
    with torch.no_grad():
        close(
            target.discriminator(videos, None, t),
            source.discriminator(videos, torch.zeros(4, 3), t),
        )
        close(
            target.generator.motion_encoder(None, t, motion_z),
            source.generator.motion_encoder(torch.zeros(4, 3), t, motion_z),
        )


@pytest.mark.parametrize(('before', 'after'), [(3, 5), (5, 3)])
@pytest.mark.parametrize('num_frames', [1, 3])
@pytest.mark.parametrize('motion', [{}, LSTM])
def test_shared_classes_stay(before, after, num_frames, motion):
    frames = dict(num_frames=num_frames)
    source = trained(c_dim=before, generator=motion, discriminator=frames)
    target = gan(c_dim=after, generator=motion, discriminator=frames)
    start = weights_of(target)['mapping.embed.weight']
    transfer(source, target)
    z, _, t, motion_z, videos = fake_inputs(num_frames=num_frames)
    old, new = (torch.eye(n)[torch.arange(4) % 3] for n in (before, after))
    with torch.no_grad():
        close(
            target.generator(z, new, t, motion_z),
            source.generator(z, old, t, motion_z),
        )
        close(
            target.discriminator(videos, new, t),
            source.discriminator(videos, old, t),
        )
    embed = target.generator.mapping.embed.weight
    assert torch.equal(embed[:, 3:], start[:, 3:])


def test_more_frames_are_ignored_at_first():
    source = trained(discriminator=dict(num_frames=2))
    target = gan(discriminator=dict(num_frames=3))
    counts, reshaped = transfer(source, target)
    layers = ('b8.conv0', 'b8.skip', 'mapping.embed')
    assert reshaped == [f'discriminator.{name}.weight' for name in layers]
    assert counts['total'][2:] == (0, 0)
    *_, t, _, videos = fake_inputs()
    with torch.no_grad():
        close(
            target.discriminator(videos, None, t),
            source.discriminator(videos[:, :2], None, t[:, :2]),
        )


def test_fewer_frames_are_the_first():
    source = trained(c_dim=2, discriminator=dict(num_frames=3))
    target = gan(c_dim=2, discriminator=dict(num_frames=2))
    transfer(source, target)
    theirs, ours = (weights_of(x, 'discriminator') for x in (source, target))
    # Half of the 8 channels for each frame, and 268 numbers for each gap.
    for name, kept, of in (
        ('b8.conv0.weight', 8, 12),
        ('b8.skip.weight', 8, 12),
        ('mapping.embed.weight', 2 + 268, 2 + 2 * 268),
    ):
        expected = theirs[name][:, :kept] * (kept / of) ** 0.5
        torch.testing.assert_close(ours[name], expected)


def test_labels_and_frames_at_once():
    """The label comes first in what the discriminator embeds."""
    source = trained(discriminator=dict(num_frames=2))
    target = gan(c_dim=3, discriminator=dict(num_frames=3))
    transfer(source, target)
    *_, t, _, videos = fake_inputs()
    with torch.no_grad():
        close(
            target.discriminator(videos, torch.zeros(4, 3), t),
            source.discriminator(videos[:, :2], None, t[:, :2]),
        )


@pytest.mark.parametrize('longest', [100, 20])
def test_gaps_of_longer_and_shorter_videos(longest):
    source, target = trained(), gan(discriminator={'max_num_frames': longest})
    name = 'time_encoder.const_embed.weight'
    start = weights_of(target, 'discriminator')[name]
    _, reshaped = transfer(source, target)
    assert f'discriminator.{name}' in reshaped
    theirs, ours = (weights_of(x, 'discriminator') for x in (source, target))
    rows = min(longest, 64)
    assert torch.equal(ours[name][:rows], theirs[name][:rows])
    assert torch.equal(ours[name][rows:], start[rows:])
    *_, t, _, videos = fake_inputs()
    if longest == 20:
        # 5 waves instead of 6: the lowest is gone.
        embed = source.discriminator.mapping.embed.weight
        with torch.no_grad():
            for gap in range(2):
                for waves in (0, 6):
                    embed[:, 268 * gap + 256 + waves] = 0
    with torch.no_grad():
        close(
            target.discriminator(videos, None, t),
            source.discriminator(videos, None, t),
        )


def test_another_resolution_shares_the_blocks_below():
    source, target = trained(), gan(resolution=32)
    counts, reshaped = transfer(source, target)
    assert reshaped == []
    assert counts['generator.synthesis.b32'] == (0, 0, 12, 0)
    assert counts['generator.synthesis.b16'] == (12, 0, 0, 0)
    assert counts['discriminator.b32'] == (0, 0, 7, 0)
    # What took the frames in has no place.
    assert counts['discriminator.b16'] == (5, 0, 0, 2)
    for layer in ('conv0', 'conv1', 'skip'):
        ours, theirs = (
            x.discriminator.b16.get_submodule(layer).weight
            for x in (target, source)
        )
        assert torch.equal(ours, theirs)

    back = gan()
    counts, _ = transfer(target, back)
    assert counts['generator.synthesis.b32'] == (0, 0, 0, 12)
    assert counts['discriminator.b16'] == (5, 0, 2, 0)


IMAGES = dict(
    generator=dict(motion_v_dim=0),
    discriminator=dict(num_frames=1, num_frames_div_factor=1),
)


@pytest.mark.parametrize('coord_dim', [0, 3])
def test_a_model_of_videos_starts_as_one_of_images(coord_dim):
    images = {**IMAGES, 'generator': dict(motion_v_dim=0, use_noise=True)}
    source = trained(**images)
    for network in (source.generator, source.generator_ema):
        network.synthesis.b8.conv1.noise_strength.data.fill_(0.5)
    target = gan(generator=dict(use_noise=True, coord_dim=coord_dim))
    start = weights_of(target)
    counts, reshaped = transfer(source, target)
    assert reshaped == [
        f'{network}.synthesis.b4.conv1.{name}'
        for network in ('generator', 'generator_ema')
        for name in ('weight', 'affine.weight', 'affine.bias')
    ]
    more = (0, 0, 4, 0) if coord_dim else (0, 0, 0, 0)
    b4 = tuple(a + b for a, b in zip((8, 3, 0, 0), more))
    assert counts['generator.synthesis.b4'] == b4
    z, _, t, motion_z, _ = fake_inputs()
    with torch.no_grad():
        for name in ('generator', 'generator_ema'):
            ours, theirs = (getattr(x, name) for x in (target, source))
            pictures = theirs(z, None, t)
            close(ours(z, None, t, motion_z), pictures)
            assert pictures.std() > 0.1
    # What is new has no effect, but learns.
    ours = weights_of(target)
    layer = 'synthesis.b4.conv1'
    assert not ours[f'{layer}.weight'][:, 8:].any()
    for name in ('affine.weight', 'affine.bias'):
        assert torch.equal(
            ours[f'{layer}.{name}'][8:], start[f'{layer}.{name}'][8:]
        )
    target.generator(z, None, t, motion_z).square().sum().backward()
    grad = target.generator.synthesis.b4.conv1.weight.grad
    assert grad[:, 8:].abs().amax((0, 2, 3)).gt(0).all()


def test_a_model_of_images_keeps_what_needs_no_motion():
    source, target = trained(), gan(**IMAGES)
    transfer(source, target)
    theirs, ours = weights_of(source), weights_of(target)
    const = theirs['synthesis.b4.input.input.const'][0]
    assert torch.equal(ours['synthesis.b4.input.input'], const)
    name = 'synthesis.b4.conv1'
    for axis, layer in enumerate(('affine.weight', 'weight')):
        expected = theirs[f'{name}.{layer}'].narrow(axis, 0, 8)
        assert torch.equal(ours[f'{name}.{layer}'], expected)


def test_other_channels_are_left_out():
    counts, reshaped = transfer(trained(), gan(channel_base=64))
    assert reshaped == []
    # 4 channels at 16x16 instead of 8: only the input of conv0's style and
    # the bias of the colours agree.
    assert counts['generator.synthesis.b16'] == (3, 0, 9, 9)
    assert counts['generator.synthesis.b8'] == (12, 0, 0, 0)


def test_equal_shapes_of_another_meaning_are_left_out():
    # Twice half the channels, of two frames, or all channels of one.
    sizes = dict(resolution=32, channel_base=512)
    two = dict(num_frames=2, concat_res=16)
    source = trained(discriminator=two, **sizes)
    target = gan(discriminator=dict(two, concat_res=8), **sizes)
    ours, theirs = (x.discriminator.b16.conv0 for x in (target, source))
    assert ours.weight.shape == theirs.weight.shape
    counts, reshaped = transfer(source, target)
    assert reshaped == []
    # conv1 gives half as much; of conv0 just the bias agrees.
    assert counts['discriminator.b16'] == (1, 0, 4, 4)


@pytest.mark.parametrize(
    ('options', 'name'),
    [
        (dict(z_dim=9), 'mapping.fc0.weight'),
        (dict(w_dim=9), 'mapping.fc0.weight'),
        (dict(motion_z_dim=6), 'synthesis.motion_encoder.conv.0.weight'),
        (dict(motion_kernel_size=5), 'synthesis.motion_encoder.conv.0.weight'),
    ],
)
@pytest.mark.parametrize('c_dim', [2, 3])
def test_other_widths_are_not_reshaped(options, name, c_dim):
    source = trained(c_dim=2, generator=options)
    target = gan(c_dim=c_dim)
    start = weights_of(target)[name]
    _, reshaped = transfer(source, target)
    assert f'generator.{name}' not in reshaped
    assert torch.equal(weights_of(target)[name], start)


@pytest.mark.parametrize(
    'checkpoint',
    [
        {},
        {'state_dict': 3},
        {'state_dict': {'backbone.weight': torch.ones(3)}},
        {'state_dict': {'generator.scale': 3}},
    ],
)
def test_only_from_a_model_of_ours(checkpoint):
    with pytest.raises(InputError, match=r'x\.pth is not .* this library'):
        transfer_weights(gan(), checkpoint, 'x.pth')


def test_something_has_to_fit():
    weights = {'generator.mapping.fc0.weight': torch.ones(3, 3)}
    with pytest.raises(InputError, match=r'nothing in x\.pth fits'):
        transfer_weights(gan(), {'state_dict': weights}, 'x.pth')


def test_frozen_layers_should_come_from_somewhere(warnings_logged):
    frozen = dict(freeze_layers=4)
    transfer(trained(), gan(discriminator=frozen))
    assert warnings_logged == []
    transfer(trained(), gan(resolution=32, discriminator=frozen))
    assert len(warnings_logged) == 1
    # A weight and a bias each, but for the skip.
    assert 'freezes 7 tensors' in warnings_logged[0]
    assert 'discriminator.b32.fromrgb' in warnings_logged[0]
