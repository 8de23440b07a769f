"""An open video file: its packets and decoded frames."""

from collections.abc import Collection, Iterator
from itertools import dropwhile
from typing import Any, NamedTuple

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from PIL import ExifTags, Image

from ..errors import InputError

# For av.open: metadata such as titles need not be UTF-8. PyAV 19 and later
# always accept it and do not have this option.
ANY_METADATA: dict[str, Any] = (
    {'metadata_errors': 'ignore'}
    if int(av.__version__.split('.')[0]) < 19
    else {}
)

#: Range of frames per second of a file.
MIN_FPS, MAX_FPS = 1e-6, 1e6

#: Largest frame or image: a small file can claim to hold a huge one.
MAX_FRAME_PIXELS = 2**26

# FFmpeg's demuxers of files. Its others, such as those of playlists, scripts
# and streams, would let a file name other files or hosts to read from. A raw
# stream of JPEGs is a "jpeg_pipe" to FFmpeg.
_CONTAINERS = (
    '3dostr,4xm,amv,anm,apng,asf,av1,avi,avs2,avs3,bink,cavsvideo,cine,dhav,'
    'dirac,dnxhd,dv,film_cpk,flic,flv,gif,gxf,h261,h263,h264,hevc,ifv,ivf,'
    'ivr,jpeg_pipe,kux,lxf,m4v,matroska,mjpeg,mjpeg_2000,mov,mp4,mpeg,mpegts,'
    'mpegvideo,mxf,nsv,nut,nuv,obu,ogg,pva,rm,roq,smk,swf,ty,vc1,vivo,'
    'vvc,webm,wtv,yuv4mpegpipe'
)

# Decoders that can be set before each packet to skip frames that no other
# frame depends on. Other decoders read this setting only when they are opened
# (AV1), skip frames that others depend on (HEVC with temporal layers) or lose
# state that a skipped frame would have updated (VP8).
_CAN_SKIP = frozenset(['h264', 'mpeg1video', 'mpeg2video', 'mpeg4'])


class DamagedVideoError(InputError):
    """A video, or a part of it, that cannot be decoded."""


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate and mirror an image according to its EXIF orientation.

    Args:
        image: [H, W, ...], as stored.
        orientation: 1: no change, 2: mirror left to right, 3: rotate by 180
            degrees, 4: mirror top to bottom, 5: transpose, 6: rotate
            clockwise, 7: transpose and rotate by 180 degrees, 8: rotate
            counterclockwise.

    Returns:
        A view of the image, [H, W, ...], or [W, H, ...] if ``orientation`` is
        5 or more.
    """
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image


def exif_orientation(image: Image.Image) -> int:
    """Read the EXIF orientation of an image, see :func:`upright`.

    Args:
        image: An image opened by Pillow; its pixels need not be loaded.

    Returns:
        1 to 8. If the image has none, it is 1, as viewers assume.
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


class PacketTimes(NamedTuple):
    """Frames in presentation order.

    Attributes:
        pts: [n], int64, time stamps of the frames.
        packets: [n], int64, index of each frame's packet.
        key_pts: [K], int64, time stamps that seeking finds.
        key_inds: [K], int64, index of the first frame that decoding from each
            of them gives.
        whole: Whether all packets were read without damage.
    """

    pts: np.ndarray
    packets: np.ndarray
    key_pts: np.ndarray
    key_inds: np.ndarray
    whole: bool = True

    def with_keys(self, kept: np.ndarray) -> 'PacketTimes':
        """Keep only some key frames: ``kept`` is [K], bool, or indices."""
        return self._replace(
            key_pts=self.key_pts[kept], key_inds=self.key_inds[kept]
        )


class PacketScan(NamedTuple):
    """Result of decoding a whole file.

    Attributes:
        first: The first frame, None if there is none.
        pts: [n], int64, time stamps in presentation order, 0 if unknown.
        packets: [n], int64, index of each frame's packet.
        is_key: [n], bool, whether each frame is an intact key frame.
        bad: [B], int64, ascending indices of the packets that are damaged,
            cannot be decoded or give a frame that the decoder flags.
        num_whole: Number of frames before the first error, None if there was
            none.
        breaks_off: Whether the packets end with an error.
    """

    first: av.VideoFrame | None
    pts: np.ndarray
    packets: np.ndarray
    is_key: np.ndarray
    bad: np.ndarray
    num_whole: int | None
    breaks_off: bool


