"""FFmpeg's filters, fed frame by frame."""

from fractions import Fraction

import av
import av.filter
import numpy as np


class FrameFilter:
    """A filter that takes frames of one size and returns frames.

    Args:
        name (str): FFmpeg's name of the filter, such as 'idet'.
        options (str): Its options. Defaults to none.
        format (str): Pixel format that it works in. Defaults to 'yuv444p'.
    """

    def __init__(
        self, name: str, options: str = '', format: str = 'yuv444p'
    ) -> None:
        self._name, self._options, self._format = name, options, format
        self._graph: av.filter.Graph | None = None
        self._count = 0

    def push(self, frame: np.ndarray) -> list[av.VideoFrame]:
        """Give the next frame [H, W, 3], uint8; return what is ready."""
        picture = av.VideoFrame.from_ndarray(frame)
        picture = picture.reformat(format=self._format)
        if self._graph is None:
            self._graph = self._build(picture)
        # FFmpeg wants times that rise; how fast does not matter here.
        picture.pts = self._count
        self._count += 1
        self._graph.vpush(picture)
        return self._ready()

    def flush(self) -> list[av.VideoFrame]:
        """Return the last frames, which the filter has held back."""
        if self._graph is None:
            return []
        self._graph.vpush(None)
        return self._ready()

    def _build(self, picture: av.VideoFrame) -> av.filter.Graph:
        graph = av.filter.Graph()
        source = graph.add_buffer(
            width=picture.width,
            height=picture.height,
            format=picture.format,
            time_base=Fraction(1, 25),
        )
        inner = graph.add(self._name, self._options)
        sink = graph.add('buffersink')
        source.link_to(inner)
        inner.link_to(sink)
        graph.configure()
        return graph

    def _ready(self) -> list[av.VideoFrame]:
        frames = []
        while self._graph is not None:
            try:
                frames.append(self._graph.vpull())
            except (av.BlockingIOError, av.EOFError):
                break
        return frames
