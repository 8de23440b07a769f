"""Reading single frames against decoding everything; writing and reading."""

import os
import shutil
import struct
import threading
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import av
import numpy as np
import pytest
import torch
from av.bitstream import BitStreamFilterContext
from av.stream import Disposition

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.video import decoding, reader
from stylegan_v_mm.video.decoding import decode_frames, iter_frames
from stylegan_v_mm.video.encoding import VideoWriter, video_grid, write_video
from stylegan_v_mm.video.index import index_video
from stylegan_v_mm.video.reader import DamagedVideoError

# A folder of videos of any origin, to be read frame by frame as well.
REAL = sorted(Path(os.environ.get('STYLEGAN_V_VIDEOS', '/nowhere')).glob('*'))
# Files that once went wrong.
FAULTS = Path(os.environ.get('STYLEGAN_V_BAD_INPUTS', '/nowhere'))
# Encoded by what PyAV lacks.
SAMPLES = sorted(Path(__file__).parents[1].glob('data/videos/*.*[!d]'))


def picture(i, size=(64, 48)):
    """Frame i: a moving bar on noise, different for each i."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = i * 6 % 256
    image[8:20, (3 * i) % 40 : (3 * i) % 40 + 12] = 255
    rng = np.random.default_rng(i)
    image[30:40] = rng.integers(0, 255, (10, width, 3))
    return image


def encode(
    path,
    codec,
    num_frames=40,
    gop=12,
    bframes=None,
    options=None,
    times_ms=None,
    rotation=0,
    pix_fmt='yuv420p',
    container=None,
    pixel_aspect=None,
    size=(64, 48),
):
    with av.open(str(path), 'w', format=container) as file:
        stream = file.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        stream.codec_context.gop_size = gop
        if bframes is not None:
            stream.codec_context.max_b_frames = bframes
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for i in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(i, size), 'rgb24')
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[i], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def decode_all(path):
    """Every frame up to the first damage, by decoding from the start."""
    images = []
    with av.open(str(path), **reader.ANY_METADATA) as file:
        # Of the videos in our files, players show the largest.
        stream = max(
            (s for s in file.streams.video if 'attached' not in words(s)),
            key=lambda s: s.width * s.height,
        )
        packets = file.demux(stream)
        decode = stream.codec_context.decode
        while True:
            try:
                packet = next(packets, None)
                # PyAV refuses the empty packets of Theora.
                if packet and not packet.size and packet.dts is not None:
                    continue
                frames = decode(packet if packet and packet.size else None)
            except av.FFmpegError:
                packet, frames = None, decode(None)
            for frame in frames:
                if frame.is_corrupt:
                    continue
                image = frame.to_ndarray(format='rgb24')
                images.append(np.rot90(image, frame.rotation // 90))
            if packet is None or not packet.size:
                return np.stack(images)


def words(stream):
    """What a stream is marked as, as text."""
    return Disposition(stream.disposition).name or ''


def assert_frames_equal_full_decode(path, index=None):
    index = index or index_video(path)
    truth = decode_all(path)
    if index.problem:
        # What was decoded last depends on how one ends.
        assert 0 <= len(truth) - index.num_frames <= 2
        truth = truth[: index.num_frames]
    assert index.num_frames == len(truth)
    assert (index.height, index.width) == truth.shape[1:3]
    np.testing.assert_array_equal(
        decode_frames(index, range(len(truth))), truth
    )
    rng = np.random.default_rng(0)
    for _ in range(8):
        inds = rng.integers(0, len(truth), 3)
        np.testing.assert_array_equal(decode_frames(index, inds), truth[inds])
    # Stretches, in one pass: all, from the middle, with gaps and repetitions.
    third = len(truth) // 3
    for inds in (
        np.arange(len(truth)),
        np.arange(third, len(truth)),
        np.sort(rng.integers(third, len(truth), third + 1)),
    ):
        for i, image in zip(inds, iter_frames(index, inds), strict=True):
            np.testing.assert_array_equal(image, truth[i])
    # Every frame by itself, so that each has to be found by seeking, and is
    # the first one that a decoder gives.
    for i in range(0, len(truth), max(1, len(truth) // 40)):
        decoding._close_readers()
        np.testing.assert_array_equal(decode_frames(index, [i])[0], truth[i])
    return index


QUIET = 'log-level=0:keyint=12'
SVT = {'size': (64, 64), 'options': {'preset': '8'}}
VFR = np.cumsum([1, 40, 7, 100, 33] * 8).tolist()
ENCODINGS = {
    'gop1.mp4': {'codec': 'libx264', 'gop': 1},
    'gop12.mp4': {'codec': 'libx264', 'gop': 12},
    'gop250.mp4': {'codec': 'libx264', 'gop': 250},
    'gop2_bframes.mp4': {'codec': 'libx264', 'gop': 2, 'bframes': 3},
    'open_gop.mkv': {
        'codec': 'libx264',
        'options': {'x264-params': 'open-gop=1:keyint=12:bframes=3'},
    },
    'open_gop.mp4': {
        'codec': 'libx264',
        'options': {'x264-params': 'open-gop=1:keyint=4:bframes=3'},
    },
    'intra_refresh.mp4': {
        'codec': 'libx264',
        'options': {'x264-params': 'intra-refresh=1:keyint=12:bframes=0'},
    },
    'bframes.avi': {'codec': 'mpeg4', 'bframes': 2},
    'plain.avi': {'codec': 'mpeg4', 'bframes': 0},
    'h264.avi': {'codec': 'libx264', 'options': {'bf': '2'}},
    'vp9.webm': {'codec': 'libvpx-vp9', 'options': {'auto-alt-ref': '1'}},
    'vfr.mkv': {'codec': 'libx264', 'times_ms': VFR},
    'vfr.mp4': {'codec': 'libx264', 'times_ms': VFR},
    'mpeg2.mpg': {'codec': 'mpeg2video', 'bframes': 2},
    'stream.ts': {'codec': 'libx264'},
    'raw.h264': {'codec': 'libx264'},
    'rotated.mp4': {'codec': 'libx264', 'rotation': 90},
    'animation.gif': {'codec': 'gif', 'pix_fmt': 'rgb8'},
    'animation.png': {
        'codec': 'apng',
        'pix_fmt': 'rgb24',
        'container': 'apng',
    },
    'pyramid.mp4': {
        'codec': 'libx264',
        'options': {'x264-params': 'b-adapt=0:bframes=7:b-pyramid=normal'},
    },
    'h264.flv': {'codec': 'libx264'},
    'h264.nut': {'codec': 'libx264'},
    'hevc.mp4': {'codec': 'libx265', 'options': {'x265-params': QUIET}},
    'hevc_layers.mp4': {
        'codec': 'libx265',
        'options': {'x265-params': f'{QUIET}:temporal-layers=1:bframes=4'},
    },
    'hevc_open_gop.mkv': {
        'codec': 'libx265',
        'options': {'x265-params': f'{QUIET}:open-gop=1:bframes=4'},
    },
    'raw.hevc': {'codec': 'libx265', 'options': {'x265-params': QUIET}},
    'svt.mp4': {'codec': 'libsvtav1', **SVT},
    'svt.webm': {'codec': 'libsvtav1', **SVT},
    'svt.ivf': {'codec': 'libsvtav1', **SVT},
    'vp8.webm': {'codec': 'libvpx', 'options': {'auto-alt-ref': '1'}},
    'vp8.ivf': {'codec': 'libvpx'},
    'vp9_hidden.mp4': {
        'codec': 'libvpx-vp9',
        'options': {'auto-alt-ref': '6', 'lag-in-frames': '25'},
    },
    'mpeg1.mpg': {'codec': 'mpeg1video', 'bframes': 2},
    'mpeg1.mkv': {'codec': 'mpeg1video', 'bframes': 2},
    'mpeg2.mkv': {'codec': 'mpeg2video', 'bframes': 2},
    'mpeg2.ts': {'codec': 'mpeg2video', 'bframes': 2},
    'mpeg2.mxf': {'codec': 'mpeg2video', 'bframes': 2},
    'mpeg4.mp4': {'codec': 'mpeg4', 'bframes': 2},
    'mpeg4.m4v': {'codec': 'mpeg4', 'bframes': 2, 'container': 'm4v'},
    'mjpeg.avi': {'codec': 'mjpeg', 'pix_fmt': 'yuvj420p'},
    'mjpeg.mov': {'codec': 'mjpeg', 'pix_fmt': 'yuvj420p'},
    'raw.mjpeg': {'codec': 'mjpeg', 'pix_fmt': 'yuvj420p'},
    'prores.mov': {'codec': 'prores_ks', 'pix_fmt': 'yuv422p10le'},
    'ffv1.mkv': {'codec': 'ffv1'},
    'ffv1.avi': {'codec': 'ffv1'},
    'wmv2.wmv': {'codec': 'wmv2'},
    'h263.flv': {'codec': 'flv'},
    'h261.h261': {'codec': 'h261', 'size': (176, 144)},
}


@pytest.mark.parametrize('name', ENCODINGS)
def test_encoded_file(tmp_path, name):
    encode(tmp_path / name, **ENCODINGS[name])
    index = assert_frames_equal_full_decode(tmp_path / name)
    assert index.num_frames == 40
    assert index.problem == ''


@pytest.mark.parametrize('path', SAMPLES, ids=lambda path: path.name)
def test_file_that_pyav_cannot_encode(path):
    index = assert_frames_equal_full_decode(path)
    assert index.num_frames >= 31
    assert index.problem == ''


@pytest.mark.skipif(not FAULTS.exists(), reason='no STYLEGAN_V_BAD_INPUTS')
@pytest.mark.parametrize(
    ('name', 'num_frames', 'fps'),
    [
        ('clip_svtav1.mp4', 75, 25),
        ('cover_art_first.mp4', 40, 25),
        ('raw.mjpeg', 40, 25),
        ('theora_30fps.ogv', 60, 30),
    ],
)
def test_file_that_went_wrong(name, num_frames, fps):
    index = assert_frames_equal_full_decode(FAULTS / name)
    assert (index.num_frames, index.fps) == (num_frames, fps)
    assert index.problem == ''


@pytest.mark.slow
@pytest.mark.parametrize('path', REAL, ids=lambda path: path.name)
def test_real_file(path):
    assert_frames_equal_full_decode(path)


@pytest.mark.parametrize('name', ['gop12.mp4', 'bframes.avi', 'vp9.webm'])
def test_seeking_is_really_used(tmp_path, name):
    encode(tmp_path / name, **ENCODINGS[name])
    index = index_video(tmp_path / name)
    np.testing.assert_array_equal(index.key_inds, [0, 12, 24, 36])


# How much is read, and what stays open


class Watched:
    """A container that counts what is taken out of it."""

    opened = packets = 0

    def __init__(self, container):
        self.container = container

    def __getattr__(self, name):
        return getattr(self.container, name)

    def demux(self, stream):
        for packet in self.container.demux(stream):
            Watched.packets += 1
            yield packet


@pytest.fixture
def watched(monkeypatch):
    """Count files opened and packets read, from none open."""

    def watched_open(*args, **kwargs):
        Watched.opened += 1
        return Watched(av.open(*args, **kwargs))

    watched_av = SimpleNamespace(**vars(av) | {'open': watched_open})
    monkeypatch.setattr(reader, 'av', watched_av)
    decoding._close_readers()
    Watched.opened = Watched.packets = 0
    yield Watched
    decoding._close_readers()


def open_files(folder):
    """What this process has open in a folder, once for each time."""
    links = []
    for link in Path('/proc/self/fd').iterdir():
        try:
            links.append(os.readlink(link))
        except FileNotFoundError:
            continue
    return sorted(
        Path(link).name for link in links if link.startswith(f'{folder}/')
    )


needs_proc = pytest.mark.skipif(
    not Path('/proc/self/fd').exists(), reason='needs /proc'
)


@pytest.fixture(scope='module')
def hour(tmp_path_factory):
    """An hour at 25 frames a second, and its frames: few, in random order.

    Packets of three groups of 250 frames take turns at random.
    """
    path = tmp_path_factory.mktemp('hour') / 'hour.mp4'
    groups, images = [], []
    for k in range(3):
        part = path.with_name(f'{k}.mp4')
        with av.open(str(part), 'w') as file:
            stream = file.add_stream(
                'libx264',
                rate=25,
                options={'preset': 'veryfast', 'sc_threshold': '0'},
            )
            stream.width = stream.height = 64
            stream.codec_context.gop_size = 250
            for i in range(250):
                image = picture(i + 250 * k, (64, 64))
                image[30:40] //= 8
                frame = av.VideoFrame.from_ndarray(image, 'rgb24')
                file.mux(stream.encode(frame))
            file.mux(stream.encode())
        images.append(decode_all(part))
        with av.open(str(part)) as file:
            stream = file.streams.video[0]
            packets = [p for p in file.demux(stream) if p.size]
            groups.append([(bytes(p), p.pts, p.dts) for p in packets])
    order = np.random.default_rng(0).integers(3, size=360)
    with av.open(str(part)) as old, av.open(str(path), 'w') as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        step = int(1 / 25 / old.streams.video[0].time_base)
        for i, k in enumerate(order):
            for n, (blob, pts, dts) in enumerate(groups[k]):
                packet = av.Packet(blob)
                packet.duration = step
                packet.pts = pts + i * 250 * step
                packet.dts = dts + i * 250 * step
                packet.time_base = old.streams.video[0].time_base
                packet.stream, packet.is_keyframe = stream, n == 0
                new.mux(packet)
    return path, lambda i: images[order[i // 250]][i % 250]


def test_an_hour_is_not_decoded_for_a_few_frames(hour, watched):
    path, truth = hour
    index = index_video(path)
    assert index.num_frames == 90_000
    np.testing.assert_array_equal(index.key_inds, np.arange(360) * 250)
    rng = np.random.default_rng(0)
    starts = rng.integers(90_000 - 32, size=12)
    clips = [s + np.sort(rng.integers(33, size=3)) for s in starts]
    clips += [[7, 45_120, 89_999], [249, 250], [89_750], [0]]
    decode_frames(index, [0])  # open the file
    for inds in clips:
        watched.packets = 0
        frames = decode_frames(index, inds)
        np.testing.assert_array_equal(frames, [truth(i) for i in inds])
        # Up to three of the encoder's B-frames follow what they are for.
        needed = {i for j in inds for i in range(j // 250 * 250, j + 4)}
        assert watched.packets <= len(needed)


def test_files_stay_open(tmp_path, watched):
    for name in 'ab':
        encode(tmp_path / f'{name}.mp4', 'libx264')
    indices = [index_video(tmp_path / f'{name}.mp4') for name in 'ab']
    truths = [decode_all(index.path) for index in indices]
    watched.opened = 0
    for i in (3, 30, 11, 39, 0):
        for index, truth in zip(indices, truths):
            np.testing.assert_array_equal(
                decode_frames(index, [i, 12]), truth[[i, 12]]
            )
    assert watched.opened == 2


@needs_proc
@pytest.mark.parametrize(
    ('size', 'most'), [(64, 4), (256, 4), (512, 1), (1024, 1)]
)
def test_few_files_stay_open(tmp_path, monkeypatch, watched, size, most):
    monkeypatch.setattr(decoding, 'MAX_OPEN_PIXELS', 4 * 256**2)
    frames = np.zeros((2, 3, size, size), np.uint8)
    for i in range(6):
        write_video(tmp_path / f'{i}.mp4', frames, 25)
        decode_frames(index_video(tmp_path / f'{i}.mp4'), [1])
    latest = [f'{i}.mp4' for i in range(6)][-most:]
    assert open_files(tmp_path) == latest
    decode_frames(index_video(tmp_path / latest[0]), [1])
    decode_frames(index_video(tmp_path / '0.mp4'), [1])
    assert open_files(tmp_path) == sorted(
        ['0.mp4', *([*latest[2:], latest[0]] if most > 1 else [])]
    )


def test_file_that_was_replaced(tmp_path, watched):
    path = tmp_path / 'a.mp4'
    for grey in (50, 200):
        frames = np.full((9, 3, 16, 16), grey, np.uint8)
        write_video(path, frames, 25)
        frame = decode_frames(index_video(path), [5])
        assert np.abs(frame.astype(int) - grey).max() < 4


@needs_proc
def test_no_file_stays_open_after_an_error(tmp_path, watched):
    encode(tmp_path / 'long.mp4', 'libx264')
    encode(tmp_path / 'a.mp4', 'libx264', num_frames=20)
    index = index_video(tmp_path / 'long.mp4')
    shutil.copy(tmp_path / 'a.mp4', tmp_path / 'long.mp4')
    with pytest.raises(DamagedVideoError):
        decode_frames(index, [30])
    assert open_files(tmp_path) == []


@needs_proc
def test_forked_process_opens_files_of_its_own(tmp_path, watched):
    encode(tmp_path / 'a.mp4', 'libx264')
    index = index_video(tmp_path / 'a.mp4')
    truth = decode_all(index.path)
    decode_frames(index, [20])
    assert open_files(tmp_path) == ['a.mp4']
    child = os.fork()
    if child == 0:
        try:
            none = open_files(tmp_path) == []
            same = all(
                np.array_equal(decode_frames(index, [i])[0], truth[i])
                for i in range(40)
            )
            os._exit(0 if none and same else 1)
        finally:
            os._exit(2)
    for i in reversed(range(40)):
        np.testing.assert_array_equal(decode_frames(index, [i])[0], truth[i])
    assert os.waitpid(child, 0)[1] == 0


def test_threads_read_one_file(tmp_path, watched):
    encode(tmp_path / 'a.mp4', 'libx264')
    index = index_video(tmp_path / 'a.mp4')
    truth = decode_all(index.path)
    right = []

    def read(seed):
        for i in np.random.default_rng(seed).integers(40, size=30):
            right.append(
                np.array_equal(decode_frames(index, [i])[0], truth[i])
            )

    threads = [threading.Thread(target=read, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 120


@pytest.mark.parametrize('gop', [12, 2])
def test_first_frames_cut_away_by_an_edit_list(tmp_path, gop):
    # Frames before time 0 are in the file, and an edit list hides them.
    times = [40 * (i - 5) for i in range(40)]
    encode(tmp_path / 'a.mp4', 'libx264', gop=gop, times_ms=times, bframes=0)
    index = assert_frames_equal_full_decode(tmp_path / 'a.mp4')
    assert index.num_frames == 35
    first = decode_frames(index, [0])[0].astype(int)
    errors = [np.abs(first - picture(i)).mean() for i in range(40)]
    assert np.argmin(errors) == 5


# What a frame looks like

# Rows of a display matrix: a pixel (x, y) is shown at (ax + cy, bx + dy).
MATRICES = [
    (a, b, c, d)
    for a, b, c, d in product((-1, 0, 1), repeat=4)
    if abs(a * d - b * c) == 1 and abs(a) + abs(b) == 1 and a * c == b * d
]


def set_matrix(path, matrix):
    """Write a display matrix into the header of an mp4 file's only track."""
    blob = bytearray(path.read_bytes())
    a, b, c, d = (number * 2**16 for number in matrix)
    # Behind version, times, number, length, layer, group and volume.
    start = blob.index(b'tkhd') + 44
    blob[start : start + 36] = struct.pack(
        '>9i', a, b, 0, c, d, 0, 0, 0, 2**30
    )
    path.write_bytes(blob)


