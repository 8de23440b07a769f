"""One open video file: its packets, and frames by decoding."""

from collections.abc import Collection, Iterator
from itertools import dropwhile
from typing import Any, NamedTuple

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from PIL import ExifTags, Image

from ..errors import InputError

# For av.open: titles and the like may be no UTF-8. From PyAV 19 on they always
# may, and there is no such option.
ANY_METADATA: dict[str, Any] = (
    {'metadata_errors': 'ignore'}
    if int(av.__version__.split('.')[0]) < 19
    else {}
)

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


class PacketTimes(NamedTuple):
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

    def with_keys(self, kept: np.ndarray) -> 'PacketTimes':
        """Leave out key frames; ``kept`` is [K], bool, or their indices."""
        return self._replace(
            key_pts=self.key_pts[kept], key_inds=self.key_inds[kept]
        )


class PacketScan(NamedTuple):
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

    def __enter__(self) -> 'Reader':
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

    def list_packets(self) -> PacketTimes:
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
            return PacketTimes(
                np.arange(len(shown)), numbers, none, none, whole
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
        """Whether FFmpeg guesses time stamps, as of MPEG streams.

        Not each packet has one there. Those that it guesses after seeking may
        differ, so that a frame gets the time stamp of another one.
        """
        # AVFMT_TS_DISCONT
        return bool(self._container.format.flags & 0x200)

    def finds_keys(self, listed: PacketTimes) -> np.ndarray:
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

    def scan(self) -> PacketScan:
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
