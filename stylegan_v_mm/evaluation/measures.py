"""Measures of features and of class probabilities, as pure functions.

All compute in float64 and are repeatable: random draws use fixed seeds of
``numpy.random.RandomState``, whose numbers are the same in all versions of
numpy.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError


def jackknife_error(values: Sequence[float]) -> float:
    r"""Compute a standard error from values that each leave out one group.

    .. math::
        \sqrt{\frac{G - 1}{G} \sum_g (\theta_{-g} - \bar\theta)^2}

    (delete-a-group jackknife; Efron & Stein 1981). For a mean over groups of
    equal size, this is the usual standard error of the mean of G values.

    Args:
        values (Sequence): The measure without group g, for each of two or more
            groups.

    Returns:
        float: The standard error of the measure over all groups.
    """
    values = np.asarray(values, np.float64)
    deviations = values - values.mean()
    return float(np.sqrt((len(values) - 1) * np.mean(deviations**2)))


def kernel_distance(
    fake: Tensor,
    real: Tensor,
    groups: Tensor,
    num_subsets: int = 100,
    max_size: int = 1000,
    seed: int = 0,
    degree: int = 3,
    offset: float = 1,
    biased: bool = False,
) -> tuple[float, list[float]]:
    r"""Compute the kernel distance: KID of images, KVD of clips.

    The unbiased estimate of the squared maximum mean discrepancy, with
    :math:`k(x, y) = (x \cdot y / F + o)^d`:

    .. math::
        \frac{1}{m (m - 1)} \sum_{i \ne j} [k(x_i, x_j) + k(y_i, y_j)]
        - \frac{2}{m^2} \sum_{i, j} k(x_i, y_j)

    averaged over random subsets of size m (Binkowski et al. 2018,
    "Demystifying MMD GANs", eq. 4 and section 4; Gretton et al. 2012, eq. 3).

    Args:
        fake (Tensor): [N, F], N at least 2.
        real (Tensor): [M, F], M at least 2.
        groups (Tensor): [N], int64, at least 0: the group of each row of
            ``fake``, for a standard error.
        num_subsets (int): Number of subsets; one, if it would contain both
            sets completely. Defaults to 100; other values are for ablations.
        max_size (int): Size of a subset, m, or that of the smaller set if that
            is less. Defaults to 1000; other values are for ablations.
        seed (int): Seed of the subsets. Defaults to 0; other values are for
            ablations.
        degree (int): d, at least 1. Defaults to 3.
        offset (float): o, at least 0. Defaults to 1.
        biased (bool): Whether to use plain means over all pairs of all clips,
            including each clip with itself, without subsets (Gretton et al.
            2012, eq. 5). This is never negative. With degree 2, offset 0 and
            V-JEPA's features, 100 times this is JEDi (Luo et al. 2025, "Beyond
            FVD"). Defaults to False.

    Returns:
        tuple: The distance, which may be negative by chance if the sets are
        alike; and a list with the distance without each group, in rising
        order, for :func:`jackknife_error`. The list is empty if a subset
        would keep too few rows.

    Raises:
        InputError: The sets differ in width, or have fewer than two rows.
    """
    _check_pair(fake, real, 2)

    def kernel(products: Tensor) -> Tensor:
        return (products / fake.shape[1] + offset) ** degree

    names, groups = groups.unique(return_inverse=True)
    # Column 0 keeps all rows, column g + 1 leaves out group g.
    kept = torch.ones(len(fake), len(names) + 1, dtype=torch.float64)
    kept[torch.arange(len(fake)), groups + 1] = 0
    if biased:
        values = _mean_discrepancy(
            fake, real, kept=kept, kernel=kernel, biased=biased
        )
    else:
        size = min(len(fake), len(real), max_size)
        if size == len(fake) == len(real):
            num_subsets = 1
        rng = np.random.RandomState(seed)
        values = torch.zeros(len(names) + 1, dtype=torch.float64)
        for _ in range(num_subsets):
            x, y = (
                torch.from_numpy(rng.choice(len(rows), size, replace=False))
                for rows in (fake, real)
            )
            values += _mean_discrepancy(
                fake[x], real[y], kept=kept[x], kernel=kernel, biased=biased
            )
        values /= num_subsets
    whole, *without = values.tolist()
    return whole, without if np.isfinite(without).all() else []


# Rows of a matrix of all pairs that are computed at a time, to limit memory.
_ROWS = 1024


def _mean_discrepancy(
    x: Tensor,
    y: Tensor,
    kept: Tensor,
    kernel: Callable[[Tensor], Tensor],
    biased: bool,
) -> Tensor:
    """Compute the squared mean discrepancy between y and parts of x.

    Args:
        x (Tensor): [N, F].
        y (Tensor): [M, F].
        kept (Tensor): [N, P], 1 for the rows of x in a part, else 0.
        kernel (callable): Maps products of rows to kernel values.
        biased (bool): Whether pairs of a row with itself count.

    Returns:
        Tensor: [P], float64; not finite if a part has too few rows.
    """
    x, y = x.double(), y.double()
    every = kept.new_ones(len(y), 1)

    def total(
        a: Tensor, b: Tensor, rows: Tensor, columns: Tensor, itself: bool
    ) -> Tensor:
        sums = kept.new_zeros(1)
        for start in range(0, len(a), _ROWS):
            part = slice(start, start + _ROWS)
            block = kernel(a[part] @ b.T)
            if not itself:
                block.diagonal(start).zero_()
            sums = sums + (rows[part] * (block @ columns)).sum(0)
        return sums

    num, size = kept.sum(0), len(y)
    fewer = 0 if biased else 1
    return (
        total(x, x, kept, kept, itself=biased) / (num * (num - fewer))
        + total(y, y, every, every, itself=biased) / (size * (size - fewer))
        - 2 * total(x, y, kept, every, itself=True) / (num * size)
    )


def _check_pair(fake: Tensor, real: Tensor, least: int) -> None:
    if min(len(fake), len(real)) < least:
        raise InputError(
            f'this metric needs at least {least} clips on either side, got '
            f'{len(fake)} and {len(real)}'
        )
    if fake.shape[1] != real.shape[1]:
        raise InputError(
            f'features of width {fake.shape[1]} and {real.shape[1]} cannot '
            'be compared: use one detector for both'
        )


def inception_score(
    probabilities: Tensor, num_splits: int = 10, seed: int = 42
) -> Tensor:
    r"""Compute the inception score of each part of a set.

    With :math:`\bar p` the mean over a part, its score is

    .. math::
        \exp \frac{1}{n} \sum_i \sum_c p_{ic} \ln (p_{ic} / \bar p_c)

    (Salimans et al. 2016, section 4). The rows are shuffled first, as in the
    published video inception score (Saito et al. 2017).

    Args:
        probabilities (Tensor): [N, C], each row with the sum 1; N at least
            ``num_splits``.
        num_splits (int): Number of parts, of nearly equal size. Defaults to
            10; other values are for ablations.
        seed (int): Seed of the shuffle. Defaults to 42, the published one;
            other values are for ablations.

    Returns:
        Tensor: [num_splits], float64, each from 1 to C. The published score is
        their mean, and the number after the plus-minus sign their standard
        deviation (divided by n).

    Raises:
        InputError: There are fewer rows than splits.
    """
    num = len(probabilities)
    if num < num_splits:
        raise InputError(
            f'an inception score needs at least {num_splits} clips, one for '
            f'each part, got {num}'
        )
    order = np.arange(num)
    np.random.RandomState(seed).shuffle(order)
    p = probabilities.double()[torch.from_numpy(order)]
    ends = [i * num // num_splits for i in range(num_splits + 1)]
    scores = []
    for part in (p[a:b] for a, b in pairwise(ends)):
        # 0 ln 0 is 0.
        divergence = torch.xlogy(part, part) - torch.xlogy(part, part.mean(0))
        scores.append(divergence.sum(1).mean().exp())
    return torch.stack(scores)


def precision_recall(
    fake: Tensor, real: Tensor, k: int = 3
) -> tuple[Tensor, Tensor]:
    """Compute which clips lie within the other set.

    A set covers closed balls around its points, each of which reaches to the
    k-th nearest other point of the set. Precision is the share of generated
    clips that the real ones cover, recall the reverse (Kynkäänniemi et al.
    2019, "Improved Precision and Recall Metric", eq. 1 and 2).

    Args:
        fake (Tensor): [N, F], N above ``k``.
        real (Tensor): [M, F], M above ``k``.
        k (int): Number of neighbours. Defaults to 3, the paper's; other
            values are for ablations.

    Returns:
        tuple: Two tensors of 0 and 1, float64: [N], whose mean is precision,
        and [M], whose mean is recall.

    Raises:
        InputError: The sets differ in width, or have too few rows.
    """
    _check_pair(fake, real, k + 1)
    within_real = _balls_around(fake, real, _radii(real, k))
    within_fake = _balls_around(real, fake, _radii(fake, k))
    return (within_real > 0).double(), (within_fake > 0).double()


def density_coverage(
    fake: Tensor, real: Tensor, k: int = 5
) -> tuple[Tensor, Tensor]:
    """Count the real clips near each generated clip, and the reverse.

    Both use the balls of :func:`precision_recall` around real points. Density
    is the number of balls that contain a generated clip, over k; coverage is
    the share of balls that contain at least one (Naeem et al. 2020, "Reliable
    Fidelity and Diversity Metrics", eq. 3 and 4). Outliers among the generated
    clips improve recall, but not coverage.

    Args:
        fake (Tensor): [N, F], N above ``k``.
        real (Tensor): [M, F], M above ``k``.
        k (int): Number of neighbours. Defaults to 5, the paper's; other
            values are for ablations.

    Returns:
        tuple: [N] float64, whose mean is the density, about 1 for equal
        distributions but possibly larger; and [M] of 0 and 1, float64, whose
        mean is the coverage.

    Raises:
        InputError: The sets differ in width, or have too few rows.
    """
    _check_pair(fake, real, k + 1)
    radii = _radii(real, k)
    density = _balls_around(fake, real, radii) / k
    covered = torch.cat(
        [
            (_distances(part, fake).amin(1) <= radius).double()
            for part, radius in zip(real.split(_ROWS), radii.split(_ROWS))
        ]
    )
    return density, covered


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Compute squared distances [N, M], float64, of points [N, F], [M, F]."""
    x, y = x.double(), y.double()
    norms = x.square().sum(1)[:, None] + y.square().sum(1)
    squares = norms - 2 * (x @ y.T)
    # Equal points get a distance of 0 in spite of rounding.
    return squares * (squares > 1e-12 * norms)


def _radii(x: Tensor, k: int) -> Tensor:
    """Compute squared distances [N] of points to the k-th nearest others."""
    # The nearest point is the point itself, or an equal one.
    return torch.cat(
        [
            _distances(part, x).kthvalue(k + 1, dim=1).values
            for part in x.split(_ROWS)
        ]
    )


def _balls_around(points: Tensor, centres: Tensor, radii: Tensor) -> Tensor:
    """Count the balls that contain each point [N, F]; return [N], float64."""
    return torch.cat(
        [
            (_distances(part, centres) <= radii).sum(1).double()
            for part in points.split(_ROWS)
        ]
    )