def shown(image, matrix):
    """Move each pixel to where a display matrix wants it."""
    a, b, c, d = matrix
    y, x = np.indices(image.shape[:2])
    to_x, to_y = a * x + c * y, b * x + d * y
    to_x, to_y = to_x - to_x.min(), to_y - to_y.min()
    result = np.zeros((to_y.max() + 1, to_x.max() + 1, 3), np.uint8)
    result[to_y, to_x] = image
    return result


@pytest.mark.parametrize('container', ['mp4', 'mov'])
@pytest.mark.parametrize('matrix', MATRICES, ids=str)
def test_each_orientation(tmp_path, matrix, container):
    assert len(MATRICES) == 8
    path = tmp_path / f'a.{container}'
    encode(path, 'libx264', num_frames=14)
    stored = decode_all(path)
    set_matrix(path, matrix)
    index = index_video(path)
    expected = np.stack([shown(image, matrix) for image in stored])
    assert (index.height, index.width) == expected.shape[1:3]
    np.testing.assert_array_equal(decode_frames(index, range(14)), expected)
    np.testing.assert_array_equal(
        [*iter_frames(index, [3, 9])], expected[[3, 9]]
    )


@pytest.mark.parametrize(
    ('option', 'turn'),
    [
        ('rotate=90', np.rot90),
        ('rotate=180', lambda image: image[::-1, ::-1]),
        ('flip=horizontal', lambda image: image[:, ::-1]),
        ('flip=vertical', lambda image: image[::-1]),
        ('flip=horizontal:rotate=90', lambda image: np.rot90(image[:, ::-1])),
    ],
)
def test_orientation_in_the_stream_itself(tmp_path, option, turn):
    path, turned = tmp_path / 'a.h264', tmp_path / 'turned.h264'
    encode(path, 'libx264', num_frames=5)
    with av.open(str(path)) as old, av.open(str(turned), 'w') as new:
        stream = old.streams.video[0]
        edit = BitStreamFilterContext(
            f'h264_metadata=display_orientation=insert:{option}', stream
        )
        copy = new.add_stream_from_template(stream)
        packets = [p for p in old.demux(stream) if p.size]
        edited = [p for packet in packets for p in edit.filter(packet)]
        for packet in [*edited, *edit.filter(None)]:
            packet.stream = copy
            packet.dts = packet.pts = None
            new.mux(packet)
    frames = decode_frames(index_video(turned), range(5))
    expected = [turn(image) for image in decode_all(path)]
    np.testing.assert_array_equal(frames, expected)


