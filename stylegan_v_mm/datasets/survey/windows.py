"""Measures of successive frames that no scene explains."""

from collections.abc import Iterator

import av
import cv2
import numpy as np

#: Left, top, right, bottom as shares of width and height, from 0 to 1.
Box = tuple[float, float, float, float]
# Frames; fewer say little.
LEAST = 16
# Largest side of small frames, in pixels.
_SIDE = 256
# Grey levels, 0 to 255, unless something else is said.
STILL = 0.25  # mean change of a frame that repeats the last one
_BLACK = 28  # the brightest pixel of a black border
FLICKER = 2.0  # typical jump of the mean brightness
_MOVES = 3.0  # least spread of a pixel where something moves
_CAPTION_SPREAD = 2.0  # of a pixel that does not change
_CAPTION_EDGE = 24.0  # contrast of writing to its neighbours


def shrink(frame: np.ndarray) -> np.ndarray:
    """Make a frame [H, W, 3] at most 256 pixels wide and high."""
    height, width = frame.shape[:2]
    scale = min(1, _SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


class Cuts:
    """Finds cuts, with PySceneDetect.

    A cut differs from its neighbourhood, not only from the frame before:
    fast motion is none.

    Args:
        fps: Frames per second.
    """

    def __init__(self, fps: float) -> None:
        # Slow to import, and only needed here.
        from scenedetect import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector

        self._detector = AdaptiveDetector(
            adaptive_threshold=3.5, min_scene_len=2
        )
        self._time = FrameTimecode(0, float(fps))

    def show(self, number: int, frame: np.ndarray) -> list[int]:
        """Show the next small frame; return the first frames after cuts."""
        found = self._detector.process_frame(
            self._time + number, np.ascontiguousarray(frame[..., ::-1])
        )
        return [cut.frame_num for cut in found]


def are_interlaced(judged: list[av.VideoFrame]) -> list[bool]:
    """Read from frames of FFmpeg's ``idet`` whether they are interlaced.

    Those about which the filter cannot tell are left out.
    """
    kinds = [x.metadata['lavfi.idet.multiple.current_frame'] for x in judged]
    return [kind in ('tff', 'bff') for kind in kinds if kind != 'undetermined']


def repetition(changes: np.ndarray) -> tuple[str, np.ndarray]:
    """Say how frames are repeated, if there is a pattern.

    Args:
        changes: Mean changes from frame to frame, [n], in grey levels.

    Returns:
        The pattern, '' if there is none, and which frames repeat the one
        before, [n].
    """
    none = '', np.zeros(len(changes), bool)
    moving = changes[changes > STILL]
    if len(changes) < LEAST or len(moving) < 4:
        return none
    new = changes > np.maximum(STILL, 0.1 * np.median(moving))
    gaps = np.diff(np.flatnonzero(new))
    if new.mean() > 0.85 or not len(gaps) or gaps.max() > 4:
        return none
    if np.mean(gaps == np.median(gaps)) >= 0.8 and np.median(gaps) > 1:
        return f'each {int(np.median(gaps))} times', ~new
    # As where 24 frames a second became 30.
    every = np.diff(np.flatnonzero(gaps > 1))
    if len(every) and np.mean(every == np.median(every)) >= 0.8:
        return f'one in {int(np.median(every)) + 1}', ~new
    return none


def flicker(window: np.ndarray) -> float:
    """Measure by how much brightness jumps to and fro, in grey levels.

    The median distance of the mean brightness from the mean of both
    neighbours: what rises or falls steadily does not flicker.
    """
    means = window.mean((1, 2))
    jumps = means[1:-1] - (means[:-2] + means[2:]) / 2
    return float(np.median(np.abs(jumps)))


def black_border(window: np.ndarray) -> Box | None:
    """Find the rectangle inside of black edges; None if there are none."""
    brightest = window.max(0)
    if np.median(brightest) <= 2 * _BLACK:
        return None  # a dark scene
    return _inside(
        *(np.quantile(brightest, 0.98, axis=axis) <= _BLACK for axis in (0, 1))
    )


def blurred_border(window: np.ndarray) -> Box | None:
    """Find the rectangle between two seams, outside of which less is sharp."""
    frames = window[::8].astype(np.float32)
    detail = np.mean([np.abs(cv2.Laplacian(x, cv2.CV_32F)) for x in frames], 0)
    box = [0.0, 0.0, 1.0, 1.0]
    for axis in (0, 1):
        profile = detail.mean(axis)
        steps = np.abs(np.diff(frames, axis=2 - axis)).mean((0, 1 + axis))
        n = len(profile)
        outer, inner = n // 16, n * 3 // 8
        left = outer + int(np.argmax(steps[outer:inner])) + 1
        right = n - outer - int(np.argmax(steps[::-1][outer:inner])) - 1
        seams = min(steps[left - 1], steps[right - 1])
        blurred = np.r_[profile[: left - 1], profile[right + 1 :]].mean()
        if (
            abs(left - (n - right)) <= 0.03 * n
            and seams > 2 * np.median(steps)
            and blurred < 0.6 * profile[left + 1 : right - 1].mean()
        ):
            box[axis], box[axis + 2] = left / n, right / n
    return None if box == [0, 0, 1, 1] else (box[0], box[1], box[2], box[3])


def captions(window: np.ndarray, box: Box | None) -> list[Box]:
    """Find rectangles of writing and logos that stay while the rest moves.

    They show only where the camera moves: before a fixed one, walls are as
    still as a logo.

    Args:
        window: Grey frames [n, h, w], uint8.
        box: Rectangle inside of borders.
    """
    height, width = window.shape[1:]
    left, top, right, bottom = 0, 0, width, height
    if box is not None:
        # Edges of a border are as still as writing.
        left, top = (
            int(np.ceil(box[i] * n)) + 2 for i, n in ((0, width), (1, height))
        )
        right, bottom = (
            int(box[i] * n) - 2 for i, n in ((2, width), (3, height))
        )
    inner = window[:, top:bottom, left:right]
    spread = inner.std(0, dtype=np.float32)
    mean = inner.mean(0, dtype=np.float32)
    edges = cv2.morphologyEx(mean, cv2.MORPH_GRADIENT, np.ones((3, 3)))
    fixed = (spread < _CAPTION_SPREAD) & (edges > _CAPTION_EDGE)
    # Letters of a line belong together.
    reach = max(4, width // 12)
    near = cv2.dilate(fixed.astype(np.uint8), np.ones((reach // 4, reach)))
    if np.mean(spread[near == 0] > _MOVES) < 0.9:
        return []
    count, labels = cv2.connectedComponents(near)
    regions = []
    for i in range(1, count):
        ys, xs = np.nonzero(fixed & (labels == i))
        if len(ys) >= max(12, 0.0005 * fixed.size):
            regions.append(
                (
                    (left + xs.min()) / width,
                    (top + ys.min()) / height,
                    (left + xs.max() + 1) / width,
                    (top + ys.max() + 1) / height,
                )
            )
    return regions


def runs(flags: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield start and end of each run of True in [n]."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False].astype(int)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist())


def _leading(flags: np.ndarray) -> int:
    """Count the True values at the beginning of [n]."""
    return len(flags) if flags.all() else int(np.argmin(flags))


def _inside(columns: np.ndarray, rows: np.ndarray) -> Box | None:
    """Return the rectangle inside of flagged edges of at least 2 %."""
    edges = []
    for flags in (columns, rows):
        n = len(flags)
        first, last = _leading(flags), _leading(flags[::-1])
        if first == n:
            return None
        edges.append(
            (
                first / n if first >= 0.02 * n else 0.0,
                1 - last / n if last >= 0.02 * n else 1.0,
            )
        )
    (left, right), (top, bottom) = edges
    box = left, top, right, bottom
    return None if box == (0, 0, 1, 1) else box
