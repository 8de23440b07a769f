"""Fréchet video distance."""

import hashlib
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from torch import Tensor
from tqdm import tqdm

from ...errors import InputError
from ...registry import METRICS
from ..frechet import (
    NUM_GROUPS,
    FeatureRows,
    FeatureStats,
    GroupedStats,
    frechet_distance,
    frechet_distances,
)
from ..measures import jackknife_error
from .comparing import ComparingMetric


def _is_one_hot(c: Tensor) -> bool:
    """Return whether labels [N, c_dim] are one-hot, that is, classes."""
    return bool(((c == 1).sum(1) == 1).all() and ((c != 0).sum(1) == 1).all())


@METRICS.register_module()
class FrechetVideoDistance(ComparingMetric):
    """Frechet distance of generated and real clips (Unterthiner et al. 2018).

    The result is ``FVD16``, or ``FID`` for images (Heusel et al. 2017). Only
    the sums of generated clips are kept; of real ones the features, or the
    sums if ``num_real`` is None. The standard error is a jackknife over ten
    groups of generated clips, which takes ten more distances. It needs at
    least 3 generated videos.

    With ``per_class``, ``FVD16/archery`` is the distance of the generated and
    the real clips of one class, by its name or else its number, if there are 2
    or more of each; ``FVD16-class-mean`` is the mean of these distances. All
    features are kept then.

    Args:
        per_class (bool): Whether to report distances of classes as well. Needs
            ``labels`` in ``real_data``, and ``c`` in batches of generated
            clips: one-hot labels of the same classes. Defaults to False.
        **kwargs: See :class:`ComparingMetric`.

    Raises:
        InputError: See :class:`ComparingMetric`; or the labels are not
            classes.
    """

    names = ('FVD', 'FID', 'FD')
    _real_stats: FeatureStats | None = None

    def __init__(
        self, *args: Any, per_class: bool = False, **kwargs: Any
    ) -> None:
        self.per_class = per_class
        super().__init__(*args, **kwargs)
        if per_class:
            # Images have the labels of the videos that they are frames of.
            videos = getattr(self.real_videos, 'videos', self.real_videos)
            self._labels = labels = getattr(
                videos, 'labels', np.zeros((len(videos), 0), np.float32)
            )
            if not _is_one_hot(torch.from_numpy(labels)):
                raise InputError(
                    f'{type(self).__name__}: per_class=True needs real videos '
                    'with classes, but these have '
                    + ('other labels' if labels.shape[1] else 'no labels')
                    + ': set labels of real_data'
                )
            names = getattr(videos, 'metainfo', {}).get('classes')
            self._classes = names or range(labels.shape[1])

    @property
    def result_names(self) -> list[str]:
        """Names of the results, including those of classes."""
        names = super().result_names
        if self.per_class:
            names.append(f'{self.name}-class-mean')
            names += [f'{self.name}/{each}' for each in self._classes]
        return names

    def _new_fake(self) -> FeatureRows | GroupedStats:
        if self.per_class:
            return FeatureRows()
        return GroupedStats(self.detector.num_features)

    def _new_real(self) -> FeatureRows | FeatureStats:
        if self.num_real is None and not self.per_class:
            return FeatureStats(self.detector.num_features)
        return FeatureRows()

    def _cache_key(self) -> dict:
        key = super()._cache_key()
        if self.per_class:
            # The fingerprint of the videos does not include labels.
            labels = self._labels.tobytes()
            key['labels'] = hashlib.sha256(labels).hexdigest()
        return key

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        """Process generated clips, see :class:`DetectorMetric`.

        Args:
            data_batch (dict): With ``per_class``, it also has ``c`` [N,
                c_dim].
            data_samples (list): See :class:`DetectorMetric`.

        Raises:
            InputError: See :class:`DetectorMetric`; or the labels are missing
                or have other classes than those of the real videos.
        """
        if self.per_class:
            labels = (data_batch or {}).get('c', [])
            if len(labels) != len(data_samples) or any(
                len(c) != len(self._classes) or not _is_one_hot(c[None])
                for c in labels
            ):
                raise InputError(
                    f'{self.name} with per_class=True needs a label of '
                    f'{len(self._classes)} classes for each generated clip: '
                    'set labels and data_root of test_dataloader.dataset to '
                    'those of real_data'
                )
            for sample, c in zip(data_samples, labels):
                sample['c'] = c[None]
        super().process(data_batch, data_samples)

    def _row(self, features: Tensor, c: Tensor | None) -> Tensor:
        """Return what to keep: features, and the class as last column."""
        if not self.per_class:
            return features
        assert c is not None  # process() has checked it
        classes = c.argmax(1, keepdim=True).to(features)
        return torch.cat([features, classes.expand(len(features), 1)], 1)

    def _summed(self, features: Tensor) -> FeatureStats:
        stats = FeatureStats(self.detector.num_features)
        for part in features.split(1024):
            stats.append(part)
        return stats

    def _compare_classes(self, fake: Tensor, real: Tensor) -> dict[str, float]:
        """Compare the kept rows of clips, class by class."""
        found, left_out = {}, []
        progress = tqdm(
            self._classes,
            desc=f'{self.name}: classes',
            unit='class',
            disable=None if is_main_process() else True,
        )
        for i, name in enumerate(progress):
            parts = [rows[rows[:, -1] == i, :-1] for rows in (fake, real)]
            if min(map(len, parts)) < self.min_clips:
                left_out.append(f'{name} ({len(parts[0])}, {len(parts[1])})')
            else:
                found[f'{self.name}/{name}'] = frechet_distance(
                    *map(self._summed, parts)
                )
        if left_out:
            MMLogger.get_current_instance().info(
                f'{self.name}: {len(left_out)} of {len(self._classes)} '
                'classes have too few clips (generated, real): '
                + ', '.join(left_out)
            )
        if not found:
            return {}
        mean = sum(found.values()) / len(found)
        return {f'{self.name}-class-mean': mean, **found}

    def compute_metrics(
        self, results: list[FeatureRows | GroupedStats]
    ) -> dict[str, float]:
        """Compare with the real clips.

        Args:
            results (list): One item, the kept rows or sums of all generated
                clips.
        """
        real = self.real
        fake: Any = results[0]
        by_class = {}
        if self.per_class:
            rows, digits = fake.features, fake.groups
            by_class = self._compare_classes(rows, real.features)
            fake = GroupedStats(self.detector.num_features)
            fake.groups = [
                self._summed(rows[digits == digit, :-1])
                for digit in range(NUM_GROUPS)
            ]
        if self._real_stats is None:
            if self.per_class:
                self._real_stats = self._summed(real.features[:, :-1])
            else:
                self._real_stats = getattr(real, 'stats', real)
        total = fake.total
        without = [total - group for group in fake.groups if group.num]
        if len(without) < 2 or any(stats.num < 2 for stats in without):
            without = []
        distance, *others = frechet_distances(
            [total, *without], self._real_stats
        )
        found = {self.name: distance}
        if others:
            found[f'{self.name}-se'] = jackknife_error(others)
        return found | by_class