@pytest.mark.skipif(not FAULTS.exists(), reason='no STYLEGAN_V_BAD_INPUTS')
def test_mirrored_file():
    frames = decode_frames(index_video(FAULTS / 'hflip.mp4'), range(40))
    with av.open(str(FAULTS / 'hflip.mp4')) as file:
        stored = [f.to_ndarray(format='rgb24') for f in file.decode(video=0)]
    np.testing.assert_array_equal(frames, np.stack(stored)[:, :, ::-1])


def test_shape_of_pixels(tmp_path):
    path = tmp_path / 'a.mp4'
    encode(path, 'libx264', num_frames=3, pixel_aspect=Fraction(64, 45))
    index = index_video(path)
    assert index.pixel_aspect == pytest.approx(64 / 45)
    assert (index.width, index.height) == (64, 48)
    set_matrix(path, (0, 1, -1, 0))
    index = index_video(path)
    assert index.pixel_aspect == pytest.approx(45 / 64)
    assert (index.width, index.height) == (48, 64)
    encode(path, 'libx264', num_frames=3)
    assert index_video(path).pixel_aspect == 1


# Which of several videos is shown


def encode_several(path, videos):
    """Write videos of one grey each; ``videos`` are (grey, size, marks)."""
    with av.open(str(path), 'w') as file:
        streams = []
        for _, (width, height), mark in videos:
            cover = mark == Disposition.attached_pic
            stream = file.add_stream('mjpeg' if cover else 'libx264', rate=25)
            stream.width, stream.height = width, height
            stream.pix_fmt = 'yuvj420p' if cover else 'yuv420p'
            stream.disposition = mark
            streams.append(stream)
        for stream, (grey, (width, height), mark) in zip(streams, videos):
            image = np.full((height, width, 3), grey, np.uint8)
            for _ in range(1 if mark == Disposition.attached_pic else 8):
                frame = av.VideoFrame.from_ndarray(image, 'rgb24')
                file.mux(stream.encode(frame))
            file.mux(stream.encode())


