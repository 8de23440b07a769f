"""Measures of features against brute force, closed forms and scipy."""

import itertools
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation.measures import (
    density_coverage,
    inception_score,
    jackknife_error,
    kernel_distance,
    precision_recall,
)


def normal(num, width, seed, shift=0.0):
    rng = np.random.RandomState(seed)
    return torch.from_numpy(rng.normal(size=(num, width)) + shift)


def groups_of(num):
    return torch.arange(num) % 10


# Standard errors.


def test_the_jackknife_of_a_mean_is_its_standard_error():
    x = np.random.RandomState(0).normal(size=10)
    without = [(x.sum() - value) / 9 for value in x]
    assert jackknife_error(without) == pytest.approx(scipy.stats.sem(x))


def test_the_jackknife_knows_how_a_variance_varies():
    """Of 400 normal numbers, with groups of 40: sqrt(2 / 400), closed form."""
    errors = []
    for seed in range(200):
        x = np.random.RandomState(seed).normal(size=(10, 40))
        without = [np.delete(x, i, 0).var() for i in range(10)]
        errors.append(jackknife_error(without) ** 2)
    assert np.mean(errors) ** 0.5 == pytest.approx((2 / 400) ** 0.5, rel=0.1)


# Kernel distance.


def brute_force_mmd(x, y):
    """Gretton et al. 2012, eq. 3, term by term."""

    def k(a, b):
        return (sum(p * q for p, q in zip(a, b)) / len(a) + 1) ** 3

    def pairs(s):
        terms = [k(a, b) for a, b in itertools.permutations(s, 2)]
        return sum(terms) / (len(s) * (len(s) - 1))

    cross = [k(a, b) for a in x for b in y]
    return pairs(x) + pairs(y) - 2 * sum(cross) / len(cross)


def test_kernel_distance_equals_brute_force_and_so_do_its_parts():
    x, y = normal(12, 3, 0), normal(12, 3, 1, 0.5)
    groups = torch.tensor([0, 7, 2, 2, 0, 7, 7, 0, 2, 0, 7, 0])
    value, without = kernel_distance(x, y, groups)
    expected = brute_force_mmd(x.tolist(), y.tolist())
    assert value == pytest.approx(expected, rel=1e-12)
    assert len(without) == 3
    for group, found in zip((0, 2, 7), without):
        kept = x[groups != group].tolist()
        expected = brute_force_mmd(kept, y.tolist())
        assert found == pytest.approx(expected, rel=1e-12)


def test_kernel_distance_averages_seeded_subsets():
    x, y = normal(9, 2, 2), normal(7, 2, 3, 1.0)
    value, _ = kernel_distance(x, y, groups_of(9), 5, 4, seed=8)
    rng = np.random.RandomState(8)
    values = []
    for _ in range(5):
        a = x[rng.choice(9, 4, replace=False)].tolist()
        b = y[rng.choice(7, 4, replace=False)].tolist()
        values.append(brute_force_mmd(a, b))
    assert value == pytest.approx(np.mean(values), rel=1e-12)


def test_biased_distances_are_plain_means_of_another_kernel():
    """Gretton et al. 2012, eq. 5: no subsets, each clip with itself."""
    x, y = normal(1100, 3, 0), normal(30, 3, 1, 0.5)
    groups = torch.arange(1100) % 4
    options = dict(degree=2, offset=0.5, biased=True)
    value, without = kernel_distance(x, y, groups, **options)

    def mean(a, b):
        return float(((a @ b.T / 3 + 0.5) ** 2).mean())

    expected = [
        mean(kept, kept) + mean(y, y) - 2 * mean(kept, y)
        for kept in [x, *(x[groups != group] for group in range(4))]
    ]
    assert [value, *without] == pytest.approx(expected, rel=1e-10)


def test_jedi_is_what_its_package_gives():
    """By videojedi 1.1.0: mmd_poly(real, fake, degree=2, coef0=0) * 100."""
    fake, real = normal(30, 8, 11, 0.25), normal(40, 8, 12)
    value, _ = kernel_distance(
        fake, real, groups_of(30), degree=2, offset=0, biased=True
    )
    assert 100 * value == pytest.approx(JEDI, rel=1e-10)


