"""Motion features of clips, from optical flow, without weights.

They follow Liu et al. 2024, "Fréchet Video Motion Distance", which tracks
points with a network. Here OpenCV's dense inverse search (Kroeger et al. 2016,
"Fast Optical Flow using Dense Inverse Search") computes the motion of each
pixel.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ..registry import MODELS
from .detectors.base import check_video

# Height and width to which frames are resized.
_SIZE = 128
# Directions, and cells along height and along width.
_ANGLES, _CELLS = 8, 4
# The search finds a vector for every fourth pixel and interpolates the others.
_GRID = slice(2, None, 4)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Make OpenCV's results independent of the number of threads.

    OpenCV searches one stripe of the frame per thread, and the search does not
    propagate between stripes.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def lightness(video: Tensor) -> Tensor:
    """Average the largest and the smallest of red, green and blue.

    Unlike the weighted mean of the three, it does not depend on the hue.

    Args:
        video (Tensor): [..., 3, H, W], uint8.

    Returns:
        Tensor: [..., H, W], uint8.
    """
    sums = video.amax(-3).int() + video.amin(-3)
    return ((sums + 1) // 2).to(torch.uint8)


def velocities(frames: np.ndarray) -> np.ndarray:
    """Compute the motion of each pixel from frame to frame.

    Args:
        frames (np.ndarray): [T, H, W], uint8.

    Returns:
        np.ndarray: [T - 1, 128, 128, 2], float32, to the right and down, in
        pixels of frames of 128 x 128.
    """
    shrinks = min(frames.shape[1:]) > _SIZE
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    small = [
        cv2.resize(frame, (_SIZE, _SIZE), interpolation=how)
        for frame in frames
    ]
    # Any, because OpenCV's annotations do not allow None as initial flow.
    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    with _one_thread():
        return np.stack([search.calc(a, b, None) for a, b in pairwise(small)])


def accelerations(velocity: np.ndarray) -> np.ndarray:
    """Compute the change of velocity along the motion of each pixel.

    Args:
        velocity (np.ndarray): [T, H, W, 2], float32, in pixels per frame.

    Returns:
        np.ndarray: [T - 1, H, W, 2], float32: the velocity in the next frame,
        at the position to which each pixel has moved, minus its own. Beyond
        the border, the velocity of the border is used.
    """
    y, x = np.mgrid[: velocity.shape[1], : velocity.shape[2]]
    y, x = y.astype(np.float32), x.astype(np.float32)
    return np.stack(
        [
            cv2.remap(
                after,
                x + now[..., 0],
                y + now[..., 1],
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            - now
            for now, after in pairwise(velocity)
        ]
    )


def histogram(vectors: np.ndarray) -> np.ndarray:
    """Sum vectors by their direction, in each cell of the frame.

    Args:
        vectors (np.ndarray): [T, H, W, 2], float32.

    Returns:
        np.ndarray: [128], float64: for each of 4 x 4 cells, row by row, and
        each of 8 directions (left, left and up, up, ...), the sum of
        log2(1 + length) divided by the number of all vectors in the cell.
    """
    num, height, width, _ = vectors.shape
    x, y = vectors[..., 0], vectors[..., 1]
    length = np.log2(1 + np.hypot(x, y))
    turn = np.arctan2(y, x) / (2 * np.pi) + 0.5  # from 0 to 1
    angle = np.rint(turn * _ANGLES).astype(np.int64) % _ANGLES
    row = np.arange(height) * _CELLS // height
    column = np.arange(width) * _CELLS // width
    cell = row[:, None] * _CELLS + column
    sums = np.bincount(
        (cell * _ANGLES + angle).ravel(),
        length.ravel(),
        _CELLS**2 * _ANGLES,
    )
    return sums * _CELLS**2 / (num * height * width)


@MODELS.register_module()
class FlowHistograms(nn.Module):
    """Histograms of the velocities and the accelerations of a clip.

    Frames are reduced to their :func:`lightness` and to 128 x 128 pixels, of
    which every fourth counts along each axis. So the features hardly depend on
    the content. They are computed on a single thread of the CPU, to be the
    same everywhere; ``digest`` contains OpenCV's version, because the flow may
    differ between versions.
    """

    is_random = False
    num_features = 2 * _CELLS**2 * _ANGLES
    min_num_frames = 3  # for an acceleration
    digest = f'FlowHistograms OpenCV {cv2.__version__}'

    def features(self, video: Tensor) -> Tensor:
        """Compute features [N, 256] of clips [N, T, 3, H, W], uint8.

        Raises:
            InputError: ``video`` is of another kind or has too few frames.
        """
        check_video(video, self.min_num_frames)
        rows = []
        for frames in lightness(video).cpu().numpy():
            velocity = velocities(frames)
            rows += [
                histogram(each[:, _GRID, _GRID])
                for each in (velocity, accelerations(velocity))
            ]
        return torch.from_numpy(np.stack(rows)).float().view(len(video), -1)