NONE, DEFAULT = Disposition(0), Disposition.default
COVER = Disposition.attached_pic
SMALL, LARGE = (32, 32), (64, 48)


@pytest.mark.parametrize(
    ('videos', 'expected'),
    [
        ([(40, SMALL, NONE), (90, LARGE, DEFAULT), (140, LARGE, NONE)], 90),
        ([(40, LARGE, NONE), (90, SMALL, DEFAULT)], 90),
        ([(40, SMALL, DEFAULT), (90, LARGE, DEFAULT)], 90),
        ([(40, SMALL, NONE), (90, LARGE, NONE)], 90),
        ([(40, SMALL, NONE), (90, LARGE, NONE), (140, LARGE, NONE)], 90),
        ([(40, SMALL, DEFAULT), (90, SMALL, DEFAULT)], 40),
    ],
)
def test_the_video_that_players_show(tmp_path, videos, expected):
    path = tmp_path / 'a.mkv'
    encode_several(path, videos)
    index = index_video(path)
    size = next(size for grey, size, _ in videos if grey == expected)
    assert (index.width, index.height, index.num_frames) == (*size, 8)
    for frame in (*decode_frames(index, [2, 7]), *iter_frames(index, [4])):
        assert np.abs(frame.astype(int) - expected).max() < 5


