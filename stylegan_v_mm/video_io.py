"""Reading single frames of video files, and writing video files.

Reading takes two steps. :func:`index_video` lists the frames of a file, as a
rule without decoding more than its first and last group of pictures;
:func:`decode_frames` then decodes any of them, starting at the key frame
before each, and :func:`iter_frames` a long stretch of them. Frame i is always
the i-th frame that decoding the whole file from its start would give.

Opening a file takes as long as decoding some frames: those that were read
last stay open, for each thread its own.
"""

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import repeat
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from .errors import InputError

# For av.open: titles and the like may be no UTF-8. From PyAV 19 on they always
# may, and there is no such option.
ANY_METADATA: dict[str, Any] = (
    {'metadata_errors': 'ignore'}
    if int(av.__version__.split('.')[0]) < 19
    else {}
)

# Of open files: 64 of 256 x 256 pixels or less, fewer of larger frames. A
# decoder keeps some ten frames.
MAX_OPEN_PIXELS = 64 * 256**2

#: Of one frame or image: a small file can claim to hold a huge one.
MAX_FRAME_PIXELS = 2**26

# FFmpeg's readers of files. It has others, of playlists, scripts and streams,
# by which a file could name other files or machines to read from.
_CONTAINERS = (
    '3dostr,4xm,amv,anm,asf,av1,avi,bink,cavsvideo,dirac,dnxhd,dv,flic,flv,'
    'gif,gxf,h261,h263,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mp4,mpeg,mpegts,'
    'mpegvideo,mxf,nsv,nut,nuv,obu,ogg,rm,roq,smk,swf,vc1,vvc,webm,'
    'yuv4mpegpipe'
)


class DamagedVideoError(InputError):
    """A video, or a part of it, cannot be decoded."""


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """What is needed to decode any frame of a video file.

    Attributes:
        path: The file.
        codec: Name of its codec.
        width: Width of a frame in pixels, after rotation.
        height: Height of a frame in pixels, after rotation.
        rotation: Degrees by which decoded frames are to be turned
            counterclockwise, a multiple of 90.
        fps: Average frame rate, 0 if unknown.
        pts: [num_frames], int64, the time stamp by which the decoder names
            each frame, in the order of showing; unique. Without ``key_pts``
            its number.
        key_pts: [K], int64, time stamps one can seek to; empty if the file
            has no usable ones, then frames are counted from the start.
        key_inds: [K], int64, the first frame that decoding from there gives.
        regular: Whether each frame is one packet with the frame's time stamp,
            and these increase.
        problem: What is wrong with the file, '' if nothing was found.
    """

    path: str
    codec: str
    width: int
    height: int
    rotation: int
    fps: float
    pts: np.ndarray
    key_pts: np.ndarray
    key_inds: np.ndarray
    regular: bool
    problem: str = ''

    @property
    def num_frames(self) -> int:
        """Number of frames that can be decoded."""
        return len(self.pts)


def index_video(path: str | os.PathLike) -> VideoIndex:
    """List the frames of a video file.

    The time stamps are read from the packets without decoding them. They are
    trusted if the first and the last group of pictures decode to just these
    time stamps; otherwise (AVI with B-frames, raw streams, damaged files) the
    whole file is decoded once, up to the first error.

    Args:
        path: Any file that FFmpeg reads.

    Returns:
        The index. A file that breaks off has the frames before the break and
        says so in ``problem``.

    Raises:
        DamagedVideoError: If not a single frame can be decoded.
    """
    path = os.fspath(path)
    try:
        with _Reader(path) as reader:
            pts, key_pts = reader.packet_times()
        with _Reader(path) as reader:
            first = next(reader.frames())
            codec = reader.stream.codec_context.name
            fps = float(reader.stream.average_rate or 0)
    except StopIteration:
        raise DamagedVideoError(f'{path}: no frame can be decoded') from None
    except (av.FFmpegError, OSError) as error:
        raise DamagedVideoError(
            f'{path}: cannot be read: {error.strerror}'
        ) from None

    problem = ''
    key_inds = np.searchsorted(pts, key_pts)
    regular = _trustworthy(path, pts, key_pts, key_inds)
    if not regular:
        num_packets = len(pts)
        pts, key_inds, error = _decode_all_times(path)
        if error:
            problem = (
                f'decoding stops after {len(pts)} of {num_packets} frames'
            )
        key_pts = pts[key_inds]
        if len(np.unique(pts)) < len(pts) or not (
            problem or _last_group_agrees(path, pts, key_pts, key_inds)
        ):
            pts, key_pts, key_inds = np.arange(len(pts)), pts[:0], pts[:0]

    rotation = round(first.rotation / 90) * 90
    size = first.width, first.height
    width, height = size[::-1] if rotation % 180 else size
    return VideoIndex(
        path=path,
        codec=codec,
        width=width,
        height=height,
        rotation=rotation,
        fps=fps,
        pts=pts,
        key_pts=key_pts,
        key_inds=key_inds,
        regular=regular,
        problem=problem,
    )


