"""What a model hands to both of its networks."""

import pytest
import torch
from torch import nn

from stylegan_v_mm.models import StyleGANVGenerator
from stylegan_v_mm.models.shared import network_config
from stylegan_v_mm.registry import MODELS

SMALL = dict(channel_max=8)
GENERATOR = dict(
    SMALL, z_dim=8, w_dim=8, motion_z_dim=8, motion_v_dim=8, time_enc_dim=4
)


def build(generator=GENERATOR, discriminator=SMALL, **shared):
    return MODELS.build(
        dict(
            type='StyleGANV',
            generator=dict(type='StyleGANVGenerator', **generator),
            discriminator=dict(type='StyleGANVDiscriminator', **discriminator),
            r1_gamma=1,
            **shared,
        )
    )


def test_shared_values_are_those_in_the_networks_own_dicts():
    torch.manual_seed(0)
    shared = build(
        resolution=32,
        num_classes=3,
        num_frames=2,
        max_num_frames=64,
        motion_period=8,
        num_fp16_res=1,
    )
    torch.manual_seed(0)
    both = dict(resolution=32, c_dim=3, num_fp16_res=1)
    motion = dict(motion_z_distance=8, min_period_len=8, max_period_len=64)
    own = build(
        GENERATOR | both | motion,
        SMALL | both | dict(num_frames=2, max_num_frames=64),
    )
    state = own.state_dict()
    assert shared.state_dict().keys() == state.keys()
    for name, value in shared.state_dict().items():
        assert torch.equal(value, state[name]), name
    t = torch.tensor([[0.0, 3, 17]])
    c, z = torch.eye(3)[:1], torch.ones(1, 8)
    noise = torch.randn(1, 40, 8)
    frames = [gan.generator(z, c, t, noise) for gan in (shared, own)]
    assert torch.equal(*frames)


def test_what_a_network_says_of_itself_counts():
    model = dict(
        generator=dict(type='StyleGANVGenerator', max_period_len=7),
        max_num_frames=64,
        resolution=32,
        num_frames=3,
        num_classes=None,
    )
    assert network_config(model, 'generator') == dict(
        type='StyleGANVGenerator', max_period_len=7, resolution=32
    )
    assert 'resolution' not in model['generator']


def test_a_network_gets_only_what_it_takes():
    class Own(nn.Module):
        def __init__(self, resolution, width=3):
            super().__init__()

    model = dict(
        discriminator=dict(type=Own, width=4), resolution=32, num_classes=2
    )
    found = network_config(model, 'discriminator')
    assert found == dict(type=Own, width=4, resolution=32)


def test_what_a_network_hands_on_to_its_parent_counts():
    class Own(StyleGANVGenerator):
        def __init__(self, width=3, **kwargs):
            super().__init__(**kwargs)

    model = dict(generator=dict(type=Own), resolution=32, num_classes=2)
    found = network_config(model, 'generator')
    assert found == dict(type=Own, resolution=32, c_dim=2)


@pytest.mark.parametrize(
    ('resolution', 'channel_base', 'concat_res'),
    [(16, 16384, 8), (32, 16384, 16), (256, 16384, 16), (512, 32768, 16)],
)
def test_what_follows_from_the_resolution(
    resolution, channel_base, concat_res
):
    """The published widths, and frames joined at 16 px if there is room."""
    with torch.device('meta'):
        gan = build(GENERATOR, {}, resolution=resolution)
    discriminator = gan.discriminator
    assert discriminator.concat_res == concat_res
    first = getattr(discriminator, f'b{resolution}')
    assert first.fromrgb.weight.shape[0] == min(
        channel_base // resolution, 512
    )