def test_a_cover_is_no_video(tmp_path):
    path = tmp_path / 'a.mp4'
    encode_several(path, [(40, (200, 200), COVER), (90, SMALL, DEFAULT)])
    index = index_video(path)
    assert (index.width, index.num_frames) == (32, 8)
    blob = path.read_bytes()
    encode_several(path, [(90, SMALL, DEFAULT), (40, (200, 200), COVER)])
    assert index_video(path).num_frames == 8
    assert path.read_bytes() != blob
    with av.open(str(path), 'w') as file:
        sound = file.add_stream('aac', rate=44100, layout='mono')
        cover = file.add_stream('mjpeg', rate=25)
        cover.width = cover.height = 64
        cover.pix_fmt, cover.disposition = 'yuvj420p', COVER
        image = np.zeros((64, 64, 3), np.uint8)
        file.mux(cover.encode(av.VideoFrame.from_ndarray(image, 'rgb24')))
        silence = np.zeros((1, 1024), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, 'fltp', 'mono')
        frame.sample_rate, frame.pts = 44100, 0
        file.mux([*sound.encode(frame), *sound.encode(), *cover.encode()])
    with pytest.raises(DamagedVideoError, match='holds no video'):
        index_video(path)


# Time


@pytest.mark.parametrize(
    ('name', 'encoding'),
    [
        ('a.ivf', {'codec': 'libvpx'}),
        ('a.dv', {'codec': 'dvvideo', 'size': (720, 576), 'num_frames': 4}),
    ],
)
def test_rate_comes_from_the_time_stamps(tmp_path, name, encoding):
    encode(tmp_path / name, **encoding)
    with av.open(str(tmp_path / name)) as file:
        assert file.streams.video[0].average_rate != 25
    assert index_video(tmp_path / name).fps == pytest.approx(25)


def test_average_rate_stands_whatever_the_pauses(tmp_path):
    times = [*range(0, 800, 40), *range(10_000, 10_800, 40)]
    encode(tmp_path / 'a.mkv', 'libx264', times_ms=times)
    with av.open(str(tmp_path / 'a.mkv')) as file:
        average = float(file.streams.video[0].average_rate)
    assert index_video(tmp_path / 'a.mkv').fps == average


