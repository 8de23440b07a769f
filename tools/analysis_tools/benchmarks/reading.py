"""How fast clips are read.

The baseline is the naive reader: PyAV, files kept open, for each frame a seek
and decoding until it comes. For pictures it is ``cv2.imdecode`` alone, of
bytes that lie in memory.
"""

import os
import statistics
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import av
import cv2
import numpy as np
import torch
from tqdm import tqdm

from stylegan_v_mm.datasets.sources.archives import ZippedFrames
from stylegan_v_mm.datasets.sources.finding import find_videos, read_each
from stylegan_v_mm.datasets.sources.frame_folders import FrameFolder
from stylegan_v_mm.datasets.sources.video_files import VideoFile
from stylegan_v_mm.datasets.transforms import ResizeCrop, SampleClip
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.video.encoding import VideoWriter

OURS = 'ours'
NAIVE = 'naive'
NUM_VIDEOS = 8
VIDEO_LEN = 300
NOISE = 1.5  # grey levels; without, videos take less decoding than real ones
JPEG_QUALITY = 95


class Timing(NamedTuple):
    """How long some clips took to read.

    Attributes:
        work: From what.
        way: ``OURS`` or ``NAIVE``.
        seconds: Of each turn.
        clips: In a turn.
    """

    work: str
    way: str
    seconds: list[float]
    clips: int


# The videos


def drawn_videos(resolution: int) -> Iterator[np.ndarray]:
    """Draw discs that circle over slow stripes, [VIDEO_LEN, R, R, 3]."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(*[np.arange(resolution) / resolution] * 2)
    for i in range(NUM_VIDEOS):
        video = np.empty((VIDEO_LEN, resolution, resolution, 3), np.uint8)
        for t, frame in enumerate(video):
            phase = 2 * np.pi * t / 32
            stripes = np.sin(20 * x + (5 + i) * y + phase / 16)
            image = (128 + 60 * stripes)[..., None] * [1, 0.8, 0.6]
            across = x - 0.5 - 0.3 * np.cos(phase + i)
            down = y - 0.5 - 0.3 * np.sin(phase + i)
            image[np.hypot(across, down) < 0.2] = 255 - 25 * i, 25 * i, 128
            image += rng.normal(0, NOISE, (resolution, resolution, 1))
            frame[:] = image.clip(0, 255)
        yield video


def real_videos(data: str, resolution: int) -> Iterator[np.ndarray]:
    """Yield videos of a data set, forwards and backwards, of VIDEO_LEN frames.

    Raises:
        InputError: If there are none.
    """
    sources = [source for source in find_videos(data) if len(source)]
    if not sources:
        raise InputError(f'{data}: no video can be decoded')
    for i in range(NUM_VIDEOS):
        source = sources[i % len(sources)]
        frames = np.stack(
            [
                ResizeCrop(resolution)({'frames': frame[None]})['frames'][0]
                for frame in read_each(
                    source, range(min(len(source), VIDEO_LEN))
                )
            ]
        )
        there_and_back = np.r_[: len(frames), len(frames) - 1 : -1 : -1]
        yield frames[np.resize(there_and_back, VIDEO_LEN)]


def write_h264(video: np.ndarray, path: Path, gop: int) -> None:
    """Write an mp4 file."""
    with VideoWriter(path.with_suffix('.mp4'), 25, gop=gop) as writer:
        writer.append(video.transpose(0, 3, 1, 2))


def write_mpeg4(video: np.ndarray, path: Path, gop: int) -> None:
    """Write an AVI file, as UCF-101 has."""
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path.with_suffix('.avi')), 'w') as file:
        stream = file.add_stream('mpeg4', rate=25)
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = 'yuv420p'
        context = stream.codec_context
        context.gop_size = gop
        context.qscale, context.global_quality = True, 3 * 118  # quality 3
        for image in video:
            frame = av.VideoFrame.from_ndarray(image, 'rgb24')
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def write_pictures(video: np.ndarray, path: Path, suffix: str) -> None:
    """Write a folder of pictures."""
    path.mkdir(parents=True)
    for i, image in enumerate(video):
        cv2.imwrite(
            str(path / f'{i:06d}{suffix}'),
            cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
            [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY],
        )


def pack(folder: Path) -> Path:
    """Pack a folder into a zip beside it, without compression."""
    path = folder.with_suffix('.zip')
    with zipfile.ZipFile(path, 'w') as archive:
        for file in folder.rglob('*'):
            archive.write(file, file.relative_to(folder))
    return path


# What is written: by name, how.
FORMATS: dict[str, Callable] = {
    **{
        f'H.264 mp4, key frame every {gop}': partial(write_h264, gop=gop)
        for gop in (4, 12, 250)
    },
    'MPEG-4 AVI, key frame every 12': partial(write_mpeg4, gop=12),
    f'zip of JPEG, quality {JPEG_QUALITY}': partial(
        write_pictures, suffix='.jpg'
    ),
    'folders of PNG': partial(write_pictures, suffix='.png'),
}


# Reading


class NaiveVideo:
    """A video file as one would read it at first."""

    def __init__(self, source: VideoFile) -> None:
        self.pts = source.index.pts
        self.container = av.open(source.index.path)
        self.stream = self.container.streams.video[0]
        # More do not help here, and ours has one.
        self.stream.codec_context.thread_count = 1

    def read(self, frame_inds: np.ndarray) -> np.ndarray:
        """Decode frames, [T, H, W, 3], uint8, RGB."""
        return np.stack([self._read(int(self.pts[i])) for i in frame_inds])

    def _read(self, pts: int) -> np.ndarray:
        self.container.seek(pts, stream=self.stream)
        for frame in self.container.decode(self.stream):
            if frame.pts is not None and frame.pts >= pts:
                break
        return frame.to_ndarray(format='rgb24')


class BarePictures:
    """Pictures that are in memory: nothing is left but to decode them."""

    def __init__(self, source: FrameFolder | ZippedFrames) -> None:
        if isinstance(source, FrameFolder):
            blobs = [
                Path(source.path, file).read_bytes() for file in source.files
            ]
        else:
            with zipfile.ZipFile(source.path) as archive:
                blobs = list(map(archive.read, source.files))
        self.buffers = [np.frombuffer(blob, np.uint8) for blob in blobs]

    def read(self, frame_inds: np.ndarray) -> list[np.ndarray]:
        """Decode frames, T of [H, W, 3], uint8, BGR."""
        return [
            cv2.imdecode(self.buffers[i], cv2.IMREAD_COLOR) for i in frame_inds
        ]


@contextmanager
def one_core() -> Iterator[None]:
    """Restrict this thread to one core."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    cores = os.sched_getaffinity(0)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def measure_reading(
    repeats: int,
    num_frames: int = 3,
    resolution: int = 256,
    clips: int = 2 * NUM_VIDEOS,
    data: str | None = None,
) -> list[Timing]:
    """Time the reading of clips that are drawn as for training.

    Ours and the baseline read each clip in turn, on one core.

    Args:
        repeats: Turns.
        num_frames: Frames in a clip.
        resolution: Of the videos, in pixels.
        clips: In a turn, of all videos equally.
        data: Videos to make those of; default: drawn ones.

    Returns:
        Two for each of :data:`FORMATS`.

    Raises:
        InputError: If there are no videos in ``data``.
    """
    timings = []
    with TemporaryDirectory() as folder:
        roots = {name: Path(folder, str(i)) for i, name in enumerate(FORMATS)}
        videos = (
            real_videos(data, resolution) if data else drawn_videos(resolution)
        )
        for i, video in enumerate(
            tqdm(videos, 'writing', NUM_VIDEOS, unit='video', disable=None)
        ):
            for name, write in FORMATS.items():
                write(video, roots[name] / f'{i}')
        for name, root in roots.items():
            if name.startswith('zip'):
                root = pack(root)
            with one_core():
                timings += _time(
                    name=name,
                    root=root,
                    repeats=repeats,
                    num_frames=num_frames,
                    clips=clips,
                )
    return timings