JEDI = 3.830705262220979


def test_unbiased_distances_take_any_kernel():
    x, y = normal(12, 3, 0), normal(12, 3, 1, 0.5)
    value, _ = kernel_distance(x, y, groups_of(12), degree=1, offset=0)
    within = [(p.sum() - p.trace()) / (12 * 11) for p in (x @ x.T, y @ y.T)]
    expected = sum(within) - 2 * x.mean(0) @ y.mean(0)
    assert value == pytest.approx(float(expected) / 3, rel=1e-10)


def test_kernel_distance_of_a_shift_has_a_closed_form():
    """One feature, N(0, 1) and N(a, 1).

    With moments m of x and n of y, k = 1 + 3 xy + 3 (xy)^2 + (xy)^3 gives
    3 (m1 - n1)^2 + 3 (m2 - n2)^2 + (m3 - n3)^2.
    """
    a = 0.5
    m, n = (0, 1, 0), (a, 1 + a**2, 3 * a + a**3)
    weights = (3, 3, 1)
    expected = sum(w * (p - q) ** 2 for w, p, q in zip(weights, m, n))
    value, without = kernel_distance(
        normal(20000, 1, 4), normal(20000, 1, 5, a), groups_of(20000)
    )
    error = jackknife_error(without)
    assert value == pytest.approx(expected, abs=4 * 2**0.5 * error)
    assert error < 0.1 * expected


def test_kernel_distance_is_unbiased():
    """Over many pairs of sets of one distribution, it is 0 on average."""
    values = [
        kernel_distance(
            normal(5, 2, 2 * i), normal(5, 2, 2 * i + 1), groups_of(5)
        )[0]
        for i in range(500)
    ]
    assert abs(np.mean(values)) < 4 * scipy.stats.sem(values)
    assert min(values) < 0 < max(values)


def test_the_jackknife_sees_how_kernel_distances_scatter():
    """Of generated sets, against one real set, as its docstring says."""
    real = normal(60, 2, 999)
    values, errors = [], []
    for seed in range(150):
        value, without = kernel_distance(
            normal(60, 2, seed, 1.0), real, groups_of(60)
        )
        values.append(value)
        errors.append(jackknife_error(without) ** 2)
    assert np.mean(errors) ** 0.5 == pytest.approx(np.std(values), rel=0.25)


def test_too_small_groups_give_no_error():
    value, without = kernel_distance(
        normal(2, 3, 0), normal(4, 3, 1), torch.tensor([0, 1])
    )
    assert math.isfinite(value)
    assert without == []


# Inception score.


def softmax(num, classes, seed, scale=2.0):
    rng = np.random.RandomState(seed)
    return scipy.special.softmax(scale * rng.normal(size=(num, classes)), 1)


