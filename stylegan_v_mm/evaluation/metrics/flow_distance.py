"""Distance of optical-flow histograms."""

from typing import Any

from ...registry import METRICS
from .frechet_video_distance import FrechetVideoDistance


@METRICS.register_module()
class FlowDistance(FrechetVideoDistance):
    """Frechet distance of the motion of clips: ``FlowDist16``.

    The features are :class:`~stylegan_v_mm.evaluation.flow.FlowHistograms`,
    which need no weights and hardly depend on content and colours.

    Args:
        num_frames (int): See :class:`ComparingMetric`; at least 3.
        num_real (int, optional): See :class:`ComparingMetric`.
        resolution (int): See :class:`ComparingMetric`.
        real_data (dict): See :class:`ComparingMetric`.
        **kwargs: See :class:`FrechetVideoDistance`; without ``detector``.

    Raises:
        InputError: See :class:`FrechetVideoDistance`.
    """

    def __init__(
        self,
        num_frames: int,
        num_real: int | None,
        resolution: int,
        real_data: dict,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_frames=num_frames,
            num_real=num_real,
            resolution=resolution,
            real_data=real_data,
            detector=dict(type='FlowHistograms'),
            **kwargs,
        )

    def _named(self, name: str) -> str:
        return super()._named('FlowDist')
