"""The endless table of normal numbers."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from stylegan_v_mm.models.noise import CONTENT, MOTION, own_rows, seeded_noise


def test_any_part_equals_the_whole():
    whole = seeded_noise(7, MOTION, 0, 50, 6)
    assert whole.shape == (50, 6)
    assert whole.dtype == torch.float32
    for first, count in ((0, 50), (0, 1), (13, 20), (49, 1)):
        part = seeded_noise(7, MOTION, first, count, 6)
        assert torch.equal(part, whole[first : first + count])


def test_rows_far_away_cost_nothing():
    far = seeded_noise(7, MOTION, 2**40, 2, 6)
    assert torch.equal(far[1:], seeded_noise(7, MOTION, 2**40 + 1, 1, 6))
    assert not torch.equal(far[0], far[1])


def test_no_two_rows_share_a_number():
    rows = [
        seeded_noise(seed, stream, 0, 30, 40)
        for seed in (0, 1, 2, 2**32, 2**63)
        for stream in (CONTENT, MOTION)
    ]
    values = torch.cat(rows).flatten()
    # 12000 float32 draws coincide now and then; shared rows would halve it.
    assert len(values.unique()) > 0.99 * len(values)


def test_rows_are_normal_and_independent():
    values = seeded_noise(3, CONTENT, 0, 400, 50).double().numpy()
    assert abs(values.mean()) < 4 / 20000**0.5
    assert values.var() == pytest.approx(1, abs=0.05)
    assert stats.kurtosis(values.ravel()) == pytest.approx(0, abs=0.15)
    assert stats.kstest(values.ravel(), 'norm').pvalue > 1e-3
    streams = [
        seeded_noise(3, MOTION, 0, 400, 50).numpy(),
        seeded_noise(4, CONTENT, 0, 400, 50).numpy(),
        np.roll(values, 1, axis=0),
        np.roll(values, 1, axis=1),
    ]
    for one, other in itertools.combinations([values, *streams], 2):
        correlation = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert abs(correlation) < 4 / 20000**0.5


def test_a_seed_means_the_same_numbers_in_all_versions():
    """Videos of a seed that users have noted down must stay the same."""
    content = seeded_noise(0, CONTENT, 0, 1, 3)
    expected = [[0.059911035, 0.015559634, -1.1644385]]
    torch.testing.assert_close(content, torch.tensor(expected))
    motion = seeded_noise(1, MOTION, 2, 2, 3)
    expected = [
        [-1.2452164, 1.7753202, -1.3635709],
        [-0.0619672, 0.8355611, 0.6862753],
    ]
    torch.testing.assert_close(motion, torch.tensor(expected))


@pytest.mark.parametrize('world_size', [1, 2, 4])
def test_processes_share_one_table(world_size, monkeypatch):
    torch.manual_seed(5)
    whole = torch.randn(8, 3, 2)
    after = torch.get_rng_state()
    for rank in range(world_size):
        monkeypatch.setattr(
            'stylegan_v_mm.models.noise.get_dist_info',
            lambda rank=rank: (rank, world_size),
        )
        torch.manual_seed(5)
        own = own_rows(torch.randn, (8 // world_size, 3, 2), 'cpu')
        assert torch.equal(own, whole[rank::world_size])
        # What is drawn next is equal in all processes, too.
        assert torch.equal(torch.get_rng_state(), after)
