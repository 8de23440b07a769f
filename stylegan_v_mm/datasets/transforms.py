"""Transforms from a video to a clip: times, frames, size, flip, tensors."""

import inspect
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch

from ..errors import InputError, nearest
from ..registry import TRANSFORMS
from . import clip_times


@TRANSFORMS.register_module()
class SampleClip:
    """Choose the times of a clip, and those of clips to be generated.

    A clip to be generated imitates the data: it gets the length and the label
    of a random video, and its times follow the same rule, except that they
    may be between two frames.

    Required Keys:

    - source
    - video_len
    - rng
    - video_lens, labels (if ``num_gen`` > 0)

    Added Keys:

    - frame_inds: [T], int64, frames in the video
    - t: [T], float64, their times in frames, from the start of a random
      window of ``video_len`` frames
    - gen_t: [num_gen, T], float64 (if ``num_gen`` > 0)
    - gen_c: [num_gen, c_dim], float32 (if ``num_gen`` > 0)

    Args:
        num_frames: Frames in a clip, T.
        method: ``'random'``, ``'uniform'`` or ``'consecutive'``; see
            :mod:`stylegan_v_mm.datasets.clip_times`.
        num_gen: Number of clips to be generated for each clip of the data.
        random_start: Whether clips start at a random frame. With
            ``'consecutive'``, False makes them start at frame 0.
        settings: Arguments of the method: ``max_dist`` and ``total_dists``
            (an ablation), ``max_gap`` and ``gaps`` (an ablation), or
            ``frame_stride``.

    Raises:
        InputError: If the settings are wrong, or no video is long enough for
            such a clip.
    """

    def __init__(
        self,
        num_frames: int,
        method: str = 'random',
        num_gen: int = 0,
        random_start: bool = True,
        **settings: Any,
    ) -> None:
        draw = clip_times.METHODS.get(method)
        known = inspect.signature(draw).parameters if draw else settings
        for key in settings:
            if key not in known:
                raise InputError(
                    f'SampleClip: method={method!r} takes no {key!r}'
                    f'{nearest(key, known)}'
                )
        try:
            #: Length of the shortest video that can be used.
            self.min_num_frames = clip_times.min_video_len(
                method, num_frames, **settings
            )
            self._draw = partial(
                clip_times.METHODS[method],
                num_frames=num_frames,
                **settings,
            )
            self._draw(self.min_num_frames, rng=np.random.default_rng(0))
        except (TypeError, ValueError) as error:
            raise InputError(f'SampleClip: {error}') from None
        if not random_start and method != 'consecutive':
            raise InputError(
                'SampleClip: random_start=False needs method="consecutive", '
                f'got {method!r}'
            )
        self.num_gen = num_gen
        self.random_start = random_start

    def __call__(self, results: dict) -> dict:
        """Add the times."""
        rng = results['rng'] if self.random_start else None
        t = self._draw(results['video_len'], rng=rng)
        window_slack = len(results['source']) - results['video_len']
        window = rng.integers(window_slack + 1) if rng else 0
        results['frame_inds'] = window + t
        results['t'] = t.astype(np.float64)
        if self.num_gen:
            rng = results['rng']
            videos = rng.integers(len(results['labels']), size=self.num_gen)
            results['gen_c'] = results['labels'][videos]
            results['gen_t'] = np.stack(
                [
                    self._draw(video_len, rng=rng, fractional=True)
                    for video_len in results['video_lens'][videos]
                ]
            )
        return results


@TRANSFORMS.register_module()
class LoadClip:
    """Decode the chosen frames and no others.

    Required Keys:

    - source
    - frame_inds

    Added Keys:

    - frames: [T, H, W, 3], uint8, RGB
    """

    def __call__(self, results: dict) -> dict:
        """Add the frames."""
        results['frames'] = results['source'].read(results['frame_inds'])
        return results


@TRANSFORMS.register_module()
class ResizeCrop:
    """Crop the central square and resize it.

    This equals resizing the shorter side and then cropping the centre.
    Downscaling averages over areas (no aliasing), upscaling uses Lanczos.
    Frames that already have this size are not changed.

    Required Keys:

    - frames

    Modified Keys:

    - frames: [T, resolution, resolution, 3], uint8

    Args:
        resolution: Width and height in pixels.

    Raises:
        InputError: If ``resolution`` is not a positive integer.
    """

    def __init__(self, resolution: int) -> None:
        if not isinstance(resolution, int) or resolution < 1:
            raise InputError(
                'ResizeCrop: resolution must be a positive integer, got '
                f'{resolution!r}'
            )
        self.resolution = resolution

    def __call__(self, results: dict) -> dict:
        """Replace the frames."""
        frames = results['frames']
        height, width = frames.shape[1:3]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        frames = frames[:, top : top + side, left : left + side]
        if side != self.resolution:
            frames = np.stack([self._resize(frame) for frame in frames])
        results['frames'] = frames
        return results

    def _resize(self, frame: np.ndarray) -> np.ndarray:
        shrink = frame.shape[0] > self.resolution
        return cv2.resize(
            frame,
            (self.resolution, self.resolution),
            interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LANCZOS4,
        )


@TRANSFORMS.register_module()
class FlipClip:
    """Mirror all frames of a clip, or none, left to right.

    Required Keys:

    - frames
    - rng

    Modified Keys:

    - frames

    Args:
        prob: Probability of mirroring.

    Raises:
        InputError: If ``prob`` is not in [0, 1].
    """

    def __init__(self, prob: float = 0.5) -> None:
        if not 0 <= prob <= 1:
            raise InputError(f'FlipClip: prob must be in [0, 1], got {prob}')
        self.prob = prob

    def __call__(self, results: dict) -> dict:
        """Replace the frames."""
        if results['rng'].random() < self.prob:
            frames = results['frames']
            results['frames'] = np.stack([cv2.flip(f, 1) for f in frames])
        return results


@TRANSFORMS.register_module()
class PackClip:
    """Convert what the model needs to tensors, and drop everything else.

    Required Keys:

    - frames
    - t
    - c
    - gen_t, gen_c (optional)

    Returns a new dict with:

    - video: [T, 3, H, W], uint8, RGB
    - t: [T], float64
    - c: [c_dim], float32
    - gen_t: [num_gen, T], float64 (if given)
    - gen_c: [num_gen, c_dim], float32 (if given)
    """

    def __call__(self, results: dict) -> dict[str, torch.Tensor]:
        """Return the tensors."""
        frames = results['frames']
        num_frames, height, width, channels = frames.shape
        video = np.empty((num_frames, channels, height, width), frames.dtype)
        for frame, planes in zip(frames, video):
            # Ten times as fast as numpy's transposed copy.
            cv2.split(frame, [*planes])
        packed = {'video': torch.from_numpy(video)}
        for key in ('t', 'c', 'gen_t', 'gen_c'):
            if key in results:
                packed[key] = torch.tensor(results[key])
        return packed
