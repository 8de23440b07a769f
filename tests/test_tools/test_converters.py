"""The converters, run as users run them, against frames that PyAV decodes."""

import json
import os
import shutil
import signal
import time
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from real_process import ROOT, held_elsewhere, run_tool, start_tool

from stylegan_v_mm.datasets import VideoDataset
from stylegan_v_mm.video.encoding import write_video
from stylegan_v_mm.video.index import index_video
from stylegan_v_mm.video.reader import ANY_METADATA

TOOLS = ROOT / 'tools/dataset_converters'


def write_clip(
    path, num_frames=6, size=(48, 32), fps=25, times_ms=None, step=1
):
    """Write a lossless video of :func:`picture` 0, step, 2 * step, ..."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    with av.open(str(path), 'w') as file:
        stream = file.add_stream('ffv1', rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, 'bgr0'
        if times_ms:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(num_frames):
            image = picture(i * step, size)
            frame = av.VideoFrame.from_ndarray(image, 'rgb24')
            if times_ms:
                frame.pts, frame.time_base = times_ms[i], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def picture(i, size=(48, 32)):
    """Frame i, RGB: red is x, green is y, blue is i."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(width) % 256
    image[..., 1] = np.arange(height)[:, None] % 256
    image[..., 2] = i
    return image


def decode(path):
    """Every frame that can be decoded, [T, H, W, 3]."""
    images = []
    with av.open(str(path), **ANY_METADATA) as file:
        # Of the videos in our files, players show the largest.
        stream = max(file.streams.video, key=lambda s: s.width * s.height)
        try:
            for frame in file.decode(stream):
                image = frame.to_ndarray(format='rgb24')
                images.append(np.rot90(image, frame.rotation // 90))
        except av.FFmpegError:
            assert images
    return np.stack(images)


def load(folder):
    """All pictures of a folder in the order of their names."""
    return np.stack(
        [np.array(Image.open(f)) for f in sorted(folder.iterdir())]
    )


def break_off(path):
    """Write a video of which only the start can be decoded.

    Returns its frames before, and how many are whole in the file now.
    """
    frames = np.random.default_rng(0).integers(0, 255, (40, 3, 48, 64))
    write_video(path, frames.astype(np.uint8), fps=25)
    before = decode(path)
    half = path.stat().st_size // 2
    with av.open(str(path)) as file:
        ends = [p.pos + p.size for p in file.demux(video=0) if p.size]
    # The list of frames is at the front, the frames themselves are gone.
    path.write_bytes(path.read_bytes()[:half])
    return before, sum(end <= half for end in ends)


def damage_middle(path):
    """Write a video of 50 frames of which 20 to 29 are damaged.

    Returns its frames before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {'x264-params': 'keyint=10:min-keyint=10:scenecut=0'}
    noise = np.random.default_rng(0).integers(0, 255, (50, 48, 64, 3))
    with av.open(str(path), 'w') as file:
        stream = file.add_stream('libx264', rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        for image in noise.astype(np.uint8):
            frame = av.VideoFrame.from_ndarray(image, 'rgb24')
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    before = decode(path)
    with av.open(str(path)) as file:
        packets = [p for p in file.demux(video=0) if p.size]
        start, size = [(p.pos, p.size) for p in packets if p.is_keyframe][2]
    blob = bytearray(path.read_bytes())
    blob[start + size // 2 : start + size] = bytes(size - size // 2)
    path.write_bytes(blob)
    return before


def state(*paths):
    """What lies under some paths, and when it was changed."""
    return {
        file: (file.stat().st_mtime_ns, file.read_bytes())
        for path in paths
        for file in ([path] if path.is_file() else path.rglob('*'))
        if file.is_file() and not file.name.endswith('report.json')
    }


@pytest.fixture
def convert(run_script, monkeypatch):
    """Run a converter without the start of a process."""
    monkeypatch.syspath_prepend(TOOLS)

    def convert(tool, *args, status=0):
        result = run_script(TOOLS / f'{tool}.py', *args)
        assert result.returncode == status, result.stderr
        return result.stderr if status else result.stdout

    return convert


@pytest.fixture
def clips(tmp_path):
    """Three videos, two in a class folder."""
    root = tmp_path / 'clips'
    write_clip(root / 'run' / 'a.mkv', 6)
    write_clip(root / 'run' / 'deep' / 'b.mkv', 4)
    write_clip(root / 'c.mkv', 9)
    return root


# What is made


@pytest.mark.parametrize('format', ['png', 'webp'])
def test_frames_are_those_that_pyav_decodes(clips, tmp_path, convert, format):
    out = tmp_path / 'out'
    text = convert('videos_to_frames', clips, out, '--format', format)
    assert text.startswith(f'{out}: 3 made, 0 there already, 0 skipped')
    for name, num_frames in [('run/a', 6), ('run/deep/b', 4), ('c', 9)]:
        files = sorted((out / name).iterdir())
        assert [file.name for file in files] == [
            f'{i:06d}.{format}' for i in range(num_frames)
        ]
        np.testing.assert_array_equal(
            load(out / name), decode(clips / f'{name}.mkv')
        )
    assert json.loads((out / 'report.json').read_text()) == {
        'made': ['c', 'run/a', 'run/deep/b'],
        'there already': [],
        'skipped': {},
    }


def test_a_zip_is_read_like_the_folder(clips, tmp_path, convert):
    convert('videos_to_frames', clips, tmp_path / 'out')
    text = convert('videos_to_frames', clips, tmp_path / 'out.zip')
    assert '3 made' in text
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {'clips', 'out', 'out.zip', 'out.report.json'}
    folder, archive = (
        VideoDataset(tmp_path / name, pipeline=[dict(type='LoadClip')])
        for name in ('out', 'out.zip')
    )
    assert [s.name for s in archive.sources] == ['c', 'run/a', 'run/deep/b']
    for one, other in zip(folder.sources, archive.sources, strict=True):
        assert one.name == other.name
        inds = range(len(one))
        np.testing.assert_array_equal(one.read(inds), other.read(inds))


def turned(image, orientation):
    """What a camera stores of a scene that is seen upright, by Pillow."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Transpose
    image = Image.fromarray(image)
    if orientation > 1:
        image = image.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x112] = orientation
    return image, exif


@pytest.mark.parametrize('orientation', range(1, 9))
def test_pictures_come_out_upright(tmp_path, convert, orientation):
    """Stills and moving ones, whose orientation only EXIF tells."""
    frames = [picture(9 * i) for i in range(4)]
    stored = [turned(frame, orientation)[0] for frame in frames]
    _, exif = turned(frames[0], orientation)
    (tmp_path / 'in/v').mkdir(parents=True)
    for i, image in enumerate(stored):
        image.save(tmp_path / f'in/v/{i}.png', exif=exif)
    stored[0].save(
        tmp_path / 'in/m.webp', save_all=True, append_images=stored[1:],
        lossless=True, exif=exif, duration=80,
    )  # fmt: skip
    convert('videos_to_frames', tmp_path / 'in', tmp_path / 'frames')
    convert('crop_time', tmp_path / 'in', tmp_path / 'cut', '--max-frames=3')
    convert('reencode', tmp_path / 'in', tmp_path / 'again', '--crf=0')
    for name in ('v', 'm'):
        np.testing.assert_array_equal(load(tmp_path / 'frames' / name), frames)
        seen = decode(tmp_path / f'again/{name}.mp4')
        assert abs(seen.astype(int) - frames).max() < 30
    # Of a folder the files are copied, with their EXIF.
    copied = sorted((tmp_path / 'cut/v').iterdir())
    assert [f.read_bytes() for f in copied] == [
        (tmp_path / f'in/v/{i}.png').read_bytes() for i in range(3)
    ]
    seen = decode(tmp_path / 'cut/m.mp4')
    assert abs(seen.astype(int) - frames[:3]).max() < 30


def test_moving_pictures_keep_their_time(tmp_path, convert):
    frames = [Image.fromarray(picture(9 * i)) for i in range(5)]
    (tmp_path / 'in').mkdir()
    frames[0].save(
        tmp_path / 'in/a.webp', save_all=True, append_images=frames[1:],
        lossless=True, duration=[100, 100, 300, 100, 100],
    )  # fmt: skip
    convert('reencode', tmp_path / 'in', tmp_path / 'again')
    with av.open(str(tmp_path / 'again/a.mp4')) as file:
        assert float(file.streams.video[0].average_rate) == pytest.approx(
            5 / 0.7, rel=1e-3
        )
    args = ['--fps=10', '--max-frames=6']
    convert('videos_to_frames', tmp_path / 'in', tmp_path / 'frames', *args)
    blue = load(tmp_path / 'frames/a')[:, 0, 0, 2] // 9
    assert blue.tolist() == [0, 1, 2, 2, 2, 3]
    # Pages of a TIFF have no times.
    frames[0].save(tmp_path / 'in/a.tif', save_all=True, append_images=frames)
    (tmp_path / 'in/a.webp').unlink()
    error = convert(
        'videos_to_frames', tmp_path / 'in', tmp_path / 'b', *args, status=2
    )
    assert 'a.tif (its frame rate is unknown)' in error


def test_a_name_that_fits_into_no_zip(clips, tmp_path, convert):
    """It is refused before all the work, and goes into a folder."""
    name = os.fsdecode(b'\xff.mkv')
    (clips / 'c.mkv').rename(clips / name)
    error = convert('videos_to_frames', clips, tmp_path / 'a.zip', status=2)
    assert error.splitlines()[-1].startswith(r'error: \udcff.mkv: the name')
    assert not list(tmp_path.glob('*a.zip*'))
    convert('videos_to_frames', clips, tmp_path / 'out')
    assert len(load(tmp_path / 'out' / os.fsdecode(b'\xff'))) == 9


def test_names_that_are_no_text_are_printed(tmp_path):
    """Where the terminal takes UTF-8 only, as a real process."""
    name = os.fsdecode(b'\xff.mkv')
    write_clip(tmp_path / 'in/a.mkv')
    (tmp_path / 'in' / name).write_bytes(b'x')
    os.symlink('nowhere', tmp_path / 'in' / os.fsdecode(b'\xfe.mp4'))
    result = run_tool(
        'dataset_converters/videos_to_frames.py',
        *(tmp_path / 'in', tmp_path / 'out'),
        before="import sys; sys.stdout.reconfigure(encoding='utf-8')",
    )
    assert result.returncode == 0, result.stderr
    assert r'skipped \udcff.mkv: ' in result.stdout
    assert r'a link to nothing (1: \udcfe.mp4)' in result.stdout


def test_resolution_averages_over_the_central_square(tmp_path, convert):
    write_clip(tmp_path / 'in' / 'a.mkv', 3, size=(52, 32))
    convert(
        *('videos_to_frames', tmp_path / 'in', tmp_path / 'out'),
        *('--resolution', 8),
    )
    square = decode(tmp_path / 'in' / 'a.mkv')[:, :, 10:42]
    means = square.reshape(3, 8, 4, 8, 4, 3).mean(axis=(2, 4))
    error = load(tmp_path / 'out' / 'a') - means
    assert error.shape == (3, 8, 8, 3)
    assert np.abs(error).max() <= 0.5


@pytest.mark.parametrize(
    ('aspect', 'width'), [(Fraction(64, 45), 91), (Fraction(3, 4), 48)]
)
def test_pixels_become_square(tmp_path, convert, aspect, width):
    """A ball that players show round is round afterwards."""
    path = tmp_path / 'in' / 'a.mp4'
    path.parent.mkdir()
    y, x = np.indices((48, 64))
    ball = np.hypot((x - 31.5) * float(aspect), y - 23.5) < 20
    image = np.repeat(ball[..., None] * np.uint8(255), 3, axis=2)
    with av.open(str(path), 'w') as file:
        stream = file.add_stream('libx264', rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        stream.codec_context.sample_aspect_ratio = aspect
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(image, 'rgb24')
            file.mux(stream.encode(frame))
        file.mux(stream.encode())

    def check(frames):
        assert frames.shape[1:3] == (48, width)
        rows, columns = np.nonzero(frames[0, ..., 1] > 127)
        assert np.ptp(rows) == pytest.approx(40, abs=2)
        assert np.ptp(columns) == pytest.approx(40, abs=2)

    convert('videos_to_frames', path, tmp_path / 'o', '--square-pixels')
    check(load(tmp_path / 'o' / 'a'))
    convert('reencode', path, tmp_path / 'r', '--square-pixels')
    check(decode(tmp_path / 'r' / 'a.mp4')[:, :, :width])
    assert index_video(tmp_path / 'r' / 'a.mp4').pixel_aspect == 1
    # Without being asked to, it says what they are.
    convert('videos_to_frames', path, tmp_path / 'p')
    np.testing.assert_array_equal(load(tmp_path / 'p' / 'a'), decode(path))
    convert('reencode', path, tmp_path / 's')
    index = index_video(tmp_path / 's' / 'a.mp4')
    assert index.width == 64
    assert index.pixel_aspect == pytest.approx(float(aspect), rel=1e-5)


@pytest.mark.parametrize('tool', ['videos_to_frames', 'reencode', 'crop_time'])
def test_mirrored_videos_come_out_as_they_are_shown(tmp_path, convert, tool):
    path = tmp_path / 'in' / 'a.mov'
    path.parent.mkdir()
    with av.open(str(path), 'w') as file:
        stream = file.add_stream('png', rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, 'rgb24'
        stream.set_display_rotation(90, hflip=True)
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(picture(80 * i), 'rgb24')
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    # Turned counterclockwise, then mirrored left to right.
    expected = [np.rot90(picture(80 * i))[:, ::-1] for i in range(3)]
    convert(tool, path.parent, tmp_path / 'out')
    if tool == 'videos_to_frames':
        np.testing.assert_array_equal(load(tmp_path / 'out' / 'a'), expected)
    else:
        frames = decode(tmp_path / 'out' / 'a.mp4').astype(int)
        assert np.abs(frames - expected).mean() < 4


@pytest.mark.parametrize('fps', [Fraction(1, 3600), 1000])
def test_slow_and_fast_rates_survive(tmp_path, convert, fps):
    write_clip(tmp_path / 'in' / 'a.mkv', 4, fps=fps)
    convert('reencode', tmp_path / 'in', tmp_path / 'out')
    with av.open(str(tmp_path / 'out' / 'a.mp4')) as file:
        assert file.streams.video[0].average_rate == fps
        assert len(list(file.decode(video=0))) == 4


def test_jpeg_quality_is_the_stated_one(clips, tmp_path, convert):
    for quality in (30, 95):
        out = tmp_path / str(quality)
        convert(
            *('videos_to_frames', clips, out),
            *('--format', 'jpg', '--quality', quality),
        )
        truth = tmp_path / 'truth.jpg'
        Image.fromarray(picture(2)).save(truth, quality=quality)
        assert (out / 'c' / '000002.jpg').read_bytes() == truth.read_bytes()


@pytest.mark.parametrize(
    ('fps', 'expected'),
    [
        (10, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (5, [0, 2, 4, 6, 8]),
        (4, [0, 2, 5, 7]),
        (20, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8]),
        (8, [0, 1, 2, 3, 5, 6, 7, 8]),
        (10 / 9, [0]),
    ],
)
def test_fps_takes_the_frame_that_is_shown(tmp_path, convert, fps, expected):
    write_clip(tmp_path / 'in' / 'a.mkv', 9, fps=10)
    convert('videos_to_frames', tmp_path / 'in', tmp_path / 'o', '--fps', fps)
    assert load(tmp_path / 'o' / 'a')[:, 0, 0, 2].tolist() == expected


def test_fps_of_uneven_frames_follows_their_times(tmp_path, convert):
    times = [0, 40, 80, 120, 400, 440, 480, 900, 940, 980]
    write_clip(tmp_path / 'in' / 'a.mkv', 10, times_ms=times)
    convert('videos_to_frames', tmp_path / 'in', tmp_path / 'o', '--fps', 20)
    frames = load(tmp_path / 'o' / 'a')[:, 0, 0, 2]
    # The last frame is shown for 980 / 9 ms: there are 1089 ms.
    assert frames.tolist() == [
        max(i for i in range(10) if times[i] <= now)
        for now in range(0, 1089, 50)
    ]


def test_at_most_max_frames(clips, tmp_path, convert):
    convert('videos_to_frames', clips, tmp_path / 'o', '--max-frames', 5)
    for name, expected in [('c', 5), ('run/a', 5), ('run/deep/b', 4)]:
        truth = decode(clips / f'{name}.mkv')[:expected]
        np.testing.assert_array_equal(load(tmp_path / 'o' / name), truth)


def test_names_that_would_be_one_keep_their_suffix(tmp_path, convert):
    for name in ('a.mkv', 'a.avi', 'b.mkv', 'b/c.mkv'):
        write_clip(tmp_path / 'in' / name, 2)
    convert('videos_to_frames', tmp_path / 'in', tmp_path / 'out')
    dataset = VideoDataset(tmp_path / 'out')
    names = [source.name for source in dataset.sources]
    assert names == ['a.avi', 'a.mkv', 'b.mkv', 'b/c']


def test_split_video(tmp_path, convert):
    video = tmp_path / 'long.mkv'
    write_clip(video, 31, size=(40, 24))
    truth = decode(video)[:, :, 8:32]
    text = convert(
        *('split_video', video, tmp_path / 'out'),
        *('--start-frame', 3, '--chunk-frames', 8),
    )
    assert '3 made, 0 there already, 1 skipped' in text
    assert 'skipped frames 27 to 30: they do not fill a chunk' in text
    folders = sorted(p for p in (tmp_path / 'out').iterdir() if p.is_dir())
    assert [f.name for f in folders] == [f'long_{i:04d}' for i in range(3)]
    for i, folder in enumerate(folders):
        start = 3 + 8 * i
        np.testing.assert_array_equal(load(folder), truth[start : start + 8])


def test_split_into_a_number_of_chunks(tmp_path, convert):
    write_clip(tmp_path / 'long.mkv', 19)
    convert(
        *('split_video', tmp_path / 'long.mkv', tmp_path / 'out'),
        *('--num-chunks', 5, '--resolution', 16),
    )
    frames = [load(tmp_path / 'out' / f'long_{i:04d}') for i in range(5)]
    assert np.stack(frames).shape == (5, 3, 16, 16, 3)
    assert np.stack(frames)[..., 2].reshape(15, -1).T[0].tolist() == [
        *range(15)
    ]
    assert not (tmp_path / 'out' / 'long_0005').exists()


def write_masks(path, boxes, size=(80, 60), grey=40):
    """Write a mask video: dark boxes on white, lossless."""
    width, height = size
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w') as file:
        stream = file.add_stream('ffv1', rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, 'bgr0'
        for box in boxes:
            image = np.full((height, width, 3), 255, np.uint8)
            if box:
                left, top, right, bottom = box
                image[top:bottom, left:right] = grey
            frame = av.VideoFrame.from_ndarray(image, 'rgb24')
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


@pytest.mark.parametrize('one_box', [False, True])
def test_faces_are_cut_out_where_the_mask_says(tmp_path, convert, one_box):
    boxes = [
        (20, 10, 36, 26),  # a square: as it is
        (20, 10, 36, 20),  # wide: 16 x 16 around its centre
        None,  # no face: as before
        (0, 30, 6, 46),  # the square would leave the picture at the left,
        (70, 0, 80, 16),  # at the right,
        (60, 52, 76, 60),  # at the bottom
    ]
    corners = [(20, 10), (20, 7), (20, 7), (0, 30), (64, 0), (60, 44)]
    sides = [16] * 6
    if one_box:
        # Around all: 80 x 60, of which a square of 60 has room, centred.
        corners, sides = [(10, 0)] * 6, [60] * 6
    write_clip(tmp_path / 'ff/original/1.mkv', 6, size=(80, 60))
    write_masks(tmp_path / 'ff/mask/1.mkv', boxes)
    write_clip(tmp_path / 'ff/original/sub/2.mkv', 3, size=(80, 60))
    write_clip(tmp_path / 'ff/original/3.mkv', 3, size=(80, 60))
    write_masks(tmp_path / 'ff/mask/3.mkv', [None] * 3)
    write_clip(tmp_path / 'ff/original/4.mkv', 3, size=(80, 60))
    write_masks(tmp_path / 'ff/mask/4.mkv', [(0, 0, 9, 9)] * 3, size=(40, 30))
    text = convert(
        *('face_forensics', tmp_path / 'ff', tmp_path / 'out'),
        *('--resolution', sides[0], *['--one-box'] * one_box),
    )
    assert '1 made, 0 there already, 3 skipped' in text
    assert 'skipped sub/2.mkv: it has no mask video' in text
    assert 'skipped 3.mkv: 3.mkv: no face in any frame' in text
    assert '40x30 pixels, but the video has 80x60' in text
    faces = load(tmp_path / 'out' / '1')
    # Red is x and green is y, so the corners tell where each face was.
    found = [
        (f[0, 0, 0], f[0, 0, 1], f[-1, -1, 0], f[-1, -1, 1]) for f in faces
    ]
    assert found == [
        (x, y, x + side - 1, y + side - 1)
        for (x, y), side in zip(corners, sides)
    ]
    assert faces[:, 0, 0, 2].tolist() == [0, 1, 2, 3, 4, 5]


def test_faces_have_no_box_of_faint_traces(tmp_path, convert):
    """Columns and rows count whose summed darkness has a mean above 5."""
    # 3 channels x 60 levels x 2 of 60 rows: 6 in each column; x 2 of 80
    # columns: 4.5 in each row, not enough.
    for name, box, usable in [
        ('faint', (30, 20, 32, 22), False),
        ('seen', (30, 20, 33, 22), True),
    ]:
        ff = tmp_path / name
        write_clip(ff / 'original/1.mkv', 2, size=(80, 60))
        write_masks(ff / 'mask/1.mkv', [box] * 2, grey=195)
        convert(
            *('face_forensics', ff, tmp_path / f'{name}_out'),
            status=0 if usable else 2,
        )


def test_crop_time_of_video_files(tmp_path, convert):
    write_clip(tmp_path / 'in/run/a.mkv', 30, (64, 48), fps=12, step=8)
    write_clip(tmp_path / 'in/run/b.mkv', 10)
    text = convert(
        *('crop_time', tmp_path / 'in', tmp_path / 'out'),
        *('--drop-first', 10, '--max-frames', 15, '--crf', 0),
    )
    assert 'skipped run/b.mkv: it has only 10 frames' in text
    out = tmp_path / 'out/run/a.mp4'
    # Blue is 8 i; H.264 is not exact.
    blue = decode(out)[..., 2].mean(axis=(1, 2))
    np.testing.assert_allclose(blue, np.arange(80, 200, 8), atol=3)
    with av.open(str(out)) as file:
        assert file.streams.video[0].average_rate == 12


def test_crop_time_of_frame_folders_copies_bytes(tmp_path, convert):
    for name, num_frames in [('run/a', 12), ('b', 3)]:
        folder = tmp_path / 'in' / name
        folder.mkdir(parents=True)
        for i in range(num_frames):
            Image.fromarray(picture(i)).save(folder / f'{i}.jpg')
    convert(
        *('crop_time', tmp_path / 'in', tmp_path / 'out'),
        *('--drop-first', 2, '--max-frames', 9),
    )
    for name, kept in [('run/a', range(2, 11)), ('b', [2])]:
        files = {f.name: f for f in (tmp_path / 'out' / name).iterdir()}
        assert files.keys() == {f'{i}.jpg' for i in kept}
        for file, path in files.items():
            source = tmp_path / 'in' / name / file
            assert path.read_bytes() == source.read_bytes()


def test_frozen_videos_are_one_frame_of_each(clips, tmp_path, convert):
    chosen = {}
    for seed in range(4):
        out = tmp_path / str(seed)
        convert('freeze_videos', clips, out, '--seed', seed)
        for name, num_frames in [('run/a', 6), ('run/deep/b', 4), ('c', 9)]:
            frames = load(out / name)
            assert len(frames) == num_frames
            assert (frames == frames[0]).all()
            i = int(frames[0, 0, 0, 2])
            np.testing.assert_array_equal(
                frames[0], decode(clips / f'{name}.mkv')[i]
            )
            chosen.setdefault(name, []).append(i)
    assert all(len(set(inds)) > 1 for inds in chosen.values())
    # Videos of one length have frames of their own.
    for i in range(8):
        write_clip(tmp_path / f'alike/{i}.mkv', 9)
    convert('freeze_videos', tmp_path / 'alike', tmp_path / 'frozen')
    blues = {load(tmp_path / f'frozen/{i}')[0, 0, 0, 2] for i in range(8)}
    assert len(blues) > 2
    # The same seed chooses the same, whatever else is there.
    (clips / 'c.mkv').unlink()
    out = tmp_path / 'again'
    convert('freeze_videos', clips, out, '--seed', 1, '--num-frames', 20)
    for name in ('run/a', 'run/deep/b'):
        frames = load(out / name)
        assert len(frames) == 20
        assert (frames[..., 2] == chosen[name][1]).all()


@pytest.mark.parametrize('gop', [1, 4])
def test_reencoded_files_have_key_frames_close_by(tmp_path, convert, gop):
    write_clip(tmp_path / 'in/run/a.mkv', 50, size=(64, 48), fps=20)
    convert('reencode', tmp_path / 'in', tmp_path / 'out', '--gop', gop)
    out = tmp_path / 'out/run/a.mp4'
    with av.open(str(out)) as file:
        stream = file.streams.video[0]
        assert stream.average_rate == 20
        assert stream.codec_context.name == 'h264'
        keys = [frame.key_frame for frame in file.decode(stream)]
    assert len(keys) == 50
    inds = np.flatnonzero([*keys, True])
    assert inds[0] == 0
    assert np.diff(inds).max() == gop
    # x264 has half of the colour's resolution: brightness is what it keeps.
    truth = decode(tmp_path / 'in/run/a.mkv').mean(axis=3)
    error = decode(out).mean(axis=3) - truth
    assert np.sqrt((error**2).mean()) < 3


# Running again


COMMANDS = {
    'videos_to_frames': [],
    'freeze_videos': [],
    'reencode': [],
    'crop_time': ['--drop-first', 1],
    'split_video': ['--num-chunks', 2],
    'face_forensics': ['--resolution', 8],
}


def source_of(tool, tmp_path):
    """Videos of which one is damaged, where the tool takes several."""
    root = tmp_path / 'in'
    if tool == 'split_video':
        write_clip(root / 'a.mkv', 8)
        return root / 'a.mkv'
    folder = root / 'original' if tool == 'face_forensics' else root
    for name in ('a', 'run/b'):
        write_clip(folder / f'{name}.mkv', 5)
        if folder != root:
            mask = root / f'mask/{name}.mkv'
            write_masks(mask, [(9, 9, 20, 20)] * 5, (48, 32))
    (folder / 'bad.mkv').write_bytes(b'not a video')
    return root


@pytest.mark.parametrize('tool', COMMANDS)
def test_a_second_run_does_nothing(tmp_path, convert, tool):
    src = source_of(tool, tmp_path)
    skipped = 0 if tool == 'split_video' else 1
    outs = [tmp_path / 'out']
    if tool not in ('reencode', 'crop_time'):
        outs.append(tmp_path / 'out.zip')
    for out in outs:
        text = convert(tool, src, out, *COMMANDS[tool])
        assert f': 2 made, 0 there already, {skipped} skipped' in text
        before = state(tmp_path)
        text = convert(tool, src, out, *COMMANDS[tool])
        assert text.startswith(f'nothing to do: {out}: 0 made, 2 there')
        assert ('skipped bad.mkv: ' in text) == bool(skipped)
        assert state(tmp_path) == before
        assert not list(tmp_path.glob('.*'))
        file = out / 'report.json' if out.is_dir() else 'out.report.json'
        report = json.loads((tmp_path / file).read_text())
        assert report['made'] == []
        assert len(report['there already']) == 2
        assert len(report['skipped']) == skipped


@pytest.mark.parametrize('name', ['out', 'out.zip'])
def test_what_is_new_or_missing_is_made(clips, tmp_path, convert, name):
    out = tmp_path / name
    hidden = tmp_path / 'b.mkv'
    (clips / 'run/deep/b.mkv').rename(hidden)
    convert('videos_to_frames', clips, out)
    before = state(out)
    hidden.rename(clips / 'run/deep/b.mkv')
    text = convert('videos_to_frames', clips, out)
    assert ': 1 made, 2 there already, 0 skipped' in text
    if name == 'out':
        after = state(out)
        assert before.items() <= after.items()
        assert len(after) == len(before) + 4
    with_all = VideoDataset(out)
    assert [len(source) for source in with_all.sources] == [9, 6, 4]
    np.testing.assert_array_equal(
        with_all.sources[2].read(range(4)), decode(clips / 'run/deep/b.mkv')
    )


@pytest.mark.parametrize('name', ['out', 'out.zip'])
def test_other_options_are_refused(clips, tmp_path, convert, name):
    out = tmp_path / name
    convert('videos_to_frames', clips, out)
    before = state(tmp_path)
    for args, text in [
        (['--resolution', 16], 'resolution=None, now 16'),
        (
            ['--format', 'jpg', '--fps', 5],
            'fps=None, now 5.0; format=png, now',
        ),
    ]:
        error = convert('videos_to_frames', clips, out, *args, status=2)
        assert f'error: {out} was made with {text}' in error
        assert error.count('\n') == 1
    error = convert('freeze_videos', clips, out, status=2)
    assert 'tool=videos_to_frames, now freeze_videos' in error
    shutil.copytree(clips, tmp_path / 'others')
    error = convert('videos_to_frames', tmp_path / 'others', out, status=2)
    assert f'src={clips}, now {tmp_path}/others' in error
    shutil.rmtree(tmp_path / 'others')
    assert state(tmp_path) == before
    # These have no say in how the videos look.
    convert('videos_to_frames', clips, out, '--num-workers', 1)
    convert('videos_to_frames', clips, out, '--keep-damaged')
    assert state(tmp_path) == before


def test_outputs_that_are_refused(clips, tmp_path, convert):
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'thesis.txt').write_text('')
    (tmp_path / 'file').write_text('')
    with zipfile.ZipFile(tmp_path / 'other.zip', 'w') as file:
        file.writestr('a/0.png', b'')
    before = state(tmp_path)
    for tool, out, text in [
        ('videos_to_frames', 'full', 'was not made by a converter'),
        ('videos_to_frames', 'file', 'was not made by a converter'),
        ('videos_to_frames', 'file/out', 'cannot be written'),
        ('videos_to_frames', 'other.zip', 'was not made by a converter'),
        ('videos_to_frames', 'clips', 'OUT must not lie in SRC'),
        ('videos_to_frames', 'clips/out', 'OUT must not lie in SRC'),
        ('reencode', 'out.zip', 'OUT must be a folder'),
        ('crop_time', 'out.zip', 'OUT must be a folder'),
    ]:
        error = convert(tool, clips, tmp_path / out, status=2)
        assert error.startswith('error: ')
        assert text in error
        assert error.count('\n') == 1
    assert state(tmp_path) == before


@pytest.mark.parametrize(
    'args',
    [
        ['--num-workers', 0],
        ['--resolution', -1],
        ['--fps', 0],
        ['--fps', 'nan'],
        ['--quality', 99],
        ['--max-frames', 'many'],
    ],
)
def test_numbers_that_make_no_sense(clips, tmp_path, convert, args):
    out = tmp_path / 'out'
    error = convert('videos_to_frames', clips, out, *args, status=2)
    assert f'argument {args[0]}: ' in error
    assert not out.exists()


def test_one_process_at_a_time(clips, tmp_path, convert):
    out = tmp_path / 'out'
    out.mkdir()
    with held_elsewhere(out / '.lock') as number:
        error = convert('videos_to_frames', clips, out, status=2)
        assert f'{out} is in use by process {number} on ' in error
    convert('videos_to_frames', clips, out)


# Damaged videos


def test_damaged_videos_are_named_and_left_out(clips, tmp_path, convert):
    before, num_whole = break_off(clips / 'half.mp4')
    (clips / 'none.mkv').write_bytes(b'not a video')
    num_frames = index_video(clips / 'half.mp4').num_frames
    # Some wait for others to be shown before them.
    assert 10 < num_whole - 4 <= num_frames <= num_whole < 40
    out = tmp_path / 'out'
    text = convert('videos_to_frames', clips, out)
    assert ': 3 made, 0 there already, 2 skipped' in text
    stops = f'decoding stops after {num_frames} of '
    assert f'skipped half.mp4: {stops}' in text
    assert 'skipped none.mkv: cannot be read' in text
    skipped = json.loads((out / 'report.json').read_text())['skipped']
    assert skipped.keys() == {'half.mp4', 'none.mkv'}
    text = convert('videos_to_frames', clips, out, '--keep-damaged')
    assert ': 1 made, 3 there already, 1 skipped' in text
    np.testing.assert_array_equal(load(out / 'half'), before[:num_frames])


def test_damage_that_is_met_while_converting(tmp_path, convert):
    """It leaves the video out, or the frames that depend on it."""
    before = damage_middle(tmp_path / 'in' / 'a.mp4')
    write_clip(tmp_path / 'in' / 'b.mkv', 3)
    for tool in ('videos_to_frames', 'reencode'):
        out = tmp_path / tool
        text = convert(tool, tmp_path / 'in', out)
        assert ': 1 made, 0 there already, 1 skipped' in text
        assert 'skipped a.mp4: ' in text
        assert 'a.mp4: frame 20 is damaged' in text
        text = convert(tool, tmp_path / 'in', out, '--keep-damaged')
        assert ': 1 made, 1 there already, 0 skipped' in text
    frames = load(tmp_path / 'videos_to_frames' / 'a')
    np.testing.assert_array_equal(frames, before[:20])
    again = decode(tmp_path / 'reencode' / 'a.mp4')
    assert np.abs(again.astype(int) - before[:20]).mean() < 9
    out = tmp_path / 'few'
    few = ('--fps', 5, '--keep-damaged')
    convert('videos_to_frames', tmp_path / 'in', out, *few)
    np.testing.assert_array_equal(load(out / 'a'), before[:20:5])


def test_damage_found_while_converting(tmp_path, convert):
    """The pictures of a folder are looked at only when it is their turn."""
    for name in 'abc':
        folder = tmp_path / 'in' / name
        folder.mkdir(parents=True)
        for i in range(4):
            Image.fromarray(picture(i)).save(folder / f'{i}.png')
    (tmp_path / 'in/b/2.png').write_bytes(b'not a picture')
    Image.fromarray(picture(0, (20, 20))).save(tmp_path / 'in/c/3.png')
    for out in (tmp_path / 'out', tmp_path / 'out.zip'):
        text = convert('videos_to_frames', tmp_path / 'in', out)
        assert ': 1 made, 0 there already, 2 skipped' in text
        assert 'b/2.png: not an image' in text
        assert 'skipped c: c: frames differ in size' in text
        assert [s.name for s in VideoDataset(out).sources] == ['a']


@pytest.mark.parametrize('tool', ['videos_to_frames', 'reencode'])
def test_nothing_but_damaged_videos(tmp_path, convert, tool):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'a.mp4').write_bytes(b'not a video')
    error = convert(tool, tmp_path / 'in', tmp_path / 'out', status=2)
    assert 'none of 1 videos can be used: a.mp4 (cannot be read' in error
    assert not (tmp_path / 'out').exists()


# Killed


@pytest.mark.slow
@pytest.mark.parametrize('name', ['out', 'out.zip'])
def test_killed_half_way_and_run_again(tmp_path, name):
    """A real process, killed in the middle of whatever it does."""
    src, out = tmp_path / 'in', tmp_path / name
    for i in range(6):
        write_clip(src / f'{"ab"[i % 2]}/{i}.mkv', 40, size=(160, 120))
    tool = 'dataset_converters/videos_to_frames.py'
    process = start_tool(tool, src, out, '--num-workers=1')
    folder = out if name == 'out' else tmp_path / '.out.zip.parts'
    deadline = time.monotonic() + 120
    while not list(folder.glob('[ab]/[!.]*')):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    whole = sorted(folder.glob('[ab]/[!.]*'))
    assert 1 <= len(whole) < 6
    assert all(len(list(path.iterdir())) == 40 for path in whole)
    assert not (tmp_path / 'out.zip').exists()

    result = run_tool(tool, src, out)
    assert result.returncode == 0, result.stderr
    counts = f'{6 - len(whole)} made, {len(whole)} there already, 0 skipped'
    assert counts in result.stdout
    dataset = VideoDataset(out)
    assert [len(source) for source in dataset.sources] == [40] * 6
    for source in dataset.sources:
        truth = decode(src / f'{source.name}.mkv')
        for i in (0, 17, 39):
            np.testing.assert_array_equal(source.read([i])[0], truth[i])
    assert not list(tmp_path.rglob('.*'))
    assert 'nothing to do' in run_tool(tool, src, out).stdout


# Videos of any origin

REAL = Path(os.environ.get('STYLEGAN_V_VIDEOS', '/nowhere'))


@pytest.mark.slow
@pytest.mark.skipif(
    not REAL.is_dir(), reason='STYLEGAN_V_VIDEOS names no folder of videos'
)
def test_real_videos(tmp_path, convert):
    out = tmp_path / 'out'
    convert(
        *('videos_to_frames', REAL, out, '--max-frames', 20),
        '--keep-damaged',
    )
    for source in VideoDataset(out, min_num_frames=1).sources:
        (file,) = (
            path
            for path in REAL.iterdir()
            if source.name in (path.name, path.stem)
        )
        truth = decode(file)[:20]
        np.testing.assert_array_equal(source.read(range(len(source))), truth)
