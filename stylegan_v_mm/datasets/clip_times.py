"""Choose the times of a clip in a video.

Times are in frames from the start of the video. Times of real clips are
integers (int64). Those of clips to be generated may be fractional (float64):
the whole clip is shifted by a fraction of a frame, and the distances within it
stay integers.

These are pure functions; all randomness comes from the generator argument.
"""

from collections.abc import Callable, Sequence

import numpy as np

POWERS_OF_TWO = tuple(2**i for i in range(12))


def random_span(
    video_len: int,
    num_frames: int,
    rng: np.random.Generator,
    max_dist: int = 32,
    total_dists: Sequence[int] = POWERS_OF_TWO,
    fractional: bool = False,
) -> np.ndarray:
    """Draw the sparse clip of StyleGAN-V: a random span, random times in it.

    The span (last time minus first) is drawn uniformly from those of
    ``total_dists`` that hold the clip and fit in the video and in
    ``max_dist``. Then its start is drawn, and then distinct integer distances
    for the frames in between (StyleGAN-V, section 3.3, "sparse training"). A
    single frame has span 0 and can be anywhere.

    Args:
        video_len: Length of the video in frames.
        num_frames: Frames in the clip, T.
        rng: Source of randomness.
        max_dist: Largest allowed span in frames.
        total_dists: Spans to choose from.
        fractional: Whether the clip may start between two frames.

    Returns:
        ``t`` [T], strictly increasing, in [0, video_len - 1]; int64, or
        float64 if ``fractional``.

    Raises:
        ValueError: If no span is possible.
    """
    _check_num_frames(num_frames)
    spans = _spans(num_frames, min(video_len - 1, max_dist), total_dists)
    if video_len < 1 or not spans:
        raise ValueError(
            f'no clip of {num_frames} frames with a span in '
            f'{tuple(total_dists)} and at most max_dist={max_dist} fits in a '
            f'video of {video_len} frames'
        )
    span = spans[rng.integers(len(spans))]
    inner = rng.choice(
        np.arange(1, span), size=max(num_frames - 2, 0), replace=False
    )
    ends = [0] if num_frames == 1 else [0, span]
    steps = np.sort(np.concatenate([ends, inner]).astype(np.int64))
    return _offset(video_len - 1 - span, rng, fractional) + steps


