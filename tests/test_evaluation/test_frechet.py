"""Frechet distance against scipy and closed forms; sums over processes."""

import numpy as np
import pytest
import scipy.linalg
import torch
from real_process import run_program_twice

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation import FeatureStats, frechet_distance
from stylegan_v_mm.evaluation.frechet import (
    FeatureRows,
    GroupedStats,
    frechet_distances,
)


def stats_of(features, batch=7):
    features = torch.as_tensor(features)
    stats = FeatureStats(features.shape[1])
    for part in features.split(batch):
        stats.append(part)
    return stats


def correlated(num, width, seed, rank=None):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(rank or width, width))
    return rng.normal(size=(num, rank or width)) @ mix + rng.normal(size=width)


def with_moments(mean, std):
    """2^F samples whose biased mean and covariance are exactly these."""
    grids = np.meshgrid(*[(-1.0, 1.0)] * len(mean), indexing='ij')
    return np.stack([g.ravel() for g in grids], 1) * std + mean


def test_mean_and_biased_covariance_equal_numpys():
    features = correlated(50, 6, 0)
    stats = stats_of(features)
    assert stats.num == 50
    np.testing.assert_allclose(stats.mean, features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(
        stats.cov, np.cov(features.T, bias=True), rtol=1e-10
    )


def test_float32_features_are_summed_in_float64():
    features = torch.full((3000, 1), 16777217 / 2**24, dtype=torch.float32)
    features[0] = 1e6
    expected = features.double().mean()
    assert stats_of(features, 1).mean.item() == pytest.approx(
        expected.item(), rel=1e-14
    )


@pytest.mark.parametrize('seed', range(3))
def test_distance_equals_scipys(seed):
    x, y = correlated(80, 12, seed), correlated(60, 12, seed + 10)
    cov_x, cov_y = np.cov(x.T, bias=True), np.cov(y.T, bias=True)
    root = scipy.linalg.sqrtm(cov_x @ cov_y)
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(
        cov_x + cov_y - 2 * root.real
    )
    distance = frechet_distance(stats_of(x), stats_of(y))
    assert distance == pytest.approx(expected, rel=1e-9)
    reverse = frechet_distance(stats_of(y), stats_of(x))
    assert reverse == pytest.approx(distance, rel=1e-9)


def test_many_distances_decompose_the_one_side_once(monkeypatch):
    many = [correlated(80, 12, seed) for seed in range(3)]
    y = correlated(60, 12, 9)
    cov_y = np.cov(y.T, bias=True)
    expected = []
    for x in many:
        cov_x = np.cov(x.T, bias=True)
        root = scipy.linalg.sqrtm(cov_x @ cov_y)
        expected.append(
            np.sum((x.mean(0) - y.mean(0)) ** 2)
            + np.trace(cov_x + cov_y - 2 * root.real)
        )
    decomposed, eigh = [], torch.linalg.eigh
    monkeypatch.setattr(
        torch.linalg, 'eigh', lambda x: decomposed.append(x) or eigh(x)
    )
    found = frechet_distances(list(map(stats_of, many)), stats_of(y))
    assert found == pytest.approx(expected, rel=1e-9)
    assert len(decomposed) == 4


def test_diagonal_gaussians_have_a_closed_form():
    # |m - n|^2 + sum (s - t)^2 = (9 + 1 + 4) + (1 + 4 + 0)
    x = with_moments(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 0.5]))
    y = with_moments(np.array([4.0, 1.0, 1.0]), np.array([1.0, 5.0, 0.5]))
    distance = frechet_distance(stats_of(x), stats_of(y))
    assert distance == pytest.approx(19, rel=1e-12)


def known(mean, cov, num=1000):
    """Statistics with a mean and a covariance, without samples."""
    stats = FeatureStats(len(mean))
    mean, cov = map(torch.as_tensor, (mean, cov))
    stats.num, stats.sum = num, num * mean
    stats.outer = num * (cov + mean.outer(mean))
    return stats


