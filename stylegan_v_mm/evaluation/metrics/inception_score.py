"""Inception score."""

from ...registry import METRICS
from ..frechet import FeatureRows
from ..measures import inception_score
from .base import DetectorMetric


@METRICS.register_module()
class InceptionScore(DetectorMetric):
    """Inception score: ``IS`` of images, ``ISv16`` of clips.

    It is the mean of
    :func:`~stylegan_v_mm.evaluation.measures.inception_score` over ten parts
    of the generated clips. ``IS-std`` is the published standard deviation of
    the parts, ``IS-se`` the standard error of their mean. The detector must
    have ``probabilities``. For arguments and errors see
    :class:`DetectorMetric`.
    """

    names = ('ISv', 'IS', 'IS')
    output = 'probabilities'
    min_clips = 10

    @property
    def result_names(self) -> list[str]:
        """Names of the results, including the standard deviation."""
        return [*super().result_names, f'{self.name}-std']

    def compute_metrics(self, results: list[FeatureRows]) -> dict[str, float]:
        """Compute the score.

        Args:
            results (list): One item, the probabilities of all generated clips.
        """
        scores = inception_score(results[0].features)
        return {
            self.name: scores.mean().item(),
            f'{self.name}-std': scores.std(correction=0).item(),
            f'{self.name}-se': scores.std().item() / len(scores) ** 0.5,
        }
