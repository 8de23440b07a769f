"""The noise of fake clips, and the clips that it becomes."""

import copy

import pytest
import torch
from small_model import small_sampler

from stylegan_v_mm.models.batch import Batch
from stylegan_v_mm.models.fakes import make_batch, make_fakes

N, T = 4, 3


def make(**options):
    return small_sampler(**options).generator.train()


def clips(num_clips=N, gen_c=None):
    """What a data set gives; fakes are made of ``gen_t`` and ``gen_c``."""
    t = torch.rand(num_clips, 2, 1) * 20 + torch.tensor([0.0, 5, 7])
    if gen_c is None:
        gen_c = torch.empty(num_clips, 2, 0)
    real = dict(video=torch.empty(0), t=torch.empty(0), c=torch.empty(0))
    return dict(real, gen_t=t.double(), gen_c=gen_c)


def test_fresh_noise_for_every_fake_batch():
    generator, data = make(), clips()
    drawn = [make_batch(generator, data) for _ in range(2)]
    videos = [
        make_fakes(generator, drawn[i], k).videos
        for i, k in ((0, 0), (0, 1), (1, 0))
    ]
    assert videos[0].shape == (N, T, 3, 16, 16)
    assert not torch.allclose(videos[0], videos[1])
    assert not torch.allclose(videos[0], videos[2])
    # What is given is not drawn.
    assert make_batch(generator, drawn[0]._asdict()) == drawn[0]


def test_every_fake_clip_gets_a_seed_for_its_noise(monkeypatch):
    generator = make(use_noise=True)

    def seeds(num_clips):
        data = clips(num_clips) | dict(gen_t=torch.zeros(num_clips, 2, T))
        torch.manual_seed(3)  # as at the start of an iteration
        return make_batch(generator, data).noise_seeds

    whole = seeds(4)
    assert whole.dtype == torch.int64
    assert whole.shape == (4, 2)
    assert len(whole.unique()) == 8
    # Two processes draw the same table, and deal it out.
    for rank in range(2):
        monkeypatch.setattr(
            'stylegan_v_mm.models.noise.get_dist_info',
            lambda rank=rank: (rank, 2),
        )
        assert torch.equal(seeds(2), whole[rank::2])
    assert make_batch(make(), clips()).noise_seeds is None


def test_styles_of_two_contents():
    generator = make(c_dim=3)
    num_ws = generator.num_ws
    gen_c = torch.eye(3)[torch.randint(3, (N, 2))]
    batch = make_batch(generator, clips(gen_c=gen_c))._replace(
        mixing_z=torch.randn(N, 2, 6),
        crossover=torch.tensor([[1, num_ws]] * 2 + [[3, 2]] * 2),
    )
    twin = copy.deepcopy(generator)
    for which in range(2):
        fakes = make_fakes(generator, batch, which)
        for i, layer in enumerate(batch.crossover[:, which]):
            first, second = (
                twin.eval().map(z[i : i + 1, which], gen_c[i : i + 1, which])
                for z in (batch.gen_z, batch.mixing_z)
            )
            expected = torch.cat([first[:, :layer], second[:, layer:]], 1)
            torch.testing.assert_close(fakes.ws[i : i + 1], expected)
        motion_v = twin.motion_encoder(
            fakes.c,
            fakes.t,
            batch.motion_z[:, which],
            batch.first_code[:, which],
        )
        videos = twin.render(fakes.ws, motion_v, T)
        torch.testing.assert_close(fakes.videos, videos)
    # The running mean follows the first contents alone.
    w = [twin.mapping(batch.gen_z[:, i], gen_c[:, i]) for i in (0, 1)]
    mean = 0.995 * 0.005 * w[0].mean(0) + 0.005 * w[1].mean(0)
    torch.testing.assert_close(generator.mapping.w_avg, mean.detach())


def test_where_styles_change_is_uniform():
    generator = make()
    batch = make_batch(generator, clips(20000), style_mixing_prob=0.75)
    assert batch.mixing_z.shape == (20000, 2, 6)
    num_ws = generator.num_ws
    counts = batch.crossover.flatten().bincount(minlength=num_ws + 1)
    share = counts.double() / 40000
    assert share[0] == 0
    expected = torch.full([num_ws - 1], 0.75 / (num_ws - 1)).double()
    # Five standard deviations of a share of 40000.
    torch.testing.assert_close(share[1:-1], expected, atol=0.009, rtol=0)
    assert float(share[-1]) == pytest.approx(0.25, abs=0.011)
    assert make_batch(generator, clips()).mixing_z is None


def test_a_first_code_is_0_unless_given():
    generator = make()
    batch = make_batch(generator, clips())
    table = torch.randn(N, 2, 20, 5)
    whole = batch._replace(motion_z=table, first_code=None)
    first = torch.full((N, 2), 2)
    # Times of codes 2 on: the codes before them do not count.
    later = whole._replace(gen_t=whole.gen_t + 16)
    part = later._replace(motion_z=table[:, :, 2:], first_code=first)
    generator.eval()
    torch.testing.assert_close(
        make_fakes(generator, part, 1).videos,
        make_fakes(generator, later, 1).videos,
    )
    assert isinstance(part, Batch)
