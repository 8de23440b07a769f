"""Statistics of features, and the Frechet distance of two sets."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import all_gather_object, all_reduce
from torch import Tensor

from ..errors import InputError
from ..files import atomic_write


def _write(path: str | os.PathLike, **arrays: Tensor | int) -> None:
    with atomic_write(Path(path)) as temporary, temporary.open('wb') as file:
        np.savez(file, **arrays)


def _read(path: str | os.PathLike, *names: str) -> list[np.ndarray]:
    try:
        with np.load(path) as content:
            if damaged := content.zip.testzip():
                raise ValueError(f'{damaged} is damaged')
            return [content[name] for name in names]
    except Exception as error:
        # numpy and zipfile raise about a dozen types here.
        raise InputError(
            f'{path}: no statistics can be read ({error})'
        ) from error


def _checked(
    features: Tensor, width: int | None, dtype: torch.dtype
) -> Tensor:
    features = features.detach().to('cpu', dtype)
    if features.ndim != 2 or width not in (None, features.shape[1]):
        raise InputError(
            f'features must be [N, {width or "F"}], got '
            f'{list(features.shape)}: the detector is of another kind than '
            'its config says'
        )
    if not features.isfinite().all():
        raise InputError(
            'features are not finite: the detector is damaged, get it again'
        )
    return features


class FeatureStats:
    """Mean and covariance of features that are added batch by batch.

    The sums are in float64, so the result depends (up to rounding) only on the
    set of features, not on their order, batches or processes.

    Args:
        num_features (int): Width of the features, F.

    Examples:
        >>> stats = FeatureStats(2)
        >>> stats.append(torch.tensor([[0.0, 1.0], [2.0, 1.0]]))
        >>> stats.mean.tolist(), stats.cov.tolist()
        ([1.0, 1.0], [[1.0, 0.0], [0.0, 0.0]])
    """

    def __init__(self, num_features: int) -> None:
        self.num = 0
        self.sum = torch.zeros(num_features, dtype=torch.float64)
        self.outer = self.sum.new_zeros(num_features, num_features)

    def append(self, features: Tensor, key: int | None = None) -> None:
        """Add features.

        Args:
            features (Tensor): [N, F], any device and dtype.
            key (int, optional): Not used; the argument of
                :class:`FeatureRows`.

        Raises:
            InputError: The features have another shape or are not finite.
        """
        features = _checked(features, len(self.sum), torch.float64)
        self.num += len(features)
        self.sum += features.sum(0)
        self.outer += features.T @ features

    def all_reduce(self) -> None:
        """Replace the sums by those over all processes."""
        num = torch.tensor([self.num], dtype=torch.float64)
        flat = torch.cat([num, self.sum, self.outer.flatten()])
        all_reduce(flat)
        width = len(self.sum)
        num, self.sum, outer = flat.split([1, width, width**2])
        self.num, self.outer = int(num), outer.view(width, width)

    @property
    def mean(self) -> Tensor:
        """Mean [F], float64."""
        return self.sum / self.num

    @property
    def cov(self) -> Tensor:
        """Covariance [F, F], float64; biased: divided by n, not n - 1."""
        return self.outer / self.num - self.mean.outer(self.mean)

    def save(self, path: str | os.PathLike) -> None:
        """Write a file that appears whole or not at all.

        Args:
            path: Name of the file, ending in ``.npz``; its folder is created.

        Raises:
            InputError: The file cannot be written.
        """
        _write(path, num=self.num, sum=self.sum, outer=self.outer)

    @classmethod
    def load(cls, path: str | os.PathLike) -> 'FeatureStats':
        """Read what :meth:`save` wrote.

        Raises:
            InputError: The file is missing or damaged.
        """
        num, sums, outer = _read(path, 'num', 'sum', 'outer')
        stats = cls(len(sums))
        stats.num = int(num)
        stats.sum += torch.from_numpy(sums)
        stats.outer += torch.from_numpy(outer)
        return stats

    def __add__(self, other: 'FeatureStats') -> 'FeatureStats':
        """Return the statistics of both sets together."""
        return self._combine(other, 1)

    def __sub__(self, other: 'FeatureStats') -> 'FeatureStats':
        """Return the statistics without those of a part."""
        return self._combine(other, -1)

    def _combine(self, other: 'FeatureStats', sign: int) -> 'FeatureStats':
        stats = FeatureStats(len(self.sum))
        stats.num = self.num + sign * other.num
        stats.sum = self.sum + sign * other.sum
        stats.outer = self.outer + sign * other.outer
        return stats


# Standard errors leave out each of so many groups of clips in turn.
NUM_GROUPS = 10


class GroupedStats:
    """Statistics of ten groups of clips, grouped by the last digit of the key.

    Args:
        num_features (int): Width of the features, F.
    """

    def __init__(self, num_features: int) -> None:
        self.groups = [FeatureStats(num_features) for _ in range(NUM_GROUPS)]

    def append(self, features: Tensor, key: int) -> None:
        """Add features [N, F] to the group of a key."""
        self.groups[key % NUM_GROUPS].append(features)

    def all_reduce(self) -> None:
        """Replace the sums by those over all processes."""
        for group in self.groups:
            group.all_reduce()

    @property
    def num(self) -> int:
        """Number of features."""
        return sum(group.num for group in self.groups)

    @property
    def total(self) -> FeatureStats:
        """Statistics of all groups together."""
        first, *others = self.groups
        return sum(others, first)


class FeatureRows:
    """Features that are added in any order and kept in the order of keys.

    So results depend neither on batches nor on the number of processes. If a
    key is added twice, it counts once.

    Examples:
        >>> rows = FeatureRows()
        >>> for key in (4, 2, 4):
        ...     rows.append(torch.tensor([[key / 8]]), key)
        >>> rows.num, rows.features.tolist()
        (2, [[0.25], [0.5]])
    """

    def __init__(self) -> None:
        # numpy arrays, because pickling a tensor includes its whole storage.
        self._rows: dict[int, np.ndarray] = {}

    def append(self, features: Tensor, key: int) -> None:
        """Add features.

        Args:
            features (Tensor): [N, F], any device and dtype; kept in float32.
            key (int): Determines the position among the others.

        Raises:
            InputError: The features have another shape or are not finite.
        """
        features = _checked(features, None, torch.float32)
        self._rows[key] = features.numpy().copy()

    def all_reduce(self) -> None:
        """Add the features of all other processes."""
        for rows in all_gather_object(self._rows):
            self._rows |= rows

    @property
    def num(self) -> int:
        """Number of rows."""
        return sum(map(len, self._rows.values()))

    @property
    def features(self) -> Tensor:
        """All features [N, F], float32."""
        rows = [self._rows[key] for key in sorted(self._rows)]
        return torch.from_numpy(np.concatenate(rows or [np.zeros((0, 1))]))

    @property
    def groups(self) -> Tensor:
        """Group of each row [N], int64: the last digit of its key."""
        keys = sorted(self._rows)
        digits = [
            np.full(len(self._rows[key]), key % NUM_GROUPS) for key in keys
        ]
        return torch.from_numpy(np.concatenate(digits))

    @property
    def stats(self) -> FeatureStats:
        """Mean and covariance of all features."""
        features = self.features
        stats = FeatureStats(features.shape[1])
        for part in features.split(1024):
            stats.append(part)
        return stats

    def save(self, path: str | os.PathLike) -> None:
        """Write to a file, see :meth:`FeatureStats.save`."""
        _write(path, features=self.features)

    @classmethod
    def load(cls, path: str | os.PathLike) -> 'FeatureRows':
        """Read what :meth:`save` wrote; all rows get the key 0.

        Raises:
            InputError: The file is missing or damaged.
        """
        (features,) = _read(path, 'features')
        rows = cls()
        rows._rows[0] = features
        return rows


def frechet_distances(
    many: Sequence[FeatureStats], b: FeatureStats
) -> list[float]:
    r"""Compute squared Frechet distances of normal distributions to another.

    .. math::
        |\mu_a - \mu_b|^2
        + \mathrm{tr}(\Sigma_a + \Sigma_b - 2 (\Sigma_a \Sigma_b)^{1/2})

    (Dowson & Landau 1982; Heusel et al. 2017, eq. 6). The trace of the root
    is the sum of the singular values of :math:`R_a^T R_b` with
    :math:`R R^T = \Sigma`, and R comes from a symmetric eigendecomposition.
    That of b is computed once for all distances. This equals the trace of
    scipy's ``sqrtm(cov_a @ cov_b)``, but stays real and accurate if the
    covariances are singular, for example because there are fewer samples than
    features.

    Args:
        many (sequence): Statistics a, each of at least 2 samples.
        b (FeatureStats): Statistics of at least 2 samples, of the same width.

    Returns:
        list: One float for each a, at least 0; 0 (up to rounding) if the
        statistics are equal.

    Raises:
        InputError: Two differ in width, or one has fewer than 2 samples.
    """
    for a in many:
        if len(a.sum) != len(b.sum):
            raise InputError(
                f'features of width {len(a.sum)} and {len(b.sum)} cannot be '
                'compared: use one detector for both'
            )
        if min(a.num, b.num) < 2:
            raise InputError(
                'a Frechet distance needs at least 2 clips on either side, '
                f'got {a.num} and {b.num}'
            )
    root_b = _root(b)
    distances = []
    for a in many:
        distance = (
            (a.mean - b.mean).square().sum()
            + a.cov.trace()
            + b.cov.trace()
            - 2 * torch.linalg.svdvals(_root(a).T @ root_b).sum()
        )
        distances.append(max(distance.item(), 0.0))
    return distances


def frechet_distance(a: FeatureStats, b: FeatureStats) -> float:
    """Compute a squared Frechet distance, see :func:`frechet_distances`."""
    (distance,) = frechet_distances([a], b)
    return distance


def _root(stats: FeatureStats) -> Tensor:
    """Compute a matrix R [F, rank] with R @ R.T equal to the covariance.

    Due to rounding, eigenvalues of 0 become numbers of either sign, of the
    order of 1e-16 of the mean square. Their roots, 1e-8, would depend on the
    order of the features, so they are left out, which also saves most of the
    work where there are fewer samples than features.
    """
    values, vectors = torch.linalg.eigh(stats.cov)
    noise = 1e-14 * stats.outer.trace() / stats.num
    kept = values > noise
    return vectors[:, kept] * values[kept].sqrt()
