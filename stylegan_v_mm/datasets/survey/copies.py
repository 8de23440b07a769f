"""Videos that show the same, found by perceptual hashes of their frames."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import cv2
import numpy as np

# Bits that hashes of the same picture may differ in, after another encoding.
_MOST_BITS = 6
# Of 64 bits; hashes that share all bits of a band are compared.
_NUM_BANDS = 4
# More frames with one band are not of one picture but of none, such as black.
_MOST_IN_BAND = 200
# Grey levels between small images of the same picture.
_MOST_DIFFERENCE = 8
# Frames that two videos must share, in the same order at the same speed.
_LEAST_SHARED = 8
_SMALL = 16  # pixels


class Prints:
    """Fingerprints of frames of a video.

    Attributes:
        frames: Indices of the frames.
        hashes: Their perceptual hashes, 64 bits each.
        small: Grey images [16, 16], uint8.
    """

    def __init__(self) -> None:
        self.frames: list[int] = []
        self.hashes: list[int] = []
        self.small: list[np.ndarray] = []

    def add(self, frame: int, grey: np.ndarray) -> None:
        """Add a frame, of which [H, W] are the grey levels, uint8."""
        size = (_SMALL, _SMALL)
        small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        self.frames.append(frame)
        self.hashes.append(perceptual_hash(grey))
        self.small.append(small)


class Copy(NamedTuple):
    """Two videos that show the same.

    Attributes:
        first: Index of one video.
        second: Index of the other.
        start: First frame of the second that the first one has, too.
        end: One more than the last.
        offset: Frame of the second minus that of the first.
    """

    first: int
    second: int
    start: int
    end: int
    offset: int


def perceptual_hash(grey: np.ndarray) -> int:
    """Hash a grey image [H, W] by its coarse shapes, to 64 bits.

    The signs of the lowest 8 x 8 frequencies of the cosine transform of the
    image at 32 x 32 pixels, relative to their median. Sizes, encodings and
    brightness change few bits.
    """
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA)
    waves = cv2.dct(small.astype(np.float32))[:8, :8].ravel()
    bits = waves > np.median(waves[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), 'big')


def find_copies(videos: Sequence[Prints]) -> list[Copy]:
    """Find pairs of videos that share frames.

    Args:
        videos: The fingerprints of each.

    Returns:
        The pairs, with the frames that they share.
    """
    owner = np.repeat(np.arange(len(videos)), [len(x.frames) for x in videos])
    if not len(owner):
        return []
    frames = np.array([i for x in videos for i in x.frames], np.int64)
    hashes = np.array([i for x in videos for i in x.hashes], np.uint64)
    small = np.stack([i for x in videos for i in x.small]).astype(np.int16)
    shared: dict[tuple[int, int], Counter] = defaultdict(Counter)
    seen = set()
    width = 64 // _NUM_BANDS
    for band in range(_NUM_BANDS):
        keys = (hashes >> np.uint64(width * band)) & np.uint64(2**width - 1)
        order = np.argsort(keys, kind='stable')
        edges = np.flatnonzero(np.diff(keys[order])) + 1
        for group in np.split(order, edges):
            if len(set(owner[group])) < 2 or len(group) > _MOST_IN_BAND:
                continue
            for a, b in combinations(sorted(group.tolist()), 2):
                if owner[a] == owner[b] or (a, b) in seen:
                    continue
                bits = int(hashes[a] ^ hashes[b]).bit_count()
                if bits > _MOST_BITS:
                    continue
                if np.abs(small[a] - small[b]).mean() > _MOST_DIFFERENCE:
                    continue
                seen.add((a, b))
                pair = int(owner[a]), int(owner[b])
                shared[pair][int(frames[b] - frames[a])] += 1
    copies = []
    for (first, second), offsets in sorted(shared.items()):
        offset, count = offsets.most_common(1)[0]
        if count < _LEAST_SHARED:
            continue
        there = frames[owner == second]
        others = set((frames[owner == first] + offset).tolist())
        same = [i for i in there.tolist() if i in others]
        copies.append(Copy(first, second, same[0], same[-1] + 1, offset))
    return copies
