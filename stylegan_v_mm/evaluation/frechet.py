"""Mean and covariance of features, and the Frechet distance of two such."""

import os
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import all_reduce
from torch import Tensor

from ..errors import InputError


class FeatureStats:
    """Mean and covariance of features that come batch by batch.

    Sums in float64 are kept, so the result depends on the set of features
    alone, not on their order, batches or processes (but for rounding).

    Args:
        num_features (int): Width of the features, F.

    Example:
        >>> stats = FeatureStats(2)
        >>> stats.append(torch.tensor([[0.0, 1.0], [2.0, 1.0]]))
        >>> stats.mean.tolist(), stats.cov.tolist()
        ([1.0, 1.0], [[1.0, 0.0], [0.0, 0.0]])
    """

    def __init__(self, num_features: int) -> None:
        self.num = 0
        self.sum = torch.zeros(num_features, dtype=torch.float64)
        self.outer = self.sum.new_zeros(num_features, num_features)

    def append(self, features: Tensor) -> None:
        """Add features.

        Args:
            features (Tensor): [N, F], any device and dtype.

        Raises:
            InputError: They have another shape or are not finite.
        """
        features = features.detach().to('cpu', torch.float64)
        if features.ndim != 2 or features.shape[1] != len(self.sum):
            raise InputError(
                f'features must be [N, {len(self.sum)}], got '
                f'{list(features.shape)}: the detector is of another kind '
                'than its config says'
            )
        if not features.isfinite().all():
            raise InputError(
                'features are not finite: the detector is damaged, get it '
                'again'
            )
        self.num += len(features)
        self.sum += features.sum(0)
        self.outer += features.T @ features

    def all_reduce(self) -> None:
        """Add up what all processes have, for each of them."""
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
        """Write to a file, which appears under its name when it is whole.

        Args:
            path: Name of the file, ending in ``.npz``; its folder is made.

        Raises:
            OSError: It cannot be written.
        """
        temporary = Path(f'{path}.{os.getpid()}.tmp')
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open('wb') as file:
                np.savez(file, num=self.num, sum=self.sum, outer=self.outer)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike) -> 'FeatureStats':
        """Read what :meth:`save` wrote.

        Raises:
            InputError: The file is missing or damaged.
        """
        try:
            with np.load(path) as content:
                stats = cls(len(content['sum']))
                stats.num = int(content['num'])
                stats.sum += torch.from_numpy(content['sum'])
                stats.outer += torch.from_numpy(content['outer'])
        except Exception as error:
            # numpy, zipfile and torch raise a dozen types here.
            raise InputError(
                f'{path}: no statistics can be read ({error})'
            ) from error
        return stats


def frechet_distance(a: FeatureStats, b: FeatureStats) -> float:
    r"""Compute the squared Frechet distance of two normal distributions.

    .. math::
        |\mu_a - \mu_b|^2
        + \mathrm{tr}(\Sigma_a + \Sigma_b - 2 (\Sigma_a \Sigma_b)^{1/2})

    (Dowson & Landau 1982; Heusel et al. 2017, eq. 6). The trace of the root
    is the sum of the singular values of :math:`\Sigma_a^{1/2}
    \Sigma_b^{1/2}`, whose roots come from symmetric eigendecompositions. This
    equals the trace of scipy's ``sqrtm(cov_a @ cov_b)``, and stays real and
    accurate where the covariances are singular, as they are with fewer
    samples than features.

    Args:
        a (FeatureStats): Of at least 2 samples.
        b (FeatureStats): Of at least 2 samples, as wide as ``a``.

    Returns:
        float: At least 0; 0 (but for rounding) if the two are equal.

    Raises:
        InputError: They differ in width, or one has fewer than 2 samples.
    """
    if len(a.sum) != len(b.sum):
        raise InputError(
            f'features of width {len(a.sum)} and {len(b.sum)} cannot be '
            'compared: use one detector for both'
        )
    if min(a.num, b.num) < 2:
        raise InputError(
            'a Frechet distance needs at least 2 clips on either side, got '
            f'{a.num} and {b.num}'
        )
    values_a, vectors_a = torch.linalg.eigh(a.cov)
    values_b, vectors_b = torch.linalg.eigh(b.cov)
    # Rounding makes zero eigenvalues slightly negative.
    root_a, root_b = values_a.clamp(min=0).sqrt(), values_b.clamp(min=0).sqrt()
    # The two roots without the outer bases: these are orthogonal and change
    # no singular value.
    product = root_a[:, None] * (vectors_a.T @ vectors_b) * root_b
    distance = (
        (a.mean - b.mean).square().sum()
        + values_a.sum()
        + values_b.sum()
        - 2 * torch.linalg.svdvals(product).sum()
    )
    return max(distance.item(), 0.0)