def decode_frames(
    index: VideoIndex, frame_inds: Sequence[int] | np.ndarray
) -> np.ndarray:
    """Decode some frames of a video and no more than they depend on.

    Args:
        index: From :func:`index_video`.
        frame_inds: [T], integers in [0, index.num_frames), in any order,
            repetitions allowed.

    Returns:
        [T, H, W, 3], uint8, RGB, turned upright; pixels as stored (a pixel
        aspect ratio is not applied).

    Raises:
        IndexError: If the video has no such frame.
        DamagedVideoError: If a frame cannot be decoded.
    """
    frame_inds = np.asarray(frame_inds, dtype=np.int64)
    if frame_inds.min() < 0 or frame_inds.max() >= index.num_frames:
        raise IndexError(
            f'{index.path} has frames 0 to {index.num_frames - 1}, '
            f'got {frame_inds.tolist()}'
        )
    wanted = np.unique(frame_inds)
    # The key frame before each frame; -1: the start of the file.
    keys = np.searchsorted(index.key_inds, wanted, side='right') - 1
    frames: dict[int, np.ndarray] = {}
    try:
        with _kept_open(index.path) as reader:
            for key in np.unique(keys):
                group = wanted[keys == key].tolist()
                frames |= _decode_group(reader, index, key, group)
    except (av.FFmpegError, OSError) as error:
        raise DamagedVideoError(
            f'{index.path}: decoding fails: {error.strerror}'
        ) from None
    if len({frame.shape for frame in frames.values()}) > 1:
        raise DamagedVideoError(f'{index.path}: frames differ in size')
    return np.stack([frames[i] for i in frame_inds.tolist()])


def iter_frames(
    index: VideoIndex, frame_inds: Sequence[int] | np.ndarray
) -> Iterator[np.ndarray]:
    """Decode frames of a video in one pass, in constant memory.

    For long stretches; :func:`decode_frames` is for a few frames anywhere.

    Args:
        index: From :func:`index_video`.
        frame_inds: [T], integers in [0, index.num_frames), ascending,
            repetitions allowed.

    Yields:
        [H, W, 3], uint8, RGB, turned upright, for each of ``frame_inds``.

    Raises:
        IndexError: If the video has no such frame.
        DamagedVideoError: If a frame cannot be decoded.
    """
    wanted, counts = np.unique(frame_inds, return_counts=True)
    if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < index.num_frames:
        raise IndexError(
            f'{index.path} has frames 0 to {index.num_frames - 1}, '
            f'got {wanted[0]} to {wanted[-1]}'
        )
    images = _in_one_pass(index, deque(wanted.tolist()))
    for count in counts:
        try:
            image = next(images)
        except (av.FFmpegError, OSError) as error:
            raise DamagedVideoError(
                f'{index.path}: decoding fails: {error.strerror}'
            ) from None
        yield from repeat(image, count)


