"""Precision and recall."""

from ...registry import METRICS
from ..frechet import FeatureRows
from ..measures import density_coverage, precision_recall
from .comparing import ComparingMetric


@METRICS.register_module()
class PrecisionRecall(ComparingMetric):
    """Share of realistic generated clips, and share of covered real clips.

    ``Precision16`` and ``Recall16`` use 3 neighbours, ``Density16`` and
    ``Coverage16`` use 5, see :mod:`~stylegan_v_mm.evaluation.measures`. The
    names for images have no number. The standard errors are those of means
    over clips, with fixed neighbourhoods. The time is proportional to the
    product of the two numbers of clips. For arguments and errors see
    :class:`ComparingMetric`.
    """

    names = ('Precision', 'Precision', 'Precision')
    min_clips = 6

    @property
    def result_names(self) -> list[str]:
        """Names of the four results and of their standard errors."""
        names = ('Precision', 'Recall', 'Density', 'Coverage')
        names = list(map(self._named, names))
        return [*names, *(f'{name}-se' for name in names)]

    def compute_metrics(self, results: list[FeatureRows]) -> dict[str, float]:
        """Compare with the real clips.

        Args:
            results (list): One item, the features of all generated clips.
        """
        sets = results[0].features, self.real.features
        parts = *precision_recall(*sets), *density_coverage(*sets)
        found = {}
        for name, values in zip(
            ('Precision', 'Recall', 'Density', 'Coverage'), parts
        ):
            name = self._named(name)
            found[name] = values.mean().item()
            found[f'{name}-se'] = values.std().item() / len(values) ** 0.5
        return found