def spread(width, seed):
    """A rotation, and variances from 1e-3 to 1e3."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(width, width)))[0]
    return rotation, 10 ** rng.uniform(-3, 3, width), rng.normal(size=width)


@pytest.mark.parametrize('width', [3, 50, 400])
def test_rotated_gaussians_of_one_basis_have_a_closed_form(width):
    """Covariances that commute: |m - n|^2 + sum (s - t)^2."""
    rotation, variances_a, mean_a = spread(width, 0)
    _, variances_b, mean_b = spread(width, 1)
    a, b = (
        known(mean, rotation @ np.diag(variances) @ rotation.T)
        for mean, variances in ((mean_a, variances_a), (mean_b, variances_b))
    )
    roots = np.sqrt(variances_a) - np.sqrt(variances_b)
    expected = np.sum((mean_a - mean_b) ** 2) + np.sum(roots**2)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_any_two_planes_have_a_closed_form():
    """2 x 2: tr sqrt(A B) = sqrt(tr(A B) + 2 sqrt(det A det B))."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(2, 2, 2))
        mean_a, mean_b = rng.normal(size=(2, 2))
        cov_a, cov_b = x @ x.T, y @ y.T
        root = np.trace(cov_a @ cov_b) + 2 * np.sqrt(
            np.linalg.det(cov_a) * np.linalg.det(cov_b)
        )
        expected = np.sum((mean_a - mean_b) ** 2) + np.trace(cov_a + cov_b)
        expected -= 2 * np.sqrt(root)
        distance = frechet_distance(known(mean_a, cov_a), known(mean_b, cov_b))
        assert distance == pytest.approx(expected, rel=1e-6)


def test_400_features_equal_scipys():
    """As many as I3D has; more clips than features."""
    x, y = correlated(900, 400, 20), correlated(800, 400, 21)
    cov_x, cov_y = np.cov(x.T, bias=True), np.cov(y.T, bias=True)
    root = scipy.linalg.sqrtm(cov_x @ cov_y)
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(
        cov_x + cov_y - 2 * root.real
    )
    a, b = stats_of(x, 100), stats_of(y, 100)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, a) < 1e-6


@pytest.mark.parametrize(
    ('num', 'num_real', 'width'), [(2, 3, 400), (30, 390, 400), (20, 63, 64)]
)
def test_fewer_clips_than_features_are_neither_nan_nor_order(
    num, num_real, width
):
    x, y = correlated(num, width, 22) + 50, correlated(num_real, width, 23)
    a, b = stats_of(x), stats_of(y)
    distance = frechet_distance(a, b)
    assert 0 < distance < np.inf
    assert frechet_distance(a, a) < 1e-6
    for seed, batch in enumerate((1, 3, 8)):
        mixed = np.random.default_rng(seed).permutation(x)
        again = frechet_distance(stats_of(mixed, batch), b)
        assert again == pytest.approx(distance, rel=1e-9)


def test_the_golden_distance():
    """What it was when this was written."""
    x, y = (
        np.random.RandomState(seed).normal(size=(40, 8)) * np.arange(1, 9)
        for seed in (0, 1)
    )
    distance = frechet_distance(stats_of(x), stats_of(y + 0.5))
    assert distance == pytest.approx(GOLDEN, rel=1e-9)


GOLDEN = 26.5312844405962


def test_one_feature_shows_the_biased_variance():
    # {0, 2}: mean 1, variance 1 (n - 1 would give 2); {4, 4}: variance 0.
    x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [4.0]])
    distance = frechet_distance(stats_of(x), stats_of(y))
    assert distance == pytest.approx(10, rel=1e-12)


@pytest.mark.parametrize('rank', [None, 3])
def test_equal_statistics_have_distance_zero(rank):
    x = correlated(40, 30, 1, rank) * 100
    stats = stats_of(x)
    # Another order rounds otherwise.
    shuffled = stats_of(np.random.default_rng(0).permutation(x), 11)
    scale = stats.cov.trace().item()
    assert frechet_distance(stats, stats) < 1e-9 * scale
    assert frechet_distance(stats, shuffled) < 1e-6 * scale