class VideoWriter:
    """Write an H.264 mp4 file frame by frame, in constant memory.

    The file plays in browsers (yuv420p, BT.709, index at the front). Frames
    of odd width or height are padded by repeating the last column or row.
    The same frames give the same bytes. The file appears under its name only
    when the ``with`` block ends without an error.

    Args:
        path: File to write, ending in ``.mp4``; its folder is made.
        fps: Frames per second, may be fractional.
        crf: Quality of x264, from 0 (lossless) to 51; 16 looks lossless.
        gop: Frames from one key frame to the next, at most. Default: 250.

    Raises:
        InputError: If the file cannot be written.

    Examples:
        >>> with VideoWriter('out.mp4', fps=25) as writer:
        ...     for frames in chunks:  # [T, 3, H, W], uint8
        ...         writer.append(frames)
    """

    def __init__(
        self,
        path: str | os.PathLike,
        fps: float,
        crf: float = 16,
        gop: int = 250,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix != '.mp4':
            raise InputError(f'{path}: a video file must end in .mp4')
        if not fps > 0:
            raise InputError(f'{path}: fps must be positive, got {fps}')
        self._fps = Fraction(fps).limit_denominator(1001)
        self._crf = crf
        self._gop = gop
        self._temporary = self.path.with_name(
            f'.{self.path.name}.{os.getpid()}.tmp'
        )
        self._stream: av.VideoStream | None = None

    def __enter__(self) -> 'VideoWriter':
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # PyAV opens the file only with the first frame.
            self._temporary.touch()
            self._container = av.open(
                str(self._temporary),
                'w',
                format='mp4',
                options={'movflags': '+faststart', 'fflags': '+bitexact'},
            )
        except OSError as error:
            raise self._refusal(error) from None
        return self

    def _refusal(self, error: Exception) -> InputError:
        reason = getattr(error, 'strerror', error)
        return InputError(f'{self.path} cannot be written: {reason}')

    def append(self, frames: torch.Tensor | np.ndarray) -> None:
        """Append frames.

        Args:
            frames: [T, 3, H, W] or [3, H, W], uint8, RGB; always of one size.
        """
        frames = np.asarray(
            frames.cpu() if isinstance(frames, torch.Tensor) else frames
        )
        if frames.dtype != np.uint8 or frames.shape[-3:-2] != (3,):
            raise InputError(
                f'{self.path}: frames must be uint8 [T, 3, H, W], got '
                f'{frames.dtype} {list(frames.shape)}'
            )
        try:
            for frame in frames.reshape(-1, *frames.shape[-3:]):
                self._append(frame.transpose(1, 2, 0))
        except (av.FFmpegError, OSError) as error:
            raise self._refusal(error) from None

    def _append(self, image: np.ndarray) -> None:
        height, width = image.shape[:2]
        if self._stream is None:
            self._size = height, width
            self._stream = self._add_stream(
                width + width % 2, height + height % 2
            )
        if (height, width) != self._size:
            raise InputError(
                f'{self.path}: frames differ in size: first {self._size}, '
                f'now {(height, width)} (height, width)'
            )
        image = np.pad(
            image, ((0, height % 2), (0, width % 2), (0, 0)), mode='edge'
        )
        frame = av.VideoFrame.from_ndarray(image, format='rgb24').reformat(
            format='yuv420p',
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        self._container.mux(self._stream.encode(frame))

    def _add_stream(self, width: int, height: int) -> av.VideoStream:
        # The number of threads changes x264's output, and its macroblock tree
        # makes that of small frames differ now and then.
        stream = self._container.add_stream(
            'libx264',
            rate=self._fps,
            options={'crf': str(self._crf), 'threads': '1', 'mbtree': '0'},
        )
        stream.width, stream.height = width, height
        stream.pix_fmt = 'yuv420p'
        context = stream.codec_context
        context.gop_size = self._gop
        context.color_range = ColorRange.MPEG
        # 1 is BT.709 in all three tables of ITU-T H.273.
        context.colorspace = context.color_primaries = context.color_trc = 1
        return stream

    def __exit__(self, error_type: type | None, *others: object) -> None:
        try:
            if error_type is None:
                if self._stream is None:
                    raise InputError(f'{self.path}: a video needs a frame')
                self._container.mux(self._stream.encode())
                self._container.close()
                os.replace(self._temporary, self.path)
        except (av.FFmpegError, OSError) as error:
            raise self._refusal(error) from None
        finally:
            with suppress(av.FFmpegError, OSError):
                self._container.close()
            self._temporary.unlink(missing_ok=True)


def write_video(
    path: str | os.PathLike,
    frames: torch.Tensor | np.ndarray,
    fps: float,
    crf: float = 16,
) -> None:
    """Write frames that are all at hand to an H.264 mp4 file.

    Args:
        path: See :class:`VideoWriter`.
        frames: [T, 3, H, W], uint8, RGB.
        fps: See :class:`VideoWriter`.
        crf: See :class:`VideoWriter`.

    Raises:
        InputError: If the file cannot be written.
    """
    with VideoWriter(path, fps, crf) as writer:
        writer.append(frames)


def video_grid(
    videos: torch.Tensor, ncols: int, padding: int = 2
) -> torch.Tensor:
    """Arrange videos in a grid, row by row; empty cells are black.

    Args:
        videos: [N, T, 3, H, W], uint8.
        ncols: Number of columns.
        padding: Black pixels between neighbours.

    Returns:
        [T, 3, nrows * (H + padding) - padding, ncols * (W + padding) -
        padding], uint8.
    """
    num_videos, num_frames, channels, height, width = videos.shape
    nrows = -(-num_videos // ncols)
    grid = videos.new_zeros(
        num_frames,
        channels,
        nrows * (height + padding) - padding,
        ncols * (width + padding) - padding,
    )
    for i, video in enumerate(videos):
        y = i // ncols * (height + padding)
        x = i % ncols * (width + padding)
        grid[:, :, y : y + height, x : x + width] = video
    return grid


class _Reader:
    """An open video file, decoded in one thread."""

    def __init__(self, path: str) -> None:
        self._container = av.open(
            path,
            options={
                'format_whitelist': _CONTAINERS,
                'protocol_whitelist': 'file',
            },
            **ANY_METADATA,
        )
        # One whose codec is not known has no context.
        known = [s for s in self._container.streams.video if s.codec_context]
        if not known:
            self._container.close()
            raise DamagedVideoError(f'{path}: holds no video')
        self.stream = known[0]
        context = self.stream.codec_context
        # Workers are many already, and threads do not survive a fork.
        context.thread_count = 1
        context.options = {'max_pixels': str(MAX_FRAME_PIXELS)}
        if context.width * context.height > MAX_FRAME_PIXELS:
            self._container.close()
            raise DamagedVideoError(
                f'{path}: frames of {context.width}x{context.height} pixels '
                f'are too large, {MAX_FRAME_PIXELS} are allowed'
            )
        self._to_rgb = VideoReformatter()

    def __enter__(self) -> '_Reader':
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    @property
    def pixels(self) -> int:
        """What keeping the file open costs, see :data:`MAX_OPEN_PIXELS`."""
        context = self.stream.codec_context
        return max(context.width * context.height, 256**2)

    def packet_times(self) -> tuple[np.ndarray, np.ndarray]:
        """Read the sorted time stamps of all frames and of the key frames.

        A file with packets without a time stamp gives no key frames.
        """
        packets = [p for p in self._container.demux(self.stream) if p.size]
        # Packets that an edit list cuts away are decoded but not shown.
        shown = [p for p in packets if not (p.is_discard or p.is_corrupt)]
        if any(p.pts is None for p in packets):
            return np.arange(len(shown)), np.zeros(0, np.int64)
        times = np.array([p.pts for p in shown], np.int64)
        keys = [p.pts for p in packets if p.is_keyframe]
        return np.sort(times), np.sort(np.array(keys, np.int64))

    def frames(
        self,
        from_pts: int | None = None,
        only: Collection[int] | None = None,
    ) -> Iterator[av.VideoFrame]:
        """Decode from the current place, or from the key frame before a time.

        Gives nothing if seeking ends behind that time. With ``only``, where
        each frame is one packet with the frame's time stamp, frames of other
        time stamps may be left out if no frame depends on them, and the last
        of these ends it; then seek before reading on.
        """
        context = self.stream.codec_context
        left = set(only or ())
        if from_pts is not None:
            self._container.seek(from_pts, stream=self.stream)
        for packet in self._container.demux(self.stream):
            if from_pts is not None:
                if packet.pts is not None and packet.pts > from_pts:
                    return
                from_pts = None
            wanted = only is None or packet.pts in only
            context.skip_frame = 'DEFAULT' if wanted else 'NONREF'
            yield from packet.decode()
            if left:
                left.discard(packet.pts)
                if not left:
                    # Frames wait for those to be shown before them. More
                    # packets would bring them out, and be decoded for it.
                    yield from context.decode(None)
                    return

    def to_image(self, frame: av.VideoFrame, rotation: int) -> np.ndarray:
        """Make an upright RGB picture of a frame, [H, W, 3], uint8."""
        rgb = self._to_rgb.reformat(frame, format='rgb24', threads=1)
        return np.rot90(rgb.to_ndarray(), rotation // 90)


_local = threading.local()


@contextmanager
def _kept_open(path: str) -> Iterator[_Reader]:
    """Give a reader of a file, to be used with seeking only."""
    if not hasattr(_local, 'readers'):
        #: By path and version, the one used last at the end.
        _local.readers = OrderedDict()
    readers = _local.readers
    stat = os.stat(path)
    key = path, stat.st_ino, stat.st_size, stat.st_mtime_ns
    # Out of the way while it is used: after an error it stays out.
    reader = readers.pop(key, None) or _Reader(path)
    try:
        yield reader
    except BaseException:
        reader.close()
        raise
    readers[key] = reader
    while (
        len(readers) > 1
        and sum(r.pixels for r in readers.values()) > MAX_OPEN_PIXELS
    ):
        readers.popitem(last=False)[1].close()


def _close_readers() -> None:
    for reader in _local.__dict__.pop('readers', {}).values():
        reader.close()


# Processes that share an open file share the place in it.
os.register_at_fork(after_in_child=_close_readers)


def _trustworthy(
    path: str, pts: np.ndarray, key_pts: np.ndarray, key_inds: np.ndarray
) -> bool:
    """Compare the packets' times with the first and last decoded group."""
    if len(key_pts) == 0 or len(np.unique(pts)) < len(pts):
        return False
    end = key_inds[1] if len(key_inds) > 1 else len(pts)
    first: list[int | None] = []
    try:
        with _Reader(path) as reader:
            for frame in reader.frames():
                if len(first) == end:
                    break
                first.append(frame.pts)
    except av.FFmpegError:
        return False
    return first == pts[:end].tolist() and (
        end == len(pts) or _last_group_agrees(path, pts, key_pts, key_inds)
    )


def _last_group_agrees(
    path: str, pts: np.ndarray, key_pts: np.ndarray, key_inds: np.ndarray
) -> bool:
    """Tell whether seeking to the last key frame gives the last frames."""
    if len(key_pts) == 0:
        return False
    try:
        with _Reader(path) as reader:
            last = [frame.pts for frame in reader.frames(int(key_pts[-1]))]
    except av.FFmpegError:
        return False
    expected = pts[key_inds[-1] :].tolist()
    return last[len(last) - len(expected) :] == expected


def _decode_all_times(path: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Decode a whole file up to its end or to the first error.

    Returns:
        Time stamps in the order of showing (zeros where there is none),
        indices of the key frames, and the error or ''.
    """
    times, keys, error_text = [], [], ''
    try:
        with _Reader(path) as reader:
            for i, frame in enumerate(reader.frames()):
                times.append(frame.pts or 0)
                if frame.key_frame:
                    keys.append(i)
    except av.FFmpegError as error:
        error_text = str(error)
    return np.array(times, np.int64), np.array(keys, np.int64), error_text


def _decode_group(
    reader: _Reader, index: VideoIndex, key: int, group: list[int]
) -> dict[int, np.ndarray]:
    """Decode frames that follow one key frame.

    Where that key frame does not give all of them (it is not a clean place
    to start, or seeking misses it), start at ever earlier ones.
    """
    frames: dict[int, np.ndarray] = {}
    back = 1
    while key >= 0:
        frames |= _collect(reader, index, group, int(index.key_pts[key]))
        if len(frames) == len(group):
            return frames
        key, back = key - back, back * 2
    with _Reader(index.path) as from_start:
        frames |= _collect(from_start, index, group)
    if len(frames) < len(group):
        missing = sorted(set(group) - set(frames))
        raise DamagedVideoError(
            f'{index.path}: frames {missing} cannot be decoded'
        )
    return frames


def _in_one_pass(index: VideoIndex, left: deque[int]) -> Iterator[np.ndarray]:
    """Decode ascending frames from the key frame before the first on.

    Where that is no clean place to start, or seeking misses it, single frames
    are decoded by themselves, and the rest from the start of the file.
    """
    number_of: dict[int | None, int] = {
        int(pts): i for i, pts in enumerate(index.pts)
    }
    only = {int(index.pts[i]) for i in left} if index.regular else None
    key = np.searchsorted(index.key_inds, left[0], side='right') - 1
    starts = [int(index.key_pts[key])] if key >= 0 else []
    for from_pts in [*starts, None]:
        with _Reader(index.path) as reader:
            for count, frame in enumerate(reader.frames(from_pts, only)):
                pts = frame.pts if len(index.key_pts) else count
                number = number_of.get(pts, -1)
                while left and left[0] < number:
                    yield decode_frames(index, [left.popleft()])[0]
                if left and left[0] == number:
                    left.popleft()
                    yield reader.to_image(frame, index.rotation)
                if not left:
                    return
    raise DamagedVideoError(f'{index.path}: frame {left[0]} is not there')


def _collect(
    reader: _Reader,
    index: VideoIndex,
    group: list[int],
    from_pts: int | None = None,
) -> dict[int, np.ndarray]:
    """Decode until all frames of a group are there or passed."""
    wanted = {int(index.pts[i]): i for i in group}
    decoded = reader.frames(from_pts, wanted if index.regular else None)
    frames = {}
    for count, frame in enumerate(decoded):
        pts = frame.pts if len(index.key_pts) else count
        if pts in wanted:
            frames[wanted[pts]] = reader.to_image(frame, index.rotation)
        passed = pts is not None and pts > max(wanted)
        if len(frames) == len(wanted) or (index.regular and passed):
            break
    return frames