def test_inception_scores_equal_scipys_entropy():
    p = softmax(53, 7, 0)
    scores = inception_score(torch.from_numpy(p))
    order = np.arange(53)
    np.random.RandomState(42).shuffle(order)
    expected = []
    for i in range(10):
        part = p[order][i * 53 // 10 : (i + 1) * 53 // 10]
        divergence = scipy.stats.entropy(part, part.mean(0), axis=1)
        expected.append(np.exp(divergence.mean()))
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


def test_inception_scores_of_sure_and_unsure_classifiers():
    """Each of C classes as often, with p = 1: C; all equal: 1."""
    sure = torch.eye(5).repeat(8, 1)
    assert inception_score(sure, 1).tolist() == pytest.approx([5])
    unsure = torch.full((40, 5), 0.2)
    assert inception_score(unsure).tolist() == pytest.approx([1] * 10)


# Neighbours.


def brute_force_neighbours(fake, real, k_manifold, k_density):
    """Kynkäänniemi et al. 2019, eq. 1; Naeem et al. 2020, eq. 3, 4."""

    def radius(points, i, k):
        others = [p for j, p in enumerate(points) if j != i]
        return sorted(math.dist(points[i], p) for p in others)[k - 1]

    def covered(a, points):
        radii = [radius(points, i, k_manifold) for i in range(len(points))]
        return [
            any(math.dist(p, q) <= r for q, r in zip(points, radii)) for p in a
        ]

    precision, recall = covered(fake, real), covered(real, fake)
    radii = [radius(real, i, k_density) for i in range(len(real))]
    density = [
        sum(math.dist(p, q) <= r for q, r in zip(real, radii)) / k_density
        for p in fake
    ]
    coverage = [
        any(math.dist(p, q) <= r for p in fake) for q, r in zip(real, radii)
    ]
    return precision, recall, density, coverage


@pytest.mark.parametrize('shift', [0, 1.5])
def test_neighbours_equal_brute_force(shift, monkeypatch):
    # Several blocks of rows.
    monkeypatch.setattr('stylegan_v_mm.evaluation.measures._ROWS', 13)
    fake, real = normal(41, 3, 0, shift), normal(33, 3, 1)
    expected = brute_force_neighbours(fake.tolist(), real.tolist(), 3, 5)
    found = *precision_recall(fake, real), *density_coverage(fake, real)
    for a, b in zip(found, expected):
        assert a.tolist() == list(map(float, b))
        assert 0 < a.mean() < 1.5


def test_equal_and_disjoint_sets():
    x = normal(50, 4, 0)
    for values in (*precision_recall(x, x), density_coverage(x, x)[1]):
        assert values.eq(1).all()
    for values in (
        *precision_recall(x, x + 100),
        *density_coverage(x, x + 100),
    ):
        assert values.eq(0).all()


def test_density_of_one_distribution_is_one_on_average():
    """Naeem et al. 2020, section 3.3."""
    density, coverage = density_coverage(
        normal(1500, 3, 0), normal(1500, 3, 1)
    )
    assert density.mean() == pytest.approx(1, abs=0.05)
    # Closed form, eq. 8: 1 - prod (N - i) / (2 N - i) over i = 1 ... k.
    expected = 1 - math.prod((1500 - i) / (3000 - i) for i in range(1, 6))
    assert coverage.mean() == pytest.approx(expected, abs=0.02)


def test_copies_of_one_clip_are_within_each_other():
    """Radii of 0, far from the origin, where rounding is larger."""
    same = torch.full((8, 64), 1234.567)
    for values in (
        *precision_recall(same, same),
        density_coverage(same, same)[1],
    ):
        assert values.eq(1).all()


# What is wrong.


def test_sets_that_cannot_be_compared_are_refused():
    x = normal(8, 3, 0)
    for function in (
        precision_recall,
        density_coverage,
        lambda a, b: kernel_distance(a, b, groups_of(len(a))),
    ):
        with pytest.raises(InputError, match='width 3 and 4'):
            function(x, normal(8, 4, 0))
        with pytest.raises(InputError, match='got 1 and 8'):
            function(x[:1], x)
    with pytest.raises(InputError, match=r'at least 10 clips.*got 8'):
        inception_score(x)


# Golden numbers: what these functions gave when they were written, on numbers
# that any version of numpy draws.


def test_golden_numbers():
    fake, real = normal(60, 8, 11, 0.25), normal(70, 8, 12)
    distance, without = kernel_distance(fake, real, groups_of(60), 3, 40)
    found = dict(
        kernel_distance=distance,
        kernel_error=jackknife_error(without),
        inception_score=inception_score(
            torch.from_numpy(softmax(60, 8, 13))
        ).mean(),
    )
    names = ('precision', 'recall', 'density', 'coverage')
    parts = *precision_recall(fake, real), *density_coverage(fake, real)
    found |= {name: values.mean() for name, values in zip(names, parts)}
    assert {k: float(v) for k, v in found.items()} == pytest.approx(
        GOLDEN, rel=1e-9
    )


GOLDEN = {
    'kernel_distance': 0.213374068761,
    'kernel_error': 0.0986887545339,
    'inception_score': 1.84546793202,
    'precision': 0.9,
    'recall': 0.785714285714,
    'density': 0.926666666667,
    'coverage': 0.928571428571,
}