def test_singular_covariances_give_the_distance_of_what_they_span():
    # Five samples in 60 dimensions: the distance in the span of both, where
    # no covariance is needed that is larger than the samples.
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(5, 60)), rng.normal(size=(6, 60)) + 1
    basis = np.linalg.qr(np.concatenate([x, y]).T)[0]
    # tr sqrt(Cx Cy) is the nuclear norm of Xc Yc^T / sqrt(n m): with
    # C = Xc^T Xc / n it is the sum of singular values of sqrt(Cx) sqrt(Cy).
    xc, yc = (x - x.mean(0)) / 5**0.5, (y - y.mean(0)) / 6**0.5
    expected = (
        np.sum((x.mean(0) - y.mean(0)) ** 2)
        + np.sum(xc**2)
        + np.sum(yc**2)
        - 2 * np.linalg.norm(xc @ yc.T, 'nuc')
    )
    distance = frechet_distance(stats_of(x), stats_of(y))
    assert distance == pytest.approx(expected, rel=1e-6)
    in_span = frechet_distance(stats_of(x @ basis), stats_of(y @ basis))
    assert in_span == pytest.approx(expected, rel=1e-6)


def test_disjoint_supports_add_their_variances():
    x, y = np.zeros((4, 20)), np.zeros((4, 20))
    x[:, 3] = [1, -1, 1, -1]
    y[:, 11] = [3, -3, 3, -3]
    distance = frechet_distance(stats_of(x), stats_of(y))
    assert distance == pytest.approx(1 + 9, rel=1e-9)


def test_a_common_shift_changes_nothing_and_a_scale_counts_squared():
    x, y = correlated(50, 8, 4), correlated(50, 8, 5)
    distance = frechet_distance(stats_of(x), stats_of(y))
    shifted = frechet_distance(stats_of(x + 300), stats_of(y + 300))
    assert shifted == pytest.approx(distance, rel=1e-6)
    scaled = frechet_distance(stats_of(x * 7), stats_of(y * 7))
    assert scaled == pytest.approx(49 * distance, rel=1e-9)


def test_moving_one_side_adds_the_squared_way():
    x = correlated(50, 8, 6)
    way = np.arange(8) / 10
    distance = frechet_distance(stats_of(x), stats_of(x + way))
    assert distance == pytest.approx(np.sum(way**2), rel=1e-6)


def test_two_processes_have_the_sums_of_both(tmp_path):
    """Also where one of them got nothing."""
    program = """
        import torch
        import torch.distributed as dist
        from stylegan_v_mm.evaluation.frechet import FeatureStats
        dist.init_process_group('gloo')
        rank = dist.get_rank()
        features = torch.load('features.pt')
        for name, mine in [('both', features[rank::2]),
                           ('first', features[:0 if rank else None])]:
            stats = FeatureStats(5)
            for batch in mine.split(3):
                stats.append(batch)
            stats.all_reduce()
            stats.save(f'{name}{rank}.npz')
        # Left to the interpreter's end, gloo's threads now and then abort.
        dist.destroy_process_group()
    """
    features = torch.from_numpy(correlated(21, 5, 7))
    torch.save(features, tmp_path / 'features.pt')
    run_program_twice(program, tmp_path)
    for name in ('both0', 'both1', 'first0', 'first1'):
        stats = FeatureStats.load(tmp_path / f'{name}.npz')
        assert stats.num == 21
        np.testing.assert_allclose(stats.mean, features.mean(0), rtol=1e-12)
        np.testing.assert_allclose(
            stats.cov, np.cov(features.T, bias=True), rtol=1e-10
        )


def test_without_processes_all_reduce_changes_nothing():
    stats, same = stats_of(correlated(9, 4, 8)), stats_of(correlated(9, 4, 8))
    stats.all_reduce()
    assert stats.num == 9
    assert torch.equal(stats.mean, same.mean)
    assert torch.equal(stats.cov, same.cov)


