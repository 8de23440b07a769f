"""Measures of features and of class probabilities, as pure functions.

Each is float64 throughout and gives the same number every time: what is
random has a fixed seed, from ``numpy.random.RandomState``, whose numbers are
the same in all versions of numpy.
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

    (delete-a-group jackknife; Efron & Stein 1981). Of a mean over groups of
    equal size, this is the usual standard error of the mean of G values.

    Args:
        values (Sequence): The measure without group g, for each g; two or
            more.

    Returns:
        float: The standard error of the measure of all groups together.
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

    averaged over random subsets of m (Binkowski et al. 2018, "Demystifying
    MMD GANs", eq. 4 and section 4; Gretton et al. 2012, eq. 3).

    Args:
        fake (Tensor): [N, F], two or more.
        real (Tensor): [M, F], two or more.
        groups (Tensor): [N], int64, at least 0: the group of each row of
            ``fake``, for a standard error.
        num_subsets (int): Defaults to 100. One, if it holds all of both.
        max_size (int): The most of a subset, m; fewer, if either set is
            smaller. Defaults to 1000.
        seed (int): Of the subsets. Defaults to 0.
        degree (int): d, at least 1. Defaults to 3.
        offset (float): o, at least 0. Defaults to 1.
        biased (bool): Whether to take plain means instead, over all pairs of
            all clips, each with itself among them, without subsets (Gretton
            et al. 2012, eq. 5). Never negative. Defaults to False. With
            degree 2 and offset 0, 100 times this is JEDi (Luo et al. 2025,
            "Beyond FVD"), of V-JEPA's features.

    Returns:
        tuple: The distance, negative by chance if the sets are alike; and,
        for each group in rising order, the distance without it, for
        :func:`jackknife_error`. Empty, if some subset would keep too few.

    Raises:
        InputError: The sets differ in width, or have fewer than two rows.
    """
    _check_pair(fake, real, 2)

    def kernel(products: Tensor) -> Tensor:
        return (products / fake.shape[1] + offset) ** degree

    names, groups = groups.unique(return_inverse=True)
    # Column 0 leaves out nothing, column g + 1 the group g.
    kept = torch.ones(len(fake), len(names) + 1, dtype=torch.float64)
    kept[torch.arange(len(fake)), groups + 1] = 0
    if biased:
        values = _mean_discrepancy(fake, real, kept, kernel, biased)
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
                fake[x], real[y], kept[x], kernel, biased
            )
        values /= num_subsets
    whole, *without = values.tolist()
    return whole, without if np.isfinite(without).all() else []


# Rows of a matrix of all pairs that are computed at a time.
_ROWS = 1024


def _mean_discrepancy(
    x: Tensor,
    y: Tensor,
    kept: Tensor,
    kernel: Callable[[Tensor], Tensor],
    biased: bool,
) -> Tensor:
    """Compute the squared discrepancy of y from parts of x.

    Args:
        x (Tensor): [N, F].
        y (Tensor): [M, F].
        kept (Tensor): [N, P], 1 for the rows of x in a part, else 0.
        kernel (callable): Of products of rows.
        biased (bool): Whether the pairs of a row with itself count.

    Returns:
        Tensor: [P], float64; not finite, where a part has too few rows.
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
        total(x, x, kept, kept, biased) / (num * (num - fewer))
        + total(y, y, every, every, biased) / (size * (size - fewer))
        - 2 * total(x, y, kept, every, True) / (num * size)
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
    r"""Compute the inception score of parts of a set.

    Of each part, with :math:`\bar p` the mean over it,

    .. math::
        \exp \frac{1}{n} \sum_i \sum_c p_{ic} \ln (p_{ic} / \bar p_c)

    (Salimans et al. 2016, section 4). The rows are shuffled first, as in the
    published video inception score (Saito et al. 2017).

    Args:
        probabilities (Tensor): [N, C], each row with the sum 1; N at least
            ``num_splits``.
        num_splits (int): Parts, as equal as can be. Defaults to 10.
        seed (int): Of the shuffle. Defaults to 42, the published one.

    Returns:
        Tensor: [num_splits], float64, from 1 to C each. The published score
        is their mean, and their standard deviation (divided by n) what
        stands behind the plus-minus sign.

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
    """Tell which clips lie within the other set.

    A set covers the balls around its points that reach to the k-th nearest
    other point of the set, their surface included. Precision is the share
    of generated clips that the real ones cover, recall the reverse
    (Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric", eq. 1
    and 2).

    Args:
        fake (Tensor): [N, F], more than ``k``.
        real (Tensor): [M, F], more than ``k``.
        k (int): Defaults to 3, the paper's.

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
    """Tell how many real clips each generated one is near, and the reverse.

    With the balls around real points only, see :func:`precision_recall`:
    density is the number of balls that hold a generated clip, over k;
    coverage the share of balls that hold at least one (Naeem et al. 2020,
    "Reliable Fidelity and Diversity Metrics", eq. 3 and 4). Outliers among
    the generated clips make recall, but not coverage, better.

    Args:
        fake (Tensor): [N, F], more than ``k``.
        real (Tensor): [M, F], more than ``k``.
        k (int): Defaults to 5, the paper's.

    Returns:
        tuple: [N] float64, whose mean is the density, 1 for equal
        distributions and not bounded by it; and [M] of 0 and 1, float64,
        whose mean is the coverage.

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
    """Squared distances of points [N, F] and [M, F], [N, M], float64."""
    x, y = x.double(), y.double()
    norms = x.square().sum(1)[:, None] + y.square().sum(1)
    squares = norms - 2 * (x @ y.T)
    # Equal points get a distance of 0 in spite of rounding.
    return squares * (squares > 1e-12 * norms)


def _radii(x: Tensor, k: int) -> Tensor:
    """Squared distance of each point to its k-th nearest other one, [N]."""
    # The nearest of all is the point itself, or its equal.
    return torch.cat(
        [
            _distances(part, x).kthvalue(k + 1, dim=1).values
            for part in x.split(_ROWS)
        ]
    )


def _balls_around(points: Tensor, centres: Tensor, radii: Tensor) -> Tensor:
    """Count the balls that each point [N, F] is in, [N], float64."""
    return torch.cat(
        [
            (_distances(part, centres) <= radii).sum(1).double()
            for part in points.split(_ROWS)
        ]
    )
