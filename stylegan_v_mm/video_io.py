"""Reading single frames of video files, and writing video files.

Reading takes two steps. :func:`index_video` lists the frames of a file, as a
rule without decoding more than its first and last group of pictures;
:func:`decode_frames` then decodes any of them, starting at the key frame
before each, and :func:`iter_frames` a long stretch of them. Frame i is always
the i-th frame that decoding the whole file from its start would give.

A frame is damaged if the decoder flags it, or anything that was decoded
between the key frame before it and itself: prediction carries the damage on
to the next key frame. Damaged frames keep their number and are never
returned. Only :func:`index_video` with ``thorough`` knows all of them; the
others are found when they are read.

Opening a file takes as long as decoding some frames: those that were read
last stay open, for each thread its own.
"""

import errno
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import dropwhile, repeat
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from PIL import ExifTags, Image

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

#: Frames per second that a file can have.
MIN_FPS, MAX_FPS = 1e-6, 1e6

#: Of one frame or image: a small file can claim to hold a huge one.
MAX_FRAME_PIXELS = 2**26

# FFmpeg's readers of files. It has others, of playlists, scripts and streams,
# by which a file could name other files or machines to read from. A raw
# stream of JPEGs is a "jpeg_pipe" to it.
_CONTAINERS = (
    '3dostr,4xm,amv,anm,apng,asf,av1,avi,avs2,avs3,bink,cavsvideo,cine,dhav,'
    'dirac,dnxhd,dv,film_cpk,flic,flv,gif,gxf,h261,h263,h264,hevc,ifv,ivf,'
    'ivr,jpeg_pipe,kux,lxf,m4v,matroska,mjpeg,mjpeg_2000,mov,mp4,mpeg,mpegts,'
    'mpegvideo,mxf,nsv,nut,nuv,obu,ogg,pva,rm,roq,smk,swf,ty,vc1,vivo,'
    'vvc,webm,wtv,yuv4mpegpipe'
)

# Decoders that may be told before each packet to skip it if no other frame
# depends on it. Others read this once, as they are opened (AV1), skip frames
# that others do depend on (HEVC with temporal layers) or lose what a skipped
# frame would have changed for later ones (VP8).
_CAN_SKIP = frozenset(['h264', 'mpeg1video', 'mpeg2video', 'mpeg4'])


class DamagedVideoError(InputError):
    """A video, or a part of it, cannot be decoded."""


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """What is needed to decode any frame of a video file.

    Attributes:
        path: The file.
        codec: Name of its codec.
        width: Width of a frame in pixels, turned upright.
        height: Height of a frame in pixels, turned upright.
        orientation: How decoded frames lie, see :func:`upright`.
        pixel_aspect: Width of a pixel divided by its height, in upright
            frames; 1 if unknown.
        fps: Frames per second on average, 0 if unknown.
        time_base: Seconds in which time stamps count.
        pts: [num_frames], int64, the time stamp by which the decoder names
            each frame, in the order of showing; unique. Without ``key_pts``
            its number.
        key_pts: [K], int64, time stamps one can seek to; empty if the file
            has no usable ones, then frames are counted from the start.
        key_inds: [K], int64, the first frame that decoding from there gives.
        regular: Whether each frame is one packet with the frame's time stamp,
            and these increase.
        damaged: [D], int64, ascending, frames that are known to be damaged.
        num_checked: How many frames were decoded to know that.
        problem: What is wrong with the file, '' if nothing was found.
    """

    path: str
    codec: str
    width: int
    height: int
    orientation: int
    pixel_aspect: float
    fps: float
    time_base: float
    pts: np.ndarray
    key_pts: np.ndarray
    key_inds: np.ndarray
    regular: bool
    damaged: np.ndarray
    num_checked: int
    problem: str = ''

    @property
    def num_frames(self) -> int:
        """Number of frames, up to the last one that can be decoded."""
        return len(self.pts)


