"""Reading single frames against decoding everything; writing and reading."""

import os
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

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
    with av.open(str(path), metadata_errors='ignore') as file:
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