@pytest.mark.parametrize(
    'fps', [1e-6, 1 / 86400, 0.001, 1 / 7, 0.9997, 240, 1000, 12345.6, 1e6]
)
def test_slow_and_fast_rates_are_written(tmp_path, fps):
    frames = np.zeros((5, 3, 16, 16), np.uint8)
    write_video(tmp_path / 'a.mp4', frames, fps)
    with av.open(str(tmp_path / 'a.mp4')) as file:
        stream = file.streams.video[0]
        assert float(stream.average_rate) == pytest.approx(fps, rel=2e-6)
        times = [frame.time for frame in file.decode(stream)]
    assert np.diff(times) == pytest.approx([1 / fps] * 4, rel=2e-6)
    assert index_video(tmp_path / 'a.mp4').fps == pytest.approx(fps, rel=2e-6)


@pytest.mark.parametrize('fps', [0, -1, 1e-7, 1e7, np.inf, np.nan])
def test_rates_that_cannot_be_written(tmp_path, fps):
    frames = np.zeros((1, 3, 16, 16), np.uint8)
    with pytest.raises(InputError, match=r'a\.mp4: fps must be'):
        write_video(tmp_path / 'a.mp4', frames, fps)


# Damage


class Damaged(NamedTuple):
    """A video of which the decoder finds a part damaged.

    Attributes:
        path: The file.
        clean: [T, H, W, 3], its frames before the damage.
        flagged: Numbers of frames that the decoder flags.
        spoilt: Numbers of frames that nobody should use: these and all that
            are decoded after them, up to the next key frame.
    """

    path: Path
    clean: np.ndarray
    flagged: set[int]
    spoilt: set[int]