class Reader:
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
        # There are several workers already, and threads do not survive a
        # fork.
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
        #: Whether the last pass over the packets ended with an error.
        self.breaks_off = False
        self._to_rgb = VideoReformatter()

    def __enter__(self) -> 'Reader':
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    @property
    def pixels(self) -> int:
        """Cost of keeping the file open, see :data:`MAX_OPEN_PIXELS`."""
        context = self.stream.codec_context
        return max(context.width * context.height, 256**2)

    def _packets(self) -> Iterator[av.Packet]:
        """Yield packets; the last one is empty and flushes the decoder.

        Other empty packets, with which Theora repeats a frame, are left out,
        as FFmpeg does not decode them.
        """
        self._num_packets, self.breaks_off = 0, False
        try:
            for packet in self._container.demux(self.stream):
                if packet.size or packet.dts is None:
                    # PyAV returns this with the frame. It identifies objects
                    # by their id, so each packet needs its own.
                    packet.opaque = [self._num_packets]
                    yield packet
                    self._num_packets += 1
        except av.FFmpegError:
            self.breaks_off = True
        except IndexError:
            # PyAV cannot flush a stream that appeared late (in a damaged
            # transport stream). All packets of ours have been read by then.
            pass

    def _packets_from(self, key_pts: int) -> Iterator[av.Packet]:
        """Yield packets from the key frame at or before a time on.

        Yield nothing if seeking fails or ends after that time.
        """
        jumps = self.times_may_jump
        # Where FFmpeg guesses time stamps, they are right again after a second
        # of reading.
        early = round(1 / float(self.stream.time_base or 1)) if jumps else 0
        try:
            self._container.seek(key_pts - early, stream=self.stream)
        except av.FFmpegError:
            # Some containers cannot seek to a first frame that is decoded
            # before time 0.
            return
        packets = self._packets()
        if jumps:
            packets = dropwhile(lambda p: p.pts != key_pts, packets)
        for i, packet in enumerate(packets):
            if i == 0 and packet.pts is not None and packet.pts > key_pts:
                return
            yield packet

    def origin(self, frame: av.VideoFrame) -> int:
        """Index of a frame's packet, counted from where reading started."""
        number = frame.opaque
        return number[0] if isinstance(number, list) else self._num_packets

    def list_packets(self) -> PacketTimes:
        """List the frames by their packets, without decoding.

        If a packet has no time stamp, there are no key frames in the list.
        """
        packets = [
            (p.pts, p.is_keyframe, p.is_discard, p.is_corrupt)
            for p in self._packets()
            if p.size
        ]
        # Packets that an edit list removes are decoded but not shown.
        shown = [i for i, (_, _, cut, _) in enumerate(packets) if not cut]
        numbers, none = np.array(shown, np.int64), np.zeros(0, np.int64)
        whole = not (self.breaks_off or any(p[3] for p in packets))
        if any(pts is None for pts, *_ in packets):
            return PacketTimes(
                pts=np.arange(len(shown)),
                packets=numbers,
                key_pts=none,
                key_inds=none,
                whole=whole,
            )
        times = np.array([packets[i][0] for i in shown], np.int64)
        order = np.argsort(times, kind='stable')
        keys = [pts for pts, is_key, *_ in packets if is_key]
        key_pts = np.sort(np.array(keys, np.int64))
        return PacketTimes(
            pts=times[order],
            packets=numbers[order],
            key_pts=key_pts,
            key_inds=np.searchsorted(times[order], key_pts),
            whole=whole,
        )

    @property
    def times_may_jump(self) -> bool:
        """Whether FFmpeg guesses time stamps, as it does for MPEG streams.

        There, some packets have none. FFmpeg may guess differently after
        seeking, so that a frame gets the time stamp of another one.
        """
        # AVFMT_TS_DISCONT
        return bool(self._container.format.flags & 0x200)

    def finds_keys(self, listed: PacketTimes) -> np.ndarray:
        """Find the key frames to which seeking works.

        The file must have been opened just before.

        Args:
            listed: The result of :meth:`list_packets`.

        Returns:
            [K], bool, whether seeking to a key frame gives all the packets of
            its group and none before them.
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
        """Whether seeking finds a group of packets, and none before it."""
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
        """Decode from the current position or the key frame before a time.

        Yield nothing if seeking fails or ends after that time.

        Args:
            from_pts: Time stamp to seek to; None starts at the current
                position.
            only: Time stamps of the wanted frames, for files in which each
                frame is one packet with the frame's time stamp; None for all
                frames. Other frames are skipped if no frame depends on them,
                and decoding stops after the last wanted one. Seek before
                reading on.

        Yields:
            The decoded frames.
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
                    # Flush the frames that the decoder still holds, instead
                    # of decoding more packets to get them out.
                    yield from context.decode(None)
                    return

    def scan(self) -> PacketScan:
        """Decode the whole file, past any damage."""
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
            # Some decoders mark no frame as a key frame.
            is_key = np.isin(origins, np.setdiff1d(key_packets, bad_packets))
        return PacketScan(
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
        """Convert a frame to an upright RGB image, [H, W, 3], uint8."""
        rgb = self._to_rgb.reformat(frame, format='rgb24', threads=1)
        return upright(rgb.to_ndarray(), orientation)


def _choose_stream(
    container: av.container.InputContainer,
) -> av.VideoStream | None:
    """Choose the stream that players show, None if there is no video.

    It is the one that is marked as default. If none or several are, it is the
    first one of those with the largest frames. A cover picture is no video.
    """
    videos = [
        stream
        for stream in container.streams.video
        # A stream with an unknown codec has no context.
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
