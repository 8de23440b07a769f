"""Distance of optical-flow histograms."""

from typing import Any

from ...registry import METRICS
from .frechet_video_distance import FrechetVideoDistance


@METRICS.register_module()
class FlowDistance(FrechetVideoDistance):
    """Frechet distance of how clips move: ``FlowDist16``.

    Of :class:`~stylegan_v_mm.evaluation.flow.FlowHistograms`, which need no
    weights and see next to nothing of content and colours.

    Args:
        num_frames (int): See :class:`ComparingMetric`, as the others; at
            least 3.
        num_real (int, optional): See there.
        resolution (int): See there.
        real_data (dict): See there.
        **kwargs: See :class:`FrechetVideoDistance`, but for ``detector``.

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
            num_frames,
            num_real,
            resolution,
            real_data,
            dict(type='FlowHistograms'),
            **kwargs,
        )

    def _named(self, name: str) -> str:
        return super()._named('FlowDist')
