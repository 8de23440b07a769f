"""Inception score."""

from ...registry import METRICS
from ..frechet import FeatureRows
from ..measures import inception_score
from .base import DetectorMetric


@METRICS.register_module()
class InceptionScore(DetectorMetric):
    """Inception score: ``IS`` of images, ``ISv16`` of clips.

    See :func:`~stylegan_v_mm.evaluation.measures.inception_score`. The mean
    over ten parts of the generated clips, with their standard deviation, the
    published one, as ``IS-std``; the standard error is that of a mean of ten.
    The detector gives probabilities. For arguments and errors see
    :class:`DetectorMetric`.
    """

    names = ('ISv', 'IS', 'IS')
    output = 'probabilities'
    min_clips = 10

    @property
    def result_names(self) -> list[str]:
        """Also the standard deviation."""
        return [*super().result_names, f'{self.name}-std']

    def compute_metrics(self, results: list[FeatureRows]) -> dict[str, float]:
        """Compute the score.

        Args:
            results (list): The probabilities of all generated clips, alone.
        """
        scores = inception_score(results[0].features)
        return {
            self.name: scores.mean().item(),
            f'{self.name}-std': scores.std(correction=0).item(),
            f'{self.name}-se': scores.std().item() / len(scores) ** 0.5,
        }
