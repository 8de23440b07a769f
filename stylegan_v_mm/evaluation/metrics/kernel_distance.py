"""Kernel distance."""

from typing import Any

from ...errors import check_at_least
from ...registry import METRICS
from ..frechet import FeatureRows
from ..measures import jackknife_error, kernel_distance
from .comparing import ComparingMetric


@METRICS.register_module()
class KernelDistance(ComparingMetric):
    """Kernel distance times 1000: ``KVD16`` of clips, ``KID`` of images.

    See :func:`~stylegan_v_mm.evaluation.measures.kernel_distance`. The
    standard error is a jackknife over ten groups of generated clips. If kernel
    or means differ from the published ones, the name contains them:
    ``KVD16-degree2-offset0-biased``. These three options are for JEDi and
    ablations.

    Args:
        degree (int): Exponent of the kernel, at least 1. Defaults to 3.
        offset (float): Number added to the scaled product before the power,
            at least 0. Defaults to 1.
        biased (bool): Whether to use plain means over all clips. Defaults to
            False.
        **kwargs: See :class:`ComparingMetric`.

    Raises:
        InputError: See :class:`ComparingMetric`; or ``degree`` or ``offset``
            is out of range.
    """

    names = ('KVD', 'KID', 'KD')
    published_images = 1_000_000

    def __init__(
        self,
        *args: Any,
        degree: int = 3,
        offset: float = 1,
        biased: bool = False,
        **kwargs: Any,
    ) -> None:
        check_at_least(1, 'KernelDistance', degree=degree)
        check_at_least(0, 'KernelDistance', offset=offset)
        self.degree, self.offset, self.biased = degree, offset, biased
        super().__init__(*args, **kwargs)

    def _named(self, name: str) -> str:
        name = super()._named(name)
        if self.degree != 3:
            name += f'-degree{self.degree}'
        if self.offset != 1:
            name += f'-offset{self.offset:g}'
        return name + '-biased' * self.biased

    def protocol(self, size: int) -> dict:
        """Describe the kernel as well; see :class:`DetectorMetric`."""
        return super().protocol(size) | dict(
            degree=self.degree, offset=self.offset, biased=self.biased
        )

    def compute_metrics(self, results: list[FeatureRows]) -> dict[str, float]:
        """Compare with the real clips.

        Args:
            results (list): One item, the features of all generated clips.
        """
        (fake,) = results
        distance, without = kernel_distance(
            fake.features,
            self.real.features,
            fake.groups,
            degree=self.degree,
            offset=self.offset,
            biased=self.biased,
        )
        found = {self.name: 1000 * distance}
        if len(without) > 1:
            found[f'{self.name}-se'] = 1000 * jackknife_error(without)
        return found