def uniform_gap(
    video_len: int,
    num_frames: int,
    rng: np.random.Generator,
    max_gap: int | None = None,
    gaps: Sequence[int] | None = None,
    fractional: bool = False,
) -> np.ndarray:
    """Draw equally distant times with a random gap (the MoCoGAN rule).

    The gap is drawn uniformly from those of ``gaps`` that are at most
    ``max_gap`` and let the clip fit in the video; without ``gaps``, from all
    integers in [1, min(max_gap, video_len // num_frames)].

    Args:
        video_len: Length of the video in frames.
        num_frames: Frames in the clip, T.
        rng: Source of randomness.
        max_gap: Largest allowed gap in frames; None: no limit.
        gaps: Gaps to choose from; None: every integer.
        fractional: Whether the clip may start between two frames.

    Returns:
        ``t`` [T], strictly increasing, in [0, video_len - 1]; int64, or
        float64 if ``fractional``.

    Raises:
        ValueError: If no gap is possible.
    """
    _check_num_frames(num_frames)
    if gaps is None:
        gaps = range(1, video_len // num_frames + 1)
    fitting = [
        gap
        for gap in gaps
        if gap >= 1
        and (max_gap is None or gap <= max_gap)
        and (num_frames - 1) * gap + 1 <= video_len
    ]
    if not fitting:
        raise ValueError(
            f'no clip of {num_frames} frames with a gap in {tuple(gaps)} and '
            f'at most max_gap={max_gap} fits in a video of {video_len} frames'
        )
    gap = fitting[rng.integers(len(fitting))]
    slack = video_len - 1 - (num_frames - 1) * gap
    return _offset(slack, rng, fractional) + gap * np.arange(num_frames)


def consecutive(
    video_len: int,
    num_frames: int,
    rng: np.random.Generator | None = None,
    frame_stride: int = 1,
    fractional: bool = False,
) -> np.ndarray:
    """Choose times that are ``frame_stride`` frames apart.

    Args:
        video_len: Length of the video in frames.
        num_frames: Frames in the clip, T.
        rng: Source of the random start; None: start at 0.
        frame_stride: Distance between neighbours in frames.
        fractional: Whether the clip may start between two frames.

    Returns:
        ``t`` [T], strictly increasing, in [0, video_len - 1]; int64, or
        float64 if ``fractional``.

    Raises:
        ValueError: If the clip does not fit in the video.
    """
    _check_num_frames(num_frames)
    if frame_stride < 1:
        raise ValueError(f'frame_stride must be positive, got {frame_stride}')
    slack = video_len - 1 - (num_frames - 1) * frame_stride
    if slack < 0:
        raise ValueError(
            f'no clip of {num_frames} frames at frame_stride={frame_stride} '
            f'fits in a video of {video_len} frames'
        )
    start = 0 if rng is None else _offset(slack, rng, fractional)
    return start + frame_stride * np.arange(num_frames)


METHODS: dict[str, Callable[..., np.ndarray]] = {
    'random': random_span,
    'uniform': uniform_gap,
    'consecutive': consecutive,
}


def min_video_len(
    method: str,
    num_frames: int,
    max_dist: int = 32,
    total_dists: Sequence[int] = POWERS_OF_TWO,
    max_gap: int | None = None,
    gaps: Sequence[int] | None = None,
    frame_stride: int = 1,
) -> int:
    """Compute the length of the shortest video that holds a clip.

    Args:
        method: Key of :data:`METHODS`; the other arguments are those of the
            method and are ignored where it has no such argument.
        num_frames: See :func:`random_span`.
        max_dist: See :func:`random_span`.
        total_dists: See :func:`random_span`.
        max_gap: See :func:`uniform_gap`.
        gaps: See :func:`uniform_gap`.
        frame_stride: See :func:`consecutive`.

    Returns:
        The smallest ``video_len`` for which the method does not raise.

    Raises:
        ValueError: If no video is long enough for such a clip.
    """
    _check_num_frames(num_frames)
    if method == 'random':
        spans = _spans(num_frames, max_dist, total_dists)
        wanted = f'a span in {tuple(total_dists)} and max_dist={max_dist}'
    elif method == 'uniform':
        spans = [
            (num_frames - 1) * gap
            for gap in ([1] if gaps is None else gaps)
            if gap >= 1 and (max_gap is None or gap <= max_gap)
        ]
        wanted = f'gaps={gaps} and max_gap={max_gap}'
    elif method == 'consecutive':
        spans = [(num_frames - 1) * frame_stride] if frame_stride > 0 else []
        wanted = f'frame_stride={frame_stride}'
    else:
        raise ValueError(
            f'method must be one of {", ".join(METHODS)}, got {method!r}'
        )
    if not spans:
        raise ValueError(
            f'no video is long enough for a clip of {num_frames} frames with '
            f'{wanted}'
        )
    return min(spans) + 1


def _check_num_frames(num_frames: int) -> None:
    if num_frames < 1:
        raise ValueError(f'num_frames must be at least 1, got {num_frames}')


def _spans(
    num_frames: int, max_span: int, total_dists: Sequence[int]
) -> list[int]:
    if num_frames == 1:
        return [0]
    return [s for s in total_dists if num_frames - 1 <= s <= max_span]


def _offset(
    slack: int, rng: np.random.Generator, fractional: bool
) -> np.int64 | float:
    """Draw the start from {0, ..., slack}; from [0, slack) if fractional."""
    return rng.random() * slack if fractional else rng.integers(slack + 1)