def test_what_is_saved_is_read_back_and_can_go_on(tmp_path):
    features = correlated(20, 4, 9)
    stats = stats_of(features[:12])
    stats.save(tmp_path / 'new' / 'stats.npz')
    assert [p.name for p in (tmp_path / 'new').iterdir()] == ['stats.npz']
    read = FeatureStats.load(tmp_path / 'new' / 'stats.npz')
    read.append(torch.from_numpy(features[12:]))
    whole = stats_of(features)
    torch.testing.assert_close(read.mean, whole.mean, rtol=1e-13, atol=0)
    torch.testing.assert_close(read.cov, whole.cov, rtol=1e-10, atol=1e-13)


def test_a_damaged_file_is_an_input_error(tmp_path):
    path = tmp_path / 'stats.npz'
    stats_of(correlated(20, 30, 9)).save(path)
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 255
    for damaged in (b'', b'text', content[: len(content) // 2], flipped):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r'stats\.npz'):
            FeatureStats.load(path)
    with pytest.raises(InputError, match='nothing'):
        FeatureStats.load(tmp_path / 'nothing.npz')


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_features_must_be_finite(bad):
    features = torch.zeros(3, 4)
    features[1, 2] = bad
    stats = FeatureStats(4)
    with pytest.raises(InputError, match='not finite'):
        stats.append(features)
    assert stats.num == 0


def test_features_must_have_the_width():
    with pytest.raises(InputError, match=r'\[N, 4\], got \[3, 5\]'):
        FeatureStats(4).append(torch.zeros(3, 5))
    with pytest.raises(InputError, match='width 4 and 5'):
        frechet_distance(
            stats_of(torch.ones(3, 4)), stats_of(torch.ones(3, 5))
        )


def test_a_distance_needs_two_samples_a_side():
    many, one = stats_of(torch.ones(3, 4)), stats_of(torch.ones(1, 4))
    for pair in ((many, one), (one, many), (many, FeatureStats(4))):
        with pytest.raises(InputError, match='at least 2'):
            frechet_distance(*pair)


# Features that are kept, and groups.


def test_rows_come_in_the_order_of_their_keys_once():
    features = torch.arange(12.0).reshape(6, 2)
    rows = FeatureRows()
    for key in (32, 7, 11, 7):
        start = {7: 0, 11: 1, 32: 4}[key]
        end = {7: 1, 11: 4, 32: 6}[key]
        rows.append(features[start:end], key)
    assert rows.num == 6
    assert torch.equal(rows.features, features)
    assert rows.groups.tolist() == [7, 1, 1, 1, 2, 2]
    expected = stats_of(features)
    torch.testing.assert_close(rows.stats.cov, expected.cov)
    with pytest.raises(InputError, match='not finite'):
        rows.append(torch.tensor([[np.nan]]), 1)


def test_rows_are_saved_and_read(tmp_path):
    rows = FeatureRows()
    features = torch.from_numpy(correlated(9, 3, 0)).float()
    rows.append(features, 5)
    rows.save(tmp_path / 'rows.npz')
    assert torch.equal(
        FeatureRows.load(tmp_path / 'rows.npz').features, features
    )
    stats_of(features).save(tmp_path / 'sums.npz')
    for damaged in ('sums.npz', 'none.npz'):
        with pytest.raises(InputError, match=damaged):
            FeatureRows.load(tmp_path / damaged)


def test_groups_make_the_whole_and_can_be_left_out():
    features = torch.from_numpy(correlated(37, 4, 0))
    grouped = GroupedStats(4)
    for key, row in enumerate(features):
        grouped.append(row[None], key)
    whole = grouped.total
    assert grouped.num == whole.num == 37
    torch.testing.assert_close(whole.cov, stats_of(features).cov)
    for digit, group in enumerate(grouped.groups):
        kept = stats_of(features[torch.arange(37) % 10 != digit])
        without = whole - group
        assert without.num == kept.num
        torch.testing.assert_close(without.mean, kept.mean)
        torch.testing.assert_close(without.cov, kept.cov)