def hurt(path, packet_numbers):
    """Overwrite the second half of some packets of a video in place.

    The groups must be closed: a key frame ends what depends on one before.
    """
    clean = decode_all(path)
    with av.open(str(path)) as file:
        packets = [p for p in file.demux(video=0) if p.size]
        places = [(p.pos, p.size) for p in packets]
    blob = bytearray(path.read_bytes())
    for start, size in (places[number] for number in packet_numbers):
        blob[start + size // 2 : start + size] = bytes(size - size // 2)
    path.write_bytes(blob)
    numbers = {pts: i for i, pts in enumerate(sorted(p.pts for p in packets))}
    bad = set()
    with av.open(str(path)) as file:
        for packet in file.demux(video=0):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                bad.add(numbers[packet.pts])
                continue
            bad |= {numbers[f.pts] for f in frames if f.is_corrupt}
    spoilt, is_bad = set(), False
    for packet in packets:  # in the order of decoding
        number = numbers[packet.pts]
        is_bad = number in bad or (is_bad and not packet.is_keyframe)
        spoilt |= {number} if is_bad else set()
    return Damaged(path, clean, bad, spoilt)


CLOSED = {'x264-params': 'keyint=10:min-keyint=10:scenecut=0:bframes=3'}
HURT = {
    'a frame that others need.mp4': ('libx264', [11]),
    'a key frame.mkv': ('libx264', [20]),
    'several.mp4': ('libx264', [4, 15, 22]),
    'in MPEG-2.mkv': ('mpeg2video', [13, 22]),
    'frames of MPEG-4.mp4': ('mpeg4', [13, 22]),
}


@pytest.fixture(params=HURT, scope='module')
def damaged(request, tmp_path_factory):
    path = tmp_path_factory.mktemp('damaged') / request.param
    codec, packets = HURT[request.param]
    options = CLOSED if codec == 'libx264' else {}
    encode(
        path, codec, gop=10, bframes=0 if not options else 3, options=options
    )
    damaged = hurt(path, packets)
    assert damaged.flagged
    assert 3 < len(damaged.spoilt) < 25
    return damaged


def test_damaged_frames_are_named(damaged):
    index = index_video(damaged.path, thorough=True)
    assert index.num_frames == index.num_checked == 40
    assert set(index.damaged.tolist()) == damaged.spoilt
    assert 'damaged, of 40' in index.problem
    for i in range(40):
        if i in damaged.spoilt:
            with pytest.raises(DamagedVideoError, match=f'frame {i} is dam'):
                decode_frames(
                    index, [0, i] if 0 not in damaged.spoilt else [i]
                )
        else:
            frame = decode_frames(index, [i])[0]
            np.testing.assert_array_equal(frame, damaged.clean[i])


def test_damage_that_is_not_known_yet(damaged):
    """No frame that the decoder flags, or of what depends on it, is used."""
    index = index_video(damaged.path)
    rng = np.random.default_rng(0)
    clips = [[i] for i in range(40)]
    clips += [np.sort(rng.integers(40, size=3)).tolist() for _ in range(40)]
    for clip in clips:
        decoding._close_readers()
        refused = 0
        for read in (
            lambda clip=clip: decode_frames(index, clip),
            lambda clip=clip: np.stack([*iter_frames(index, clip)]),
        ):
            try:
                frames = read()
            except DamagedVideoError:
                refused += 1
            else:
                assert not damaged.flagged & set(clip)
                np.testing.assert_array_equal(frames, damaged.clean[clip])
        if not damaged.spoilt & set(clip):
            # One pass may meet what lies between them.
            assert refused <= 1
    with pytest.raises(DamagedVideoError):
        list(iter_frames(index, range(40)))


def test_stretches_between_damage_can_be_read(damaged):
    index = index_video(damaged.path, thorough=True)
    bounds = [-1, *sorted(damaged.spoilt), 40]
    for before, after in pairwise(bounds):
        inds = np.arange(before + 1, after)
        if len(inds):
            frames = np.stack([*iter_frames(index, inds)])
            np.testing.assert_array_equal(frames, damaged.clean[inds])


def test_frames_before_a_key_frame_depend_on_the_group_before(tmp_path):
    path = tmp_path / 'a.mp4'
    options = 'open-gop=1:keyint=10:min-keyint=10:scenecut=0:bframes=3'
    encode(path, 'libx264', options={'x264-params': f'{options}:b-adapt=0'})
    damaged = hurt(path, [11])
    index = index_video(path, thorough=True)
    intact = set(range(40)) - set(index.damaged.tolist())
    assert 10 < len(intact) < 40 - len(damaged.flagged)
    for i in sorted(intact):
        np.testing.assert_array_equal(
            decode_frames(index, [i])[0], damaged.clean[i]
        )


def test_damage_at_the_end_and_at_the_start(tmp_path):
    encode(tmp_path / 'end.mp4', 'libx264', options=CLOSED)
    damaged = hurt(tmp_path / 'end.mp4', [35])
    index = index_video(tmp_path / 'end.mp4')
    assert index.num_frames == min(damaged.spoilt)
    assert not len(index.damaged)
    stops = f'decoding stops after {index.num_frames} of 40 frames'
    assert index.problem == stops
    encode(tmp_path / 'start.mp4', 'libx264', options=CLOSED)
    damaged = hurt(tmp_path / 'start.mp4', [0])
    index = index_video(tmp_path / 'start.mp4')
    assert index.damaged.tolist() == [*range(10)]
    assert index.problem == 'frames 0 to 9 are damaged, of 40'
    np.testing.assert_array_equal(
        decode_frames(index, range(10, 40)), damaged.clean[10:]
    )


@pytest.mark.skipif(not FAULTS.exists(), reason='no STYLEGAN_V_BAD_INPUTS')
def test_flipped_bits():
    """93 frames are spoilt; the decoder flags 14 or 15 of them."""
    path = FAULTS / 'h264_bitflips.mp4'
    index = index_video(path, thorough=True)
    assert index.num_frames == 200
    assert index.damaged.tolist() == [*range(57, 150)]
    index = index_video(path)
    for i in range(200):
        decoding._close_readers()
        if 57 <= i < 150:
            with pytest.raises(DamagedVideoError):
                decode_frames(index, [i])
        else:
            assert len(decode_frames(index, [i])) == 1


def test_truncated_file_gives_the_frames_that_are_there(tmp_path):
    encode(tmp_path / 'whole.mkv', 'libx264', bframes=0)
    blob = (tmp_path / 'whole.mkv').read_bytes()
    (tmp_path / 'part.mkv').write_bytes(blob[: len(blob) * 6 // 10])
    index = index_video(tmp_path / 'part.mkv')
    assert 10 < index.num_frames < 40
    truth = decode_all(tmp_path / 'whole.mkv')
    inds = np.arange(index.num_frames - 1)
    np.testing.assert_array_equal(decode_frames(index, inds), truth[inds])


def test_damage_found_while_reading(tmp_path):
    encode(tmp_path / 'a.mkv', 'libx264')
    index = index_video(tmp_path / 'a.mkv')
    (tmp_path / 'a.mkv').write_bytes(b'x' * 1000)
    with pytest.raises(DamagedVideoError, match=r'a\.mkv'):
        decode_frames(index, [3])
    with pytest.raises(DamagedVideoError, match=r'a\.mkv'):
        list(iter_frames(index, [3]))
    (tmp_path / 'a.mkv').unlink()
    with pytest.raises(DamagedVideoError, match=r'a\.mkv'):
        decode_frames(index, [3])
    with pytest.raises(DamagedVideoError, match=r'a\.mkv'):
        list(iter_frames(index, [3]))


def test_frames_missing_from_the_file(tmp_path):
    encode(tmp_path / 'long.mp4', 'libx264')
    encode(tmp_path / 'short.mp4', 'libx264', num_frames=20)
    index = index_video(tmp_path / 'long.mp4')
    shutil.copy(tmp_path / 'short.mp4', tmp_path / 'long.mp4')
    with pytest.raises(DamagedVideoError, match=r'frames \[30\] cannot'):
        decode_frames(index, [30, 1])
    with pytest.raises(DamagedVideoError, match='frame 20 is missing'):
        list(iter_frames(index, range(40)))


@pytest.mark.parametrize('content', [b'', b'not a video' * 100])
def test_file_without_a_frame(tmp_path, content):
    path = tmp_path / 'a.mp4'
    path.write_bytes(content)
    with pytest.raises(DamagedVideoError, match=r'a\.mp4'):
        index_video(path)


def test_file_with_sound_only(tmp_path):
    with av.open(str(tmp_path / 'a.mp4'), 'w') as file:
        stream = file.add_stream('aac', rate=44100, layout='stereo')
        silence = np.zeros((2, 1024), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, 'fltp', 'stereo')
        frame.sample_rate, frame.pts = 44100, 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    with pytest.raises(DamagedVideoError, match='holds no video'):
        index_video(tmp_path / 'a.mp4')


def test_frames_that_do_not_exist(tmp_path):
    encode(tmp_path / 'a.mp4', 'libx264', num_frames=5)
    index = index_video(tmp_path / 'a.mp4')
    for bad in ([-1], [5], [0, 7]):
        with pytest.raises(IndexError, match='frames 0 to 4'):
            decode_frames(index, bad)
        with pytest.raises(IndexError, match='frames 0 to 4'):
            list(iter_frames(index, bad))
    assert list(iter_frames(index, [])) == []


COLOURS = np.array(
    [
        [255, 0, 0],
        [0, 255, 0],
        [0, 0, 255],
        [255, 255, 255],
        [0, 0, 0],
        [30, 200, 140],
        [128, 128, 128],
    ],
    np.uint8,
)


@pytest.mark.parametrize('size', [(32, 32), (33, 45)])
@pytest.mark.parametrize('fps', [25, 29.97, 12.5])
def test_written_colours_size_and_rate(tmp_path, size, fps):
    frames = np.broadcast_to(
        COLOURS[:, :, None, None], (len(COLOURS), 3, *size)
    )
    path = tmp_path / 'new' / 'a.mp4'
    write_video(path, torch.from_numpy(frames.copy()), fps)
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert stream.codec_context.name == 'h264'
        assert stream.codec_context.pix_fmt == 'yuv420p'
        assert float(stream.average_rate) == pytest.approx(fps, rel=1e-4)
        images = [f.to_ndarray(format='rgb24') for f in file.decode(video=0)]
    even = tuple(side + side % 2 for side in size)
    assert np.stack(images).shape == (len(COLOURS), *even, 3)
    expected = np.broadcast_to(COLOURS[:, None, None], np.shape(images))
    assert np.abs(np.stack(images).astype(int) - expected).max() <= 6
    assert os.listdir(path.parent) == ['a.mp4']
    blob = path.read_bytes()
    assert blob.index(b'moov') < blob.index(b'mdat')


def test_odd_size_repeats_the_edge(tmp_path):
    frames = np.zeros((2, 3, 15, 15), np.uint8)
    frames[..., -1] = 255
    write_video(tmp_path / 'a.mp4', frames, 10, crf=1)
    image = decode_all(tmp_path / 'a.mp4')[0]
    assert image[:, -2:].min() > 240
    assert image[:, :-4].max() < 15


def test_same_frames_same_bytes_in_any_pieces(tmp_path):
    frames = np.stack([picture(i) for i in range(20)]).transpose(0, 3, 1, 2)
    write_video(tmp_path / 'a.mp4', frames, 25)
    with VideoWriter(tmp_path / 'b.mp4', 25) as writer:
        writer.append(frames[:7])
        for frame in torch.from_numpy(frames[7:]):
            writer.append(frame)
    blob = (tmp_path / 'a.mp4').read_bytes()
    assert (tmp_path / 'b.mp4').read_bytes() == blob
    error = (
        decode_all(tmp_path / 'a.mp4')[:, :30].astype(int)
        - np.stack([picture(i) for i in range(20)])[:, :30]
    )
    # Each frame is in its place; the sharp edges suffer from 4:2:0.
    assert np.abs(error).mean() < 5
    write_video(tmp_path / 'c.mp4', frames, 25, crf=40)
    assert len((tmp_path / 'c.mp4').read_bytes()) < len(blob) / 2


def fail_after(function, *args):
    function(*args)
    raise RuntimeError


def test_nothing_is_left_after_an_error(tmp_path):
    path = tmp_path / 'a.mp4'
    path.write_bytes(b'old')
    with pytest.raises(RuntimeError), VideoWriter(path, 25) as writer:
        fail_after(writer.append, np.zeros((3, 3, 16, 16), np.uint8))
    with (
        pytest.raises(InputError, match='needs a frame'),
        VideoWriter(path, 25),
    ):
        pass
    assert os.listdir(tmp_path) == ['a.mp4']
    assert path.read_bytes() == b'old'


@pytest.mark.parametrize(
    ('frames', 'text'),
    [
        (np.zeros((2, 3, 16, 16), np.float32), 'uint8'),
        (np.zeros((2, 1, 16, 16), np.uint8), r'\[2, 1, 16, 16\]'),
        (np.zeros((16, 16), np.uint8), 'uint8'),
    ],
)
def test_frames_of_another_kind(tmp_path, frames, text):
    with pytest.raises(InputError, match=text):
        write_video(tmp_path / 'a.mp4', frames, 25)


def test_frames_that_change_size(tmp_path):
    with VideoWriter(tmp_path / 'a.mp4', 25) as writer:
        writer.append(np.zeros((1, 3, 16, 16), np.uint8))
        with pytest.raises(InputError, match='differ in size'):
            writer.append(np.zeros((1, 3, 16, 18), np.uint8))


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    frames = np.zeros((1, 3, 16, 16), np.uint8)
    with pytest.raises(InputError, match='cannot be written'):
        write_video(tmp_path / 'file' / 'a.mp4', frames, 25)
    with pytest.raises(InputError, match='cannot be written'):
        write_video('/proc/a.mp4', frames, 25)
    with pytest.raises(InputError, match=r'end in \.mp4'):
        write_video(tmp_path / 'a.webm', frames, 25)
    with pytest.raises(InputError, match='fps'):
        write_video(tmp_path / 'a.mp4', frames, 0)


def test_grid():
    videos = torch.arange(1, 6, dtype=torch.uint8)[:, None, None, None, None]
    videos = videos.repeat(1, 2, 3, 4, 5)
    grid = video_grid(videos, ncols=3, padding=1)
    assert grid.shape == (2, 3, 9, 17)
    row = [1] * 5 + [0] + [2] * 5 + [0] + [3] * 5
    assert grid[1, 2, 0].tolist() == row
    assert grid[0, 0, 8].tolist() == [4] * 5 + [0] + [5] * 5 + [0] * 6
    assert grid[:, :, 4].sum() == 0
