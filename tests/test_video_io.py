"""Reading single frames against decoding everything; writing and reading."""

import os
import shutil
import threading
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from stylegan_v_mm import video_io
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.video_io import (
    DamagedVideoError,
    VideoWriter,
    decode_frames,
    index_video,
    iter_frames,
    video_grid,
    write_video,
)

# A folder of videos of any origin, to be read frame by frame as well.
REAL = sorted(Path(os.environ.get('STYLEGAN_V_VIDEOS', '/nowhere')).glob('*'))


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
):
    with av.open(str(path), 'w', format=container) as file:
        stream = file.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        stream.codec_context.gop_size = gop
        if bframes is not None:
            stream.codec_context.max_b_frames = bframes
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for i in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(i), 'rgb24')
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[i], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def decode_all(path):
    """Every frame, by decoding from the start up to the first error."""
    images = []
    with av.open(str(path), **video_io.ANY_METADATA) as file:
        try:
            for frame in file.decode(video=0):
                image = frame.to_ndarray(format='rgb24')
                images.append(np.rot90(image, frame.rotation // 90))
        except av.FFmpegError:
            assert images
    return np.stack(images)


def assert_frames_equal_full_decode(path, index=None):
    index = index or index_video(path)
    truth = decode_all(path)
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
    # Every frame by itself, so that each has to be found by seeking.
    for i in range(0, len(truth), max(1, len(truth) // 40)):
        np.testing.assert_array_equal(decode_frames(index, [i])[0], truth[i])
    return index


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
}


@pytest.mark.parametrize('name', ENCODINGS)
def test_encoded_file(tmp_path, name):
    encode(tmp_path / name, **ENCODINGS[name])
    index = assert_frames_equal_full_decode(tmp_path / name)
    assert index.num_frames == 40
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
    monkeypatch.setattr(video_io, 'av', watched_av)
    video_io._close_readers()
    Watched.opened = Watched.packets = 0
    yield Watched
    video_io._close_readers()


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
    monkeypatch.setattr(video_io, 'MAX_OPEN_PIXELS', 4 * 256**2)
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


def test_first_frames_cut_away_by_an_edit_list(tmp_path):
    # Frames before time 0 are in the file, and an edit list hides them.
    times = [40 * (i - 5) for i in range(40)]
    encode(tmp_path / 'a.mp4', 'libx264', times_ms=times, bframes=0)
    index = assert_frames_equal_full_decode(tmp_path / 'a.mp4')
    assert index.num_frames == 35
    first = decode_frames(index, [0])[0].astype(int)
    errors = [np.abs(first - picture(i)).mean() for i in range(40)]
    assert np.argmin(errors) == 5


def test_rotation_turns_the_picture_upright(tmp_path):
    encode(tmp_path / 'a.mp4', 'libx264', rotation=90, options={'crf': '1'})
    index = index_video(tmp_path / 'a.mp4')
    assert (index.width, index.height, abs(index.rotation)) == (48, 64, 90)
    turned = np.rot90(picture(0), index.rotation // 90)
    shown = decode_frames(index, [0])[0].astype(int)
    assert np.abs(shown - turned)[..., 1].mean() < 12
    assert np.abs(shown - turned[::-1, ::-1])[..., 1].mean() > 20


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
    with pytest.raises(DamagedVideoError, match='frame 20 is not there'):
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