def _time(
    name: str, root: Path, repeats: int, num_frames: int, clips: int
) -> list[Timing]:
    sources = find_videos(root)
    naive_of: Callable = (
        NaiveVideo if isinstance(sources[0], VideoFile) else BarePictures
    )
    readers: dict[str, Sequence] = {
        NAIVE: [naive_of(source) for source in sources],
        OURS: sources,
    }
    timings = {way: Timing(name, way, [], clips) for way in readers}
    sample, rng = SampleClip(num_frames), np.random.default_rng(0)
    # The first turn warms up.
    for turn in tqdm(range(repeats + 1), name, disable=None):
        seconds = dict.fromkeys(readers, 0.0)
        for i in range(clips):
            source = sources[i % len(sources)]
            drawn = {'rng': rng, 'source': source, 'video_len': len(source)}
            frame_inds = sample(drawn)['frame_inds']
            for way, videos in readers.items():
                start = time.perf_counter()
                videos[i % len(sources)].read(frame_inds)
                seconds[way] += time.perf_counter() - start
        if turn:
            for way, timing in timings.items():
                timing.seconds.append(seconds[way])
    return list(timings.values())


def table(timings: list[Timing]) -> list[list[str]]:
    """Lay out clips a second, by what they are read from."""
    lines = [['', 'clips/s', 'clips/s, naive', 'ratio']]
    for naive, ours in zip(timings[::2], timings[1::2]):
        seconds = [statistics.median(t.seconds) for t in (ours, naive)]
        lines.append(
            [
                ours.work,
                *(f'{ours.clips / each:.4g}' for each in seconds),
                f'{seconds[1] / seconds[0]:.2f}',
            ]
        )
    return lines