def index_video(path: str | os.PathLike, thorough: bool = False) -> VideoIndex:
    """List the frames of a video file.

    The time stamps are read from the packets without decoding them. They are
    trusted if the first and the last group of pictures decode to just these
    time stamps, undamaged; otherwise (AVI with B-frames, raw streams, damaged
    files) the whole file is decoded once.

    Args:
        path: Any file that FFmpeg reads.
        thorough: Decode the whole file in any case, so that all damaged
            frames are found.

    Returns:
        The index; ``problem`` names the damaged frames. Those after the last
        intact one are left out. So are all after the first error, where the
        packets do not tell how many frames it cost.

    Raises:
        DamagedVideoError: If not a single frame can be decoded.
    """
    path = os.fspath(path)
    try:
        with _Reader(path) as reader:
            listed = reader.list_packets()
            may_jump = reader.times_may_jump
            codec = reader.stream.codec_context.name
            average_rate = float(reader.stream.average_rate or 0)
            time_base = float(reader.stream.time_base or 0)
            pixel_aspect = float(reader.stream.sample_aspect_ratio or 1)
            if not 0.01 <= pixel_aspect <= 100:
                pixel_aspect = 1.0
        if may_jump:
            with _Reader(path) as reader:
                listed = listed.with_keys(reader.finds_keys(listed))
        first, num_checked = _look_at_ends(path, listed)
        times, regular = listed, num_checked > 0
        damaged, broken = np.zeros(0, np.int64), False
        if thorough or not regular:
            scan = _scan(path)
            first = scan.first
            matched = _match(listed, scan, trusted=regular)
            times, damaged = matched or _as_shown(path, scan)
            if may_jump:
                confirmed = np.isin(times.key_pts, listed.key_pts)
                times = times.with_keys(confirmed)
            regular = matched is not None and len(times.key_pts) > 0
            broken = scan.breaks_off or (
                matched is None and scan.num_whole is not None
            )
            num_checked = len(times.pts)
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror
        if error.errno == errno.EINVAL:
            # So FFmpeg says that a format is not among the allowed ones.
            reason = 'it has none of the formats of videos that are read'
        raise DamagedVideoError(f'{path}: cannot be read: {reason}') from None
    intact = np.setdiff1d(np.arange(len(times.pts)), damaged)
    if first is None or not len(intact):
        raise DamagedVideoError(f'{path}: no frame can be decoded')
    end = int(intact[-1]) + 1
    damaged = damaged[damaged < end]
    total = max(len(listed.pts), len(times.pts))
    problems = []
    if len(damaged):
        problems.append(f'{name_damaged(damaged)}, of {total}')
    if end < len(times.pts) or (broken and end < total):
        problems.append(f'decoding stops after {end} of {total} frames')
    elif broken:
        problems.append(f'the file breaks off after {end} frames')

    fps = _frame_rate(average_rate, times.pts * time_base)
    if not len(times.key_pts):
        times = times._replace(pts=np.arange(len(times.pts)))
    kept = times.key_inds < end
    orientation = _orientation(first, path)
    width, height = first.width, first.height
    if orientation >= 5:
        width, height, pixel_aspect = height, width, 1 / pixel_aspect
    return VideoIndex(
        path=path,
        codec=codec,
        width=width,
        height=height,
        orientation=orientation,
        pixel_aspect=pixel_aspect,
        fps=fps,
        time_base=time_base,
        pts=times.pts[:end],
        key_pts=times.key_pts[kept],
        key_inds=times.key_inds[kept],
        regular=regular,
        damaged=damaged,
        num_checked=min(num_checked, end),
        problem='; '.join(problems),
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
        DamagedVideoError: If a frame is damaged or cannot be decoded.
    """
    frame_inds = np.asarray(frame_inds, dtype=np.int64)
    if frame_inds.min() < 0 or frame_inds.max() >= index.num_frames:
        raise IndexError(
            f'{index.path} has frames 0 to {index.num_frames - 1}, '
            f'got {frame_inds.tolist()}'
        )
    wanted = np.unique(frame_inds)
    _refuse_damaged(index, wanted)
    # The key frame before each frame; -1: the start of the file.
    keys = np.searchsorted(index.key_inds, wanted, side='right') - 1
    frames: dict[int, np.ndarray] = {}
    try:
        with _kept_open(index.path) as reader:
            for key in np.unique(keys).tolist():
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
        DamagedVideoError: If a frame is damaged or cannot be decoded. Frames
            that were given before it may depend on it, so that none of them
            should be used.
    """
    wanted, counts = np.unique(frame_inds, return_counts=True)
    if not len(wanted):
        return
    if not 0 <= wanted[0] <= wanted[-1] < index.num_frames:
        raise IndexError(
            f'{index.path} has frames 0 to {index.num_frames - 1}, '
            f'got {wanted[0]} to {wanted[-1]}'
        )
    _refuse_damaged(index, wanted)
    images = _in_one_pass(index, deque(wanted.tolist()))
    try:
        # After the last image, what was decoded with it is looked at.
        for image, count in zip(images, counts, strict=True):
            yield from repeat(image, count)
    except (av.FFmpegError, OSError) as error:
        raise DamagedVideoError(
            f'{index.path}: decoding fails: {error.strerror}'
        ) from None


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror a picture as its EXIF orientation says.

    Args:
        image: [H, W, ...], as stored.
        orientation: 1: leave it as it is, 2: mirror it left to right, 3: turn
            it by 180 degrees, 4: mirror it top to bottom, 5: transpose it,
            6: turn it clockwise, 7: transpose and turn it by 180 degrees, 8:
            turn it counterclockwise.

    Returns:
        A view of the picture, [H, W, ...]; from 5 on [W, H, ...].
    """
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image


def exif_orientation(image: Image.Image) -> int:
    """Read how an image lies, see :func:`upright`.

    Args:
        image: As Pillow opens it; need not be loaded.

    Returns:
        1 to 8; 1 where the image does not tell, as for viewers.
    """
    if 'exif' not in image.info:
        return 1
    exif = Image.Exif()
    try:
        exif.load(image.info['exif'])
        orientation = int(exif[ExifTags.Base.Orientation])
    except Exception:
        # Pillow raises a dozen types here.
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def name_damaged(numbers: np.ndarray, most: int = 20) -> str:
    """Say which frames are damaged: ``frames 3 to 7, 12 are damaged``.

    Args:
        numbers: [D], ascending, of the frames.
        most: How many stretches of them are named.
    """
    if len(numbers) == 1:
        return f'frame {numbers[0]} is damaged'
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    names = [
        f'{run[0]} to {run[-1]}' if len(run) > 1 else f'{run[0]}'
        for run in runs[:most]
    ]
    more = f' and {len(runs) - most} more stretches' if runs[most:] else ''
    return f'frames {", ".join(names)}{more} are damaged'


class VideoWriter:
    """Write an H.264 mp4 file frame by frame, in constant memory.

    The file plays in browsers (yuv420p, BT.709, index at the front). Frames
    of odd width or height are padded by repeating the last column or row.
    The same frames give the same bytes. The file appears under its name only
    when the ``with`` block ends without an error.

    Args:
        path: File to write, ending in ``.mp4``; its folder is made.
        fps: Frames per second, from 1e-6 to 1e6, may be fractional.
        crf: Quality of x264, from 0 (lossless) to 51; 16 looks lossless.
        gop: Frames from one key frame to the next, at most. Default: 250.
        pixel_aspect: Width of a pixel divided by its height, for players.

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
        pixel_aspect: float = 1,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix != '.mp4':
            raise InputError(f'{path}: a video file must end in .mp4')
        if not MIN_FPS <= fps <= MAX_FPS:
            raise InputError(
                f'{path}: fps must be positive, from {MIN_FPS:g} to '
                f'{MAX_FPS:g}, got {fps}'
            )
        self._fps = _simple_fraction(fps)
        self._pixel_aspect = _simple_fraction(pixel_aspect)
        self._crf = crf
        self._gop = gop
        self._temporary = self.path.with_name(
            f'.{self.path.name}.{os.getpid()}.tmp'
        )
        self._stream: av.VideoStream | None = None

    def __enter__(self) -> 'VideoWriter':
        options = {'movflags': '+faststart', 'fflags': '+bitexact'}
        if self._fps < 1:
            # FFmpeg would count in less than 1/10000 s, of which a frame can
            # last 2**31 at most.
            options['video_track_timescale'] = str(self._fps.numerator)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # PyAV opens the file only with the first frame.
            self._temporary.touch()
            self._container = av.open(
                str(self._temporary),
                'w',
                format='mp4',
                options=options,
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
        context.sample_aspect_ratio = self._pixel_aspect
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


def _simple_fraction(number: float | Fraction) -> Fraction:
    """Approximate a number from 1e-6 to 1e6, to a millionth of it."""
    if number < 1:
        return 1 / _simple_fraction(1 / Fraction(number))
    return Fraction(number).limit_denominator(int(1e6 / number))


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


class _Times(NamedTuple):
    """Frames in the order of showing.

    Attributes:
        pts: [n], int64, their time stamps.
        packets: [n], int64, number of the packet that each comes from.
        key_pts: [K], int64, time stamps that one can seek to.
        key_inds: [K], int64, the first frame that decoding from there gives.
        whole: Whether no packet was lost or damaged in reading.
    """

    pts: np.ndarray
    packets: np.ndarray
    key_pts: np.ndarray
    key_inds: np.ndarray
    whole: bool = True

    def with_keys(self, kept: np.ndarray) -> '_Times':
        """Leave out key frames; ``kept`` is [K], bool, or their indices."""
        return self._replace(
            key_pts=self.key_pts[kept], key_inds=self.key_inds[kept]
        )


class _Scan(NamedTuple):
    """What decoding a whole file gives.

    Attributes:
        first: The first frame, None if there is none.
        pts: [n], int64, time stamps in the order of showing, 0 if unknown.
        packets: [n], int64, number of the packet that each frame comes from.
        is_key: [n], bool, whether it depends on no other one and is intact.
        bad: [B], int64, ascending, packets that are damaged, cannot be
            decoded or give a frame that the decoder flags.
        num_whole: How many frames came before the first error, None if there
            was none.
        breaks_off: Whether the packets end with an error.
    """

    first: av.VideoFrame | None
    pts: np.ndarray
    packets: np.ndarray
    is_key: np.ndarray
    bad: np.ndarray
    num_whole: int | None
    breaks_off: bool


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
        stream = _choose_stream(self._container)
        if stream is None:
            self._container.close()
            raise DamagedVideoError(f'{path}: holds no video')
        self.stream = stream
        context = self.stream.codec_context
        # Workers are many already, and threads do not survive a fork.
        context.thread_count = 1
        context.copy_opaque = True
        context.options = {'max_pixels': str(MAX_FRAME_PIXELS)}
        if context.width * context.height > MAX_FRAME_PIXELS:
            self._container.close()
            raise DamagedVideoError(
                f'{path}: frames of {context.width}x{context.height} pixels '
                f'are too large, {MAX_FRAME_PIXELS} are allowed'
            )
        self._can_skip = context.codec.name in _CAN_SKIP
        self._num_packets = 0
        #: Whether the packets that were read last ended with an error.
        self.breaks_off = False
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

    def _packets(self) -> Iterator[av.Packet]:
        """Read packets; the last one is empty and flushes the decoder.

        Other empty ones, by which Theora repeats a frame, are left out:
        FFmpeg does not decode them.
        """
        self._num_packets, self.breaks_off = 0, False
        try:
            for packet in self._container.demux(self.stream):
                if packet.size or packet.dts is None:
                    # Comes back with the frame. It has to be an object of its
                    # own: PyAV keeps it by its identity.
                    packet.opaque = [self._num_packets]
                    yield packet
                    self._num_packets += 1
        except av.FFmpegError:
            self.breaks_off = True
        except IndexError:
            # PyAV cannot flush streams that came up only now (in a damaged
            # transport stream); it has given all of ours by then.
            pass

    def _packets_from(self, key_pts: int) -> Iterator[av.Packet]:
        """Read packets from the key frame at or before a time on.

        Gives nothing if seeking fails or ends behind that time.
        """
        jumps = self.times_may_jump
        # Where time stamps are guessed, a second is enough to find the right
        # ones again.
        early = round(1 / float(self.stream.time_base or 1)) if jumps else 0
        try:
            self._container.seek(key_pts - early, stream=self.stream)
        except av.FFmpegError:
            # Some containers know no place at or before a first frame that
            # is decoded before time 0.
            return
        packets = self._packets()
        if jumps:
            packets = dropwhile(lambda p: p.pts != key_pts, packets)
        for i, packet in enumerate(packets):
            if i == 0 and packet.pts is not None and packet.pts > key_pts:
                return
            yield packet

    def origin(self, frame: av.VideoFrame) -> int:
        """Number of the packet that a frame comes from, in this reading."""
        number = frame.opaque
        return number[0] if isinstance(number, list) else self._num_packets

    def list_packets(self) -> _Times:
        """List the frames that the packets announce.

        A file with packets without a time stamp gives no key frames.
        """
        packets = [
            (p.pts, p.is_keyframe, p.is_discard, p.is_corrupt)
            for p in self._packets()
            if p.size
        ]
        # Packets that an edit list cuts away are decoded but not shown.
        shown = [i for i, (_, _, cut, _) in enumerate(packets) if not cut]
        numbers, none = np.array(shown, np.int64), np.zeros(0, np.int64)
        whole = not (self.breaks_off or any(p[3] for p in packets))
        if any(pts is None for pts, *_ in packets):
            return _Times(np.arange(len(shown)), numbers, none, none, whole)
        times = np.array([packets[i][0] for i in shown], np.int64)
        order = np.argsort(times, kind='stable')
        keys = [pts for pts, is_key, *_ in packets if is_key]
        key_pts = np.sort(np.array(keys, np.int64))
        return _Times(
            pts=times[order],
            packets=numbers[order],
            key_pts=key_pts,
            key_inds=np.searchsorted(times[order], key_pts),
            whole=whole,
        )

    @property
    def times_may_jump(self) -> bool:
        """Whether FFmpeg guesses time stamps, as of MPEG streams.

        Not each packet has one there. Those that it guesses after seeking may
        differ, so that a frame gets the time stamp of another one.
        """
        # AVFMT_TS_DISCONT
        return bool(self._container.format.flags & 0x200)

    def finds_keys(self, listed: _Times) -> np.ndarray:
        """Tell which key frames seeking finds, with all that follows.

        For a file that was just opened.

        Args:
            listed: From :meth:`list_packets`.

        Returns:
            [K], bool.
        """
        packets = [(p.pts, p.size, p.is_keyframe) for p in self._packets()]
        keys = [i for i, (_, _, is_key) in enumerate(packets) if is_key]
        groups = {
            packets[i][0]: packets[i:j]
            for i, j in zip(keys, [*keys[1:], len(packets) - 1])
        }
        return np.array(
            [self._finds(k, groups[k]) for k in listed.key_pts.tolist()], bool
        )

    def _finds(self, key_pts: int, group: list[tuple]) -> bool:
        """Check that seeking finds a group of packets, and none before it."""
        found = []
        for p in self._packets_from(key_pts):
            found.append((p.pts, p.size, p.is_keyframe))
            if len(found) == len(group):
                break
        return found == group

    def frames(
        self,
        from_pts: int | None = None,
        only: Collection[int] | None = None,
    ) -> Iterator[av.VideoFrame]:
        """Decode from the current place, or from the key frame before a time.

        Gives nothing if seeking fails or ends behind that time. With
        ``only``, where each frame is one packet with the frame's time stamp,
        frames of other time stamps may be left out if no frame depends on
        them, and the last of these ends it, after all frames that were
        decoded up to it; then seek before reading on.
        """
        context = self.stream.codec_context
        left = set(only or ())
        packets = self._packets()
        if from_pts is not None:
            packets = self._packets_from(from_pts)
        for packet in packets:
            if self._can_skip:
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

    def scan(self) -> _Scan:
        """Decode the whole file, whatever is damaged."""
        first, num_whole = None, None
        shown: list[tuple[int, int, bool]] = []
        key_packets, bad = [], []
        for packet in self._packets():
            number = self._num_packets
            if packet.is_keyframe:
                key_packets.append(number)
            if packet.is_corrupt:
                bad.append(number)
            try:
                frames = packet.decode()
            except av.FFmpegError:
                bad.append(number)
                num_whole = len(shown) if num_whole is None else num_whole
                continue
            for frame in frames:
                first, origin = first or frame, self.origin(frame)
                is_key = frame.key_frame and not frame.is_corrupt
                shown.append((frame.pts or 0, origin, is_key))
                if frame.is_corrupt:
                    bad.append(origin)
        pts, origins, is_key = np.array(shown, np.int64).reshape(-1, 3).T
        bad_packets = np.unique(np.array(bad, np.int64))
        if not is_key.any():
            # Some decoders call no frame a key frame.
            is_key = np.isin(origins, np.setdiff1d(key_packets, bad_packets))
        return _Scan(
            first=first,
            pts=pts,
            packets=origins,
            is_key=is_key > 0,
            bad=bad_packets,
            num_whole=num_whole,
            breaks_off=self.breaks_off,
        )

    def to_image(
        self, frame: av.VideoFrame, orientation: int = 1
    ) -> np.ndarray:
        """Make an upright RGB picture of a frame, [H, W, 3], uint8."""
        rgb = self._to_rgb.reformat(frame, format='rgb24', threads=1)
        return upright(rgb.to_ndarray(), orientation)


def _choose_stream(
    container: av.container.InputContainer,
) -> av.VideoStream | None:
    """Choose the stream that players show, None if there is no video.

    That is the one which is marked as default; if none or several are, that
    of the largest frames; then the first. A cover picture is no video.
    """
    videos = [
        stream
        for stream in container.streams.video
        # One whose codec is not known has no context.
        if stream.codec_context is not None
        and not stream.disposition & Disposition.attached_pic
    ]

    def merits(stream: av.VideoStream) -> tuple[bool, int]:
        context = stream.codec_context
        return (
            bool(stream.disposition & Disposition.default),
            context.width * context.height,
        )

    return max(videos, key=merits, default=None)


def _orientation(frame: av.VideoFrame, path: str) -> int:
    """Find out how a frame of a file lies, see :func:`upright`."""
    try:
        matrix: Any = frame.side_data.get('DISPLAYMATRIX')
    except ValueError:
        # PyAV has no name for EXIF, of which FFmpeg has made the matrix.
        with suppress(OSError), Image.open(path) as image:
            return exif_orientation(image)
        return {0: 1, -90: 6, 90: 8}.get(frame.rotation, 3)
    if matrix is None:
        return 1
    # A pixel (x, y) is shown at (ax + cy, bx + dy), but for a shift.
    a, b, _, c, d, *_ = np.frombuffer(matrix, np.int32).astype(np.int64)
    if abs(b) + abs(c) <= abs(a) + abs(d):
        return {(0, 0): 1, (1, 0): 2, (1, 1): 3, (0, 1): 4}[a < 0, d < 0]
    return {(0, 0): 5, (1, 0): 6, (1, 1): 7, (0, 1): 8}[c < 0, b < 0]


def _frame_rate(average: float, times: np.ndarray) -> float:
    """Choose the average frame rate of a video.

    Args:
        average: What FFmpeg says, 0 if it does not.
        times: [n], seconds, when each frame is shown, as far as it is known.

    Returns:
        Frames per second: what FFmpeg says, unless no two frames follow each
        other as fast as that (raw DV); then what the times say. 0 if neither
        is known, or not possible.
    """
    steps = np.diff(times)
    rate = average
    if len(steps) and steps.min() > 0 and not 0 < average * steps.min() < 1.5:
        rate = float(1 / steps.mean())
    return rate if MIN_FPS <= rate <= MAX_FPS else 0.0


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


def _look_at_ends(
    path: str, listed: _Times
) -> tuple[av.VideoFrame | None, int]:
    """Compare what the packets announce with the first and last group.

    Returns:
        The first frame, and how many frames were decoded; 0 if these are not
        just as announced, or damaged.
    """
    pts, key_pts = listed.pts, listed.key_pts
    if not (listed.whole and len(key_pts)) or len(np.unique(pts)) < len(pts):
        return None, 0
    end = int(listed.key_inds[1]) if len(key_pts) > 1 else len(pts)
    first, next_key = None, None
    seen: list[int | None] = []
    try:
        with _Reader(path) as reader:
            for frame in reader.frames():
                if frame.is_corrupt:
                    return None, 0
                first = first or frame
                if len(seen) == end:
                    next_key = reader.to_image(frame)
                    break
                seen.append(frame.pts)
        if seen != pts[:end].tolist() or (next_key is None) != (
            end == len(pts)
        ):
            return None, 0
        if next_key is None:
            return first, end
        if not _is_clean(path, int(key_pts[1]), next_key):
            return None, 0
    except av.FFmpegError:
        return None, 0
    num_last = _group_agrees(path, listed, len(key_pts) - 1)
    return first, end + num_last if num_last else 0


def _is_clean(path: str, key_pts: int, image: np.ndarray) -> bool:
    """Check that a key frame, if seeking finds it, is what it should be.

    Some raw streams (H.261) call each frame a key frame.
    """
    with _Reader(path) as reader:
        for frame in reader.frames(key_pts):
            if frame.pts == key_pts:
                return np.array_equal(reader.to_image(frame), image)
            if frame.pts is not None and frame.pts > key_pts:
                break
    return True


def _group_agrees(path: str, times: _Times, key: int) -> int:
    """Check that seeking to a key frame gives its group of frames, intact.

    Returns:
        The number of these frames, 0 if it does not.
    """
    start, end = np.append(times.key_inds, len(times.pts))[[key, key + 1]]
    expected = times.pts[start:end].tolist()
    beyond = times.pts[end] if end < len(times.pts) else None
    seen: list[int | None] = []
    try:
        with _Reader(path) as reader:
            for frame in reader.frames(int(times.key_pts[key])):
                if frame.pts is not None and frame.pts == beyond:
                    break
                seen.append(None if frame.is_corrupt else frame.pts)
    except av.FFmpegError:
        return 0
    return len(expected) if seen[-len(expected) :] == expected else 0


def _scan(path: str) -> _Scan:
    with _Reader(path) as reader:
        return reader.scan()


def _match(
    listed: _Times, scan: _Scan, trusted: bool
) -> tuple[_Times, np.ndarray] | None:
    """Take the frames that the packets announce, to know which are missing.

    Args:
        listed: From the packets.
        scan: From decoding the whole file.
        trusted: Whether the first and the last group are as announced.

    Returns:
        The frames and which are damaged, [D], int64; None if what is missing
        is not due to damage: then the packets do not tell the frames.
    """
    number_of = {pts: i for i, pts in enumerate(scan.pts.tolist())}
    found = np.array([number_of.get(pts, -1) for pts in listed.pts.tolist()])
    missing = found < 0
    bad = scan.bad
    if trusted:
        bad = np.union1d(bad, listed.packets[missing])
    elif (
        not len(bad)
        or len(scan.pts) != np.sum(~missing)
        or not np.all(np.diff(scan.pts) > 0)
        or not np.all(np.diff(listed.pts) > 0)
    ):
        return None
    is_key = np.append(scan.is_key, False)[found]
    damaged = _depend_on(bad, listed.packets, is_key)
    if not np.all(damaged[missing]):
        return None
    if not trusted:
        keys = np.flatnonzero(is_key)
        listed = listed._replace(key_pts=listed.pts[keys], key_inds=keys)
    return listed, np.flatnonzero(damaged)


def _as_shown(path: str, scan: _Scan) -> tuple[_Times, np.ndarray]:
    """Number the frames as decoding shows them, up to the first error.

    Returns:
        The frames and which are damaged, [D], int64.
    """
    end = scan.num_whole
    pts, packets = scan.pts[:end], scan.packets[:end]
    is_key = scan.is_key[:end]
    damaged = np.flatnonzero(_depend_on(scan.bad, packets, is_key))
    key_inds = np.flatnonzero(is_key)
    times = _Times(pts, packets, pts[key_inds], key_inds)
    # Whether one can seek is tried where all is intact.
    counts = np.diff(np.searchsorted(damaged, np.append(key_inds, len(pts))))
    intact = np.flatnonzero(counts == 0)
    if (
        len(np.unique(pts)) < len(pts)
        or not len(intact)
        or not _group_agrees(path, times, int(intact[-1]))
    ):
        times = times.with_keys(np.zeros(0, np.int64))
    return times, damaged


def _depend_on(
    bad: np.ndarray, packets: np.ndarray, is_key: np.ndarray
) -> np.ndarray:
    """Find the frames that are decoded from damaged packets.

    Those are the ones between the key frame before a frame and the frame
    itself, in the order of the file, which is that of decoding. A frame that
    is shown before its key frame depends on the key frame before that as
    well.

    Args:
        bad: [B], ascending, damaged packets.
        packets: [n], the packet of each frame, in the order of showing.
        is_key: [n], bool.

    Returns:
        [n], bool.
    """
    key_inds = np.flatnonzero(is_key)
    key_inds = key_inds[np.argsort(packets[key_inds])]
    starts = np.concatenate([[0, 0], packets[key_inds]])
    key = np.searchsorted(starts, packets, side='right') - 1
    is_early = np.arange(len(packets)) < np.append([0, 0], key_inds)[key]
    begins = np.searchsorted(bad, starts[key - is_early], side='left')
    return np.searchsorted(bad, packets, side='right') > begins


def _refuse_damaged(index: VideoIndex, wanted: np.ndarray) -> None:
    known = np.intersect1d(wanted, index.damaged)
    if len(known):
        raise DamagedVideoError(f'{index.path}: {name_damaged(known)}')


def _decode_group(
    reader: _Reader, index: VideoIndex, key: int, group: list[int]
) -> dict[int, np.ndarray]:
    """Decode frames that follow one key frame.

    Where that key frame does not give all of them (it is not a clean place
    to start, or seeking misses it), start at ever earlier ones.
    """
    frames: dict[int, np.ndarray] = {}
    start = int(index.key_inds[key]) if key >= 0 else 0
    back = 1
    while key >= 0:
        found, damage = _collect(
            reader, index, group, start, int(index.key_pts[key])
        )
        if damage and back > 1:
            # It is there wherever one starts.
            raise DamagedVideoError(damage)
        if not damage:
            frames |= found
            if len(frames) == len(group):
                return frames
        key, back = key - back, back * 2
    with _Reader(index.path) as from_start:
        found, damage = _collect(from_start, index, group, start)
    frames |= found
    if damage:
        raise DamagedVideoError(damage)
    if len(frames) < len(group):
        missing = sorted(set(group) - set(frames))
        raise DamagedVideoError(
            f'{index.path}: frames {missing} cannot be decoded'
        )
    return frames


def _collect(
    reader: _Reader,
    index: VideoIndex,
    group: list[int],
    start: int,
    from_pts: int | None = None,
) -> tuple[dict[int, np.ndarray], str]:
    """Decode until all frames of a group are there or passed.

    Args:
        reader: Of the file.
        index: Of the file.
        group: Numbers of frames.
        start: Number of the first frame on which they can depend.
        from_pts: Time stamp to seek to; None if the file was just opened.

    Returns:
        The frames by their numbers, and what is damaged among all that was
        decoded for them.
    """
    wanted = {int(index.pts[i]): i for i in group}
    last, first = max(wanted), int(index.pts[start])
    decoded = reader.frames(from_pts, wanted if index.regular else None)
    frames: dict[int, np.ndarray] = {}
    damage = ''
    for number, frame in enumerate(decoded):
        pts = frame.pts if len(index.key_pts) else number
        if pts is None:
            continue
        if frame.is_corrupt and (
            pts in wanted or (index.regular and pts >= first)
        ):
            i = np.searchsorted(index.pts, pts)
            damage = damage or f'{index.path}: frame {i} is damaged'
        elif pts in wanted:
            frames[wanted[pts]] = reader.to_image(frame, index.orientation)
        # A regular file's frames end by themselves when all are there.
        if len(frames) == len(wanted) and not index.regular:
            break
        if len(frames) < len(wanted) and index.regular and pts > last:
            break
    return frames, damage


def _in_one_pass(index: VideoIndex, left: deque[int]) -> Iterator[np.ndarray]:
    """Decode ascending frames from the key frame before the first on.

    Where that is no clean place to start, or seeking misses it, single frames
    are decoded by themselves, and the rest from the start of the file.
    """
    number_of: dict[int | None, int] = {
        int(pts): i for i, pts in enumerate(index.pts)
    }
    keys = set(index.key_inds.tolist())
    only = {int(index.pts[i]) for i in left} if index.regular else None
    key = np.searchsorted(index.key_inds, left[0], side='right') - 1
    starts = [int(index.key_pts[key])] if key >= 0 else []
    for from_pts in [*starts, None]:
        with _Reader(index.path) as reader:
            # Of the packets since the last key frame: the first damaged one,
            # and the last one of those whose frames were given.
            damaged, given = np.inf, -1
            for count, frame in enumerate(reader.frames(from_pts, only)):
                pts = frame.pts if len(index.key_pts) else count
                number, packet = number_of.get(pts, -1), reader.origin(frame)
                while left and left[0] < number:
                    yield decode_frames(index, [left.popleft()])[0]
                wanted = bool(left) and left[0] == number
                if frame.is_corrupt:
                    damaged = min(damaged, packet)
                elif number in keys:
                    damaged, given = (
                        damaged if damaged > packet else np.inf,
                        -1,
                    )
                if wanted:
                    given = max(given, packet)
                if (damaged <= given and index.regular) or (
                    wanted and frame.is_corrupt
                ):
                    raise DamagedVideoError(
                        f'{index.path}: frame {number} is damaged'
                    )
                if wanted:
                    left.popleft()
                    yield reader.to_image(frame, index.orientation)
                # A regular file's frames end by themselves.
                if not left and not index.regular:
                    return
        if not left:
            return
    raise DamagedVideoError(f'{index.path}: frame {left[0]} is not there')
