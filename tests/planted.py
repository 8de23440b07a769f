"""Footage with flaws at known places."""

import cv2
import numpy as np
import torch

from stylegan_v_mm.video.encoding import write_video

#: Kind of a finding -> how frames [T, H, W, 3] get it.
PLANTS = {}


def scenery(seed, num_frames=96, height=96, width=128):
    """A camera that pans over a landscape, and does not stop."""
    random = np.random.default_rng(seed)
    layers = [
        cv2.resize(
            random.integers(0, 256, (size, 4 * size, 3), dtype=np.uint8),
            (6 * width, 2 * height),
            interpolation=cv2.INTER_CUBIC,
        )
        for size in (4, 12, 48)
    ]
    tint = random.uniform(0.3, 1.3, 3)
    picture = np.clip(tint * np.average(layers, 0, [3, 2, 1]), 0, 255).astype(
        np.uint8
    )
    return np.stack(
        [
            picture[20 : 20 + height, x : x + width]
            for x in 2 * np.arange(num_frames)
        ]
    )


def write(path, frames):
    """Write a video of frames [T, H, W, 3]."""
    video = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    write_video(path, video, 25)


def plant(kind):
    def keep(function):
        PLANTS[kind] = function
        return function

    return keep


@plant('cut')
def cut(frames, other):
    """Another scene from the middle on."""
    half = len(frames) // 2
    return np.concatenate([frames[:half], other[half:]])


@plant('black border')
def black_border(frames, other):
    """An eighth of the height at the top and the bottom."""
    frames = frames.copy()
    edge = frames.shape[1] // 8
    frames[:, :edge] = frames[:, -edge:] = 0
    return frames


@plant('blurred border')
def blurred_border(frames, other):
    """A narrow video before its own blurred enlargement."""
    height, width = frames.shape[1:3]
    narrow = width // 2
    frames = frames.copy()
    for frame in frames:
        inner = cv2.resize(frame, (narrow, height))
        frame[:] = cv2.GaussianBlur(frame, (0, 0), width / 24)
        frame[:, (width - narrow) // 2 :][:, :narrow] = inner
    return frames


@plant('caption')
def caption(frames, other):
    """White writing with a dark edge, at the lower left."""
    frames = frames.copy()
    height, width = frames.shape[1:3]
    place = width // 16, height - height // 16
    for frame in frames:
        for colour, thick in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(
                frame, 'LIVE 12:30', place, cv2.FONT_HERSHEY_SIMPLEX,
                width / 320, colour, thick, cv2.LINE_AA,
            )  # fmt: skip
    return frames


@plant('standstill')
def standstill(frames, other):
    """From frame 20 on for 30 frames; then the motion goes on."""
    return frames[np.r_[0:20, [20] * 30, 21 : len(frames) - 29]]


@plant('repeated frames')
def repeated_frames(frames, other):
    """Every frame twice."""
    return frames[np.arange(len(frames)) // 2]


@plant('flicker')
def flicker(frames, other):
    """Every second frame is brighter by 20 levels."""
    brighter = 20 * (np.arange(len(frames)) % 2)[:, None, None, None]
    return np.clip(frames + brighter, 0, 255).astype(np.uint8)


@plant('interlaced')
def interlaced(frames, other):
    """Odd lines are of the next frame."""
    frames = frames.copy()
    frames[:-1, 1::2] = frames[1:, 1::2]
    return frames
