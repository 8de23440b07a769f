"""Video files with flipped bits, holes and cuts: which frames are used.

FFmpeg's decoders do not notice all damage. Where STYLEGAN_V_FAULTS says how
often to try, a table says how many spoilt frames nobody notices.
"""

import os
import random
from contextlib import suppress

import av
import numpy as np
import pytest

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.video import reader
from stylegan_v_mm.video.decoding import decode_frames
from stylegan_v_mm.video.index import index_video

NUM_FRAMES = 50
QUIET = {'x265-params': 'log-level=0'}
#: Containers and codecs that tell damage more and less well.
VIDEOS = {
    'H.264, mp4': ('a.mp4', 'libx264', 'yuv420p', {}),
    'H.264, TS': ('a.ts', 'libx264', 'yuv420p', {}),
    'HEVC, mp4': ('a.mp4', 'libx265', 'yuv420p', QUIET),
    'AV1, mp4': ('a.mp4', 'libsvtav1', 'yuv420p', {'preset': '10'}),
    'VP8, webm': ('a.webm', 'libvpx', 'yuv420p', {'deadline': 'realtime'}),
    'VP9, webm': ('a.webm', 'libvpx-vp9', 'yuv420p', {'cpu-used': '8'}),
    'MPEG-2, TS': ('a.ts', 'mpeg2video', 'yuv420p', {}),
    'MPEG-4, AVI': ('a.avi', 'mpeg4', 'yuv420p', {}),
    'Motion JPEG, AVI': ('a.avi', 'mjpeg', 'yuvj420p', {}),
    'FFV1, mkv': ('a.mkv', 'ffv1', 'yuv420p', {'level': '3', 'slicecrc': '1'}),
    'GIF': ('a.gif', 'gif', 'rgb8', {}),
}


def flip_bits(blob, moment):
    """Flip ten bits, as a bad disk or cable does."""
    for _ in range(10):
        place = moment.randrange(len(blob) // 10, len(blob) * 19 // 20)
        blob[place] ^= 1 << moment.randrange(8)


def make_hole(blob, moment):
    """Fill 64 bytes with zeros, three times, as a broken copy has."""
    for _ in range(3):
        place = moment.randrange(len(blob) // 10, len(blob) * 19 // 20 - 64)
        blob[place : place + 64] = bytes(64)


def lose_piece(blob, moment):
    """Leave out 200 bytes, as a bad connection does."""
    place = moment.randrange(len(blob) // 10, len(blob) * 19 // 20 - 200)
    del blob[place : place + 200]


def cut_off(blob, moment):
    """End early."""
    del blob[moment.randrange(len(blob) // 4, len(blob)) :]


HARMS = {
    'bits flipped': flip_bits,
    'zeros': make_hole,
    'a piece lost': lose_piece,
    'cut off': cut_off,
}


def write(path, codec, pix_fmt, options):
    """Encode a square that moves over a ramp, with some noise."""
    faststart = {'movflags': '+faststart'} if path.suffix == '.mp4' else {}
    rng = np.random.default_rng(0)
    y, x = np.indices((64, 96))
    with av.open(str(path), 'w', options=faststart) as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pix_fmt
        stream.codec_context.gop_size = 10
        stream.codec_context.thread_count = 1  # the same bytes every time
        for i in range(NUM_FRAMES):
            image = 2 * x + y + rng.normal(0, 3, (64, 96)) + i
            image[10 + i // 2 : 30 + i // 2, i : i + 25] -= 80
            rgb = np.repeat(image[..., None], 3, 2).clip(0, 255)
            frame = av.VideoFrame.from_ndarray(rgb.astype(np.uint8), 'rgb24')
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def decode(path):
    """Decode a file as far as FFmpeg can.

    Returns the frames as bytes, and the time stamps of those that are
    flagged.
    """
    shown, flagged = [], set()
    try:
        with av.open(str(path), **reader.ANY_METADATA) as file:
            packets = file.demux(video=0)
            while packet := next(packets, None):
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    continue
                for frame in frames:
                    shown.append(frame.to_ndarray(format='rgb24').tobytes())
                    flagged |= {frame.pts} if frame.is_corrupt else set()
    except (av.FFmpegError, IndexError):
        pass
    return shown, flagged


@pytest.fixture(scope='module', params=VIDEOS)
def whole(request, tmp_path_factory):
    """A whole file: what it is, where it is and its frames."""
    name, codec, pix_fmt, options = VIDEOS[request.param]
    path = tmp_path_factory.mktemp('whole') / name
    write(path, codec, pix_fmt, options)
    return request.param, path, set(decode(path)[0])


@pytest.mark.parametrize(
    'seed', range(int(os.environ.get('STYLEGAN_V_FAULTS', 1)))
)
@pytest.mark.parametrize('harm', HARMS)
def test_no_frame_that_is_flagged_is_used(
    whole, harm, seed, tmp_path, record_property
):
    kind, path, clean = whole
    blob = bytearray(path.read_bytes())
    HARMS[harm](blob, random.Random(f'{kind} {harm} {seed}'))
    harmed = tmp_path / path.name
    harmed.write_bytes(blob)
    shown, flagged = decode(harmed)
    for thorough in (True, False):
        used = []
        with suppress(InputError):
            index = index_video(harmed, thorough)
            for i in range(index.num_frames):
                with suppress(InputError):
                    used.append(decode_frames(index, [i]).tobytes())
                    if len(index.key_pts):
                        assert index.pts[i] not in flagged
    record_property(
        'damage',
        (
            kind,
            harm,
            sum(frame not in clean for frame in shown),
            sum(frame not in clean for frame in used),
            sum(frame in clean for frame in shown),
            sum(frame in clean for frame in used),
        ),
    )
