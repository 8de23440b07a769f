"""Videos to clips: the right frames, damage, and workers."""

import hashlib
import os
import shutil
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from stylegan_v_mm.datasets import VideoDataset
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.registry import DATASETS

CELLS = 4  # black and white cells of a frame, CELLS x CELLS
SIZE = 64


def numbered(i, width=SIZE, height=SIZE):
    """An image that shows i as bits: a white cell is a one, RGB."""
    bits = (i >> np.arange(CELLS**2)) & 1
    cells = np.uint8(20 + 215 * bits.reshape(CELLS, CELLS))
    image = cv2.resize(cells, (width, height), interpolation=0)
    return np.repeat(image[..., None], 3, axis=2)


def read_number(image):
    """Invert :func:`numbered`, [3, H, W] -> int."""
    height, width = image.shape[1:]
    y = np.int64((np.arange(CELLS) + 0.5) * height / CELLS)
    x = np.int64((np.arange(CELLS) + 0.5) * width / CELLS)
    bits = np.asarray(image)[1][np.ix_(y, x)].ravel() > 127
    return int((bits << np.arange(CELLS**2)).sum())


def encode(
    path,
    codec='libx264',
    num_frames=40,
    gop=12,
    bframes=0,
    options=None,
    container_options=None,
    times_ms=None,
    rotation=0,
    size=(SIZE, SIZE),
    pix_fmt='yuv420p',
    first=0,
):
    """Write frames that show first, first + 1, ..."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w', options=container_options or {}) as file:
        stream = file.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = bframes
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for i in range(num_frames):
            frame = av.VideoFrame.from_ndarray(
                numbered(first + i, *size), 'rgb24'
            )
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[i], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def make_dataset(root, num_frames=3, resolution=32, num_gen=0, **settings):
    return VideoDataset(
        root,
        pipeline=[
            dict(type='SampleClip', num_frames=num_frames, num_gen=num_gen),
            dict(type='LoadClip'),
            dict(type='ResizeCrop', resolution=resolution),
            dict(type='PackClip'),
        ],
        **settings,
    )


def assert_frames_fit_times(dataset, num_frames, count=60):
    """Every frame of many clips shows the number that is its time."""
    seen = set()
    for _ in range(count):
        item = dataset[0]
        shown = [read_number(image) for image in item['video']]
        assert shown == item['t'].tolist()
        seen.update(shown)
    assert seen <= set(range(num_frames))
    assert len(seen) > 0.8 * num_frames


LOSSLESS = {'crf': '0'}
JUMPY = np.cumsum([1, 40, 7, 100, 33] * 8).tolist()
ENCODINGS = {
    'lossless.mp4': dict(options=LOSSLESS),
    'every_frame_a_key.mp4': dict(options=LOSSLESS, gop=1),
    'one_key_frame.mp4': dict(options=LOSSLESS, gop=250),
    'bframes.mp4': dict(options=LOSSLESS, gop=20, bframes=4),
    'bframes.mov': dict(options=LOSSLESS, gop=7, bframes=2),
    'open_gop.mkv': dict(
        options={'x264-params': 'open-gop=1:keyint=8:bframes=3'}
    ),
    'lossless.mkv': dict(options=LOSSLESS),
    'mpeg4.avi': dict(codec='mpeg4'),
    'mpeg4_bframes.avi': dict(codec='mpeg4', bframes=2),
    'mpeg4.mov': dict(codec='mpeg4', bframes=1),
    'motion_jpeg.avi': dict(codec='mjpeg', pix_fmt='yuvj420p'),
    'lossless_ffv1.mkv': dict(codec='ffv1', gop=1),
    'prores.mov': dict(codec='prores', pix_fmt='yuv422p10le'),
    'hevc.mp4': dict(
        codec='libx265', options={'x265-params': 'log-level=none'}
    ),
    'vp9.webm': dict(codec='libvpx-vp9', options={'cpu-used': '8'}),
    'mpeg2.mpg': dict(codec='mpeg2video', bframes=2),
    'transport_stream.ts': dict(bframes=2),
    'windows.wmv': dict(codec='wmv2'),
    'flash.flv': dict(codec='flv1'),
    'jumpy_rate.mkv': dict(options=LOSSLESS, times_ms=JUMPY, bframes=2),
    'jumpy_rate.mp4': dict(options=LOSSLESS, times_ms=JUMPY),
    # Neither length nor places of key frames are written down.
    'no_frame_count.mkv': dict(container_options={'live': '1'}, bframes=2),
    'no_frame_count.h264': dict(bframes=2),
    'fragments.mp4': dict(
        container_options={'movflags': 'frag_keyframe+empty_moov'}, bframes=2
    ),
}


@pytest.mark.parametrize('name', ENCODINGS)
def test_every_frame_is_the_right_one(tmp_path, name):
    encode(tmp_path / name, **ENCODINGS[name])
    dataset = make_dataset(tmp_path)
    assert dataset.video_lens.tolist() == [40]
    assert_frames_fit_times(dataset, 40)


@pytest.mark.parametrize('rotation', [90, 180, 270])
def test_rotated_video_is_shown_upright(tmp_path, rotation):
    encode(tmp_path / 'a.mp4', rotation=rotation, size=(48, 32))
    # OpenCV turns videos upright as well.
    capture = cv2.VideoCapture(str(tmp_path / 'a.mp4'))
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    truth = [capture.read()[1][..., ::-1] for _ in range(40)]
    dataset = VideoDataset(tmp_path)
    frames = dataset[0]['source'].read(range(40))
    assert frames.shape == np.shape(truth)
    assert frames.shape[1:3] == ((32, 48) if rotation == 180 else (48, 32))
    # The two convert colours with other rounding.
    assert np.abs(frames - np.int64(truth)).max() <= 6


@pytest.mark.parametrize('zipped', [False, True])
def test_frame_folders(tmp_path, zipped):
    root = tmp_path / 'data'
    (root / 'clip').mkdir(parents=True)
    for i in range(40):
        cv2.imwrite(str(root / f'clip/{i}.jpg'), numbered(i))
    if zipped:
        shutil.make_archive(str(tmp_path / 'data'), 'zip', root)
        root = tmp_path / 'data.zip'
    assert_frames_fit_times(make_dataset(root), 40)


def test_window_of_a_long_video(tmp_path):
    encode(tmp_path / 'a.mp4', num_frames=40)
    dataset = make_dataset(tmp_path, max_num_frames=20)
    assert dataset.video_lens.tolist() == [20]
    starts = set()
    for _ in range(100):
        item = dataset[0]
        shown = np.array([read_number(image) for image in item['video']])
        (start,) = set(shown - item['t'].numpy())
        assert item['t'].max() < 20
        starts.add(int(start))
    assert min(starts) < 4
    assert max(starts) > 16
    assert starts <= set(range(21))


@pytest.mark.parametrize('kind', ['files', 'frames', 'zip'])
def test_stretches_of_videos(tmp_path, kind):
    """Each is a video: all frames but the rest of each video, once."""
    root = tmp_path / 'data'
    for name, first, num_frames in (
        ('run/a', 0, 10),
        ('walk/b', 100, 8),
        ('walk/c', 200, 3),
        ('walk/d', 300, 4),
    ):
        if kind == 'files':
            encode(root / f'{name}.mp4', num_frames=num_frames, first=first)
            continue
        (root / name).mkdir(parents=True)
        for i in range(num_frames):
            cv2.imwrite(str(root / name / f'{i}.bmp'), numbered(first + i))
    if kind == 'zip':
        shutil.make_archive(str(root), 'zip', root)
        root = root.with_suffix('.zip')
    dataset = VideoDataset(
        root,
        pipeline=[
            dict(type='SampleClip', num_frames=4, method='consecutive'),
            dict(type='LoadClip'),
            dict(type='PackClip'),
        ],
        labels='folder',
        stretch=4,
    )
    shown = [
        [read_number(image) for image in dataset[i]['video']]
        for i in range(len(dataset))
    ]
    starts = [0, 4, 100, 104, 300]
    assert shown == [[*range(start, start + 4)] for start in starts]
    assert dataset.video_lens.tolist() == [4] * 5
    classes = [0, 0, 1, 1, 1]
    assert dataset.labels.tolist() == np.eye(2)[classes].tolist()
    assert [dataset[i]['c'].argmax() for i in range(5)] == classes
    # Statistics of whole videos, and of other stretches, are others.
    sets = [VideoDataset(root, stretch=n) for n in (None, 2, 4)]
    assert len({each.fingerprint for each in sets}) == 3
    assert len({each.clip_list['digest'] for each in sets}) == 3


def test_stretches_change_with_their_frames(tmp_path):
    (tmp_path / 'clip').mkdir()
    for i in range(8):
        cv2.imwrite(str(tmp_path / f'clip/{i}.bmp'), numbered(i))
        os.utime(tmp_path / f'clip/{i}.bmp', (0, 0))

    def signatures():
        dataset = VideoDataset(tmp_path, stretch=4)
        return [source.signature() for source in dataset.sources]

    first, second = signatures()
    os.utime(tmp_path / 'clip/5.bmp', (0, 1))
    assert signatures()[0] == first
    assert signatures()[1] != second


def test_stretches_that_hold_no_clip_are_refused(tmp_path):
    encode(tmp_path / 'a.mp4', num_frames=6)
    with pytest.raises(InputError, match=r'stretch=2.* needs \d'):
        make_dataset(tmp_path, stretch=2)
    with pytest.raises(InputError, match='stretch=0 must be at least 1'):
        make_dataset(tmp_path, stretch=0)
    with pytest.raises(InputError, match=r'shorter than 7 frames: a\.mp4'):
        make_dataset(tmp_path, stretch=7)
    cv2.imwrite(str(tmp_path / 'a.png'), numbered(0))
    with pytest.raises(InputError, match='images=True'):
        VideoDataset(tmp_path, images=True, stretch=1)


def test_item(tmp_path):
    for i, name in enumerate(['run/a.mp4', 'walk/b.mp4', 'walk/c.mp4']):
        encode(tmp_path / name, num_frames=4 + i)
    dataset = make_dataset(tmp_path, num_gen=2, labels='folder')
    assert len(dataset) == 3
    assert dataset.c_dim == 2
    assert dataset.metainfo == {'classes': ('run', 'walk')}
    assert dataset.video_lens.tolist() == [4, 5, 6]
    item = dataset[1]
    assert {key: (v.dtype, tuple(v.shape)) for key, v in item.items()} == {
        'video': (torch.uint8, (3, 3, 32, 32)),
        't': (torch.float64, (3,)),
        'c': (torch.float32, (2,)),
        'gen_t': (torch.float64, (2, 3)),
        'gen_c': (torch.float32, (2, 2)),
    }
    assert item['c'].tolist() == [0, 1]


def test_built_by_name(tmp_path):
    encode(tmp_path / 'a.mp4', num_frames=3)
    dataset = DATASETS.build(
        dict(type='VideoDataset', data_root=str(tmp_path))
    )
    assert dataset[0]['source'].name == 'a.mp4'
    assert (dataset.c_dim, dataset.metainfo) == (0, {'classes': ()})


# What is wrong with videos


def cut(path, share):
    blob = path.read_bytes()
    path.write_bytes(blob[: int(len(blob) * share)])


def test_short_and_damaged_videos_are_left_out(tmp_path, warnings_logged):
    encode(tmp_path / 'good1.mp4')
    encode(tmp_path / 'short.mp4', num_frames=2)
    encode(tmp_path / 'broken.mp4')
    cut(tmp_path / 'broken.mp4', 0.5)
    (tmp_path / 'empty.avi').write_bytes(b'')
    encode(tmp_path / 'half.mkv', options={'crf': '1'})
    cut(tmp_path / 'half.mkv', 0.6)
    dataset = make_dataset(tmp_path)
    names = [source.name for source in dataset.sources]
    assert names == ['good1.mp4', 'half.mkv']
    assert 10 < dataset.video_lens[1] < 40
    (text,) = warnings_logged
    assert '\n' not in text
    assert 'using 2 of 5 videos' in text
    assert 'shorter than 3 frames: short.mp4 (2)' in text
    damaged = text.partition('damaged: ')[2]
    for name in ('broken.mp4', 'empty.avi'):
        assert name in damaged
    assert 'good1.mp4' not in text


def test_summary_of_many_short_videos_stays_short(tmp_path, warnings_logged):
    encode(tmp_path / 'x.mp4')
    encode(tmp_path / '0.mp4', num_frames=1)
    for i in range(1, 30):
        shutil.copy(tmp_path / '0.mp4', tmp_path / f'{i}.mp4')
    assert len(make_dataset(tmp_path)) == 1
    (text,) = warnings_logged
    assert 'using 1 of 31 videos' in text
    assert 'and 10 more' in text


def test_needed_length(tmp_path):
    for length in (1, 3, 6):
        encode(tmp_path / f'{length}.mp4', num_frames=length)

    def lengths(**settings):
        return VideoDataset(tmp_path, **settings).video_lens.tolist()

    sample = dict(type='SampleClip', num_frames=3)
    assert lengths() == [1, 3, 6]
    assert lengths(pipeline=[sample]) == [3, 6]
    assert lengths(pipeline=[sample], min_num_frames=6) == [6]
    assert lengths(pipeline=[sample], max_num_frames=3) == [3, 3]
    with pytest.raises(InputError, match=r'max_num_frames=2.* needs 3'):
        lengths(pipeline=[sample], max_num_frames=2)


def test_no_usable_video(tmp_path):
    with pytest.raises(InputError, match='no such file'):
        make_dataset(tmp_path / 'nowhere')
    with pytest.raises(InputError, match='no videos found'):
        make_dataset(tmp_path)
    encode(tmp_path / 'a.mp4', num_frames=2)
    (tmp_path / 'b.mp4').write_bytes(b'x')
    with pytest.raises(
        InputError, match=r'none of 2 videos.*a\.mp4 \(2\).*damaged: b\.mp4'
    ):
        make_dataset(tmp_path)


def test_video_damaged_later_is_replaced_and_named_once(
    tmp_path, warnings_logged
):
    for i in range(3):
        encode(tmp_path / f'{i}.mp4', num_frames=10, first=100 * i)
    dataset = make_dataset(tmp_path)
    assert warnings_logged == []
    (tmp_path / '1.mp4').write_bytes(b'x' * 3000)
    videos = set()
    for _ in range(30):
        item = dataset[1]
        numbers = [read_number(image) for image in item['video']]
        videos.add(numbers[0] // 100)
        assert [n % 100 for n in numbers] == item['t'].tolist()
    assert videos == {0, 2}
    (text,) = warnings_logged
    assert '1.mp4' in text
    assert read_number(dataset[2]['video'][0]) // 100 == 2

    for i in (0, 2):
        (tmp_path / f'{i}.mp4').unlink()
    with pytest.raises(InputError, match='none of 3 videos can be decoded'):
        dataset[1]


def test_clips_with_damaged_frames_are_replaced(tmp_path, warnings_logged):
    """Frames 24 to 35 cannot be used; what lies around keeps its times."""
    options = {'x264-params': 'keyint=12:min-keyint=12:scenecut=0:b-adapt=0'}
    path = tmp_path / 'a.mp4'
    encode(path, num_frames=60, options=options)
    encode(tmp_path / 'b.mp4', num_frames=40, first=100)
    with av.open(str(path)) as file:
        packets = [(p.pos, p.size) for p in file.demux(video=0) if p.size]
    start, size = packets[24]
    blob = bytearray(path.read_bytes())
    blob[start + size // 2 : start + size] = bytes(size - size // 2)
    path.write_bytes(blob)
    with av.open(str(path)) as file:
        flags = [frame.is_corrupt for frame in file.decode(video=0)]
    assert np.flatnonzero(flags).tolist() == [24]

    dataset = make_dataset(tmp_path)
    assert warnings_logged == []
    shown = {'a': set(), 'b': set()}
    for _ in range(150):
        item = dataset[0]
        numbers = [read_number(image) for image in item['video']]
        assert [n % 100 for n in numbers] == item['t'].tolist()
        shown['b' if numbers[0] >= 100 else 'a'].update(numbers)
    assert shown['b']
    assert len(shown['a']) > 40
    assert not shown['a'] & set(range(24, 36))
    (text,) = warnings_logged
    assert 'a.mp4: frame 24 is damaged; using other videos' in text

    # Where there is no other video, other clips of this one do.
    (tmp_path / 'b.mp4').unlink()
    dataset = make_dataset(tmp_path)
    for _ in range(60):
        item = dataset[0]
        numbers = [read_number(image) for image in item['video']]
        assert numbers == item['t'].tolist()
        assert not set(numbers) & set(range(24, 36))


def test_label_of_a_replaced_video_is_that_of_the_other(tmp_path):
    for name in ('a', 'b'):
        encode(tmp_path / name / '0.mp4', num_frames=4)
    dataset = make_dataset(tmp_path, labels='folder')
    (tmp_path / 'a' / '0.mp4').unlink()
    assert dataset[0]['c'].tolist() == [0, 1]


@pytest.mark.parametrize('kind', ['files', 'frames', 'zip'])
def test_fingerprint_changes_with_the_videos(tmp_path, kind):
    def write(root, numbers, name='b'):
        shutil.rmtree(root, ignore_errors=True)
        for video in ('a', name):
            if kind == 'files':
                encode(root / f'{video}.mp4', num_frames=len(numbers))
                os.utime(root / f'{video}.mp4', (0, sum(numbers)))
                continue
            (root / video).mkdir(parents=True)
            for i, number in enumerate(numbers):
                file = root / video / f'{i}.bmp'
                cv2.imwrite(str(file), numbered(number))
                os.utime(file, (0, 10**9 + number))
        if kind == 'zip':
            shutil.make_archive(str(root), 'zip', root)
            return root.with_suffix('.zip')
        return root

    def fingerprint(*args, **settings):
        root = write(*args)
        return VideoDataset(root, **settings).fingerprint

    root = tmp_path / 'data'
    first = fingerprint(root, [1, 2, 3])
    assert len(bytes.fromhex(first)) == 32
    assert fingerprint(root, [1, 2, 3]) == first
    # It belongs to the videos, not to the place where they are.
    assert fingerprint(tmp_path / 'moved', [1, 2, 3]) == first
    others = [
        fingerprint(root, [1, 2, 4]),
        fingerprint(root, [1, 2]),
        fingerprint(root, [1, 2, 3], 'c'),
        fingerprint(root, [1, 2, 3], max_num_frames=2),
    ]
    assert len({first, *others}) == 5


def test_fingerprint_is_not_that_of_earlier_versions(tmp_path):
    # They read frames otherwise: statistics that they cached do not count.
    encode(tmp_path / 'a.mp4', num_frames=4)
    dataset = make_dataset(tmp_path)
    digest = hashlib.sha256()
    for source, length in zip(dataset.sources, dataset.video_lens):
        digest.update(
            f'{source.name}\n{source.signature()}\n{length}\n'.encode()
        )
    assert dataset.fingerprint != digest.hexdigest()


def test_the_list_of_clips(tmp_path):
    for name in ('b', 'a', 'c'):
        encode(tmp_path / 'old' / f'{name}.mp4', num_frames=4)
    lists = [make_dataset(tmp_path / 'old').clip_list]
    assert lists[0]['number'] == 3
    # The same videos elsewhere, with other dates.
    shutil.copytree(tmp_path / 'old', tmp_path / 'new')
    os.utime(tmp_path / 'new/a.mp4', (0, 0))
    assert make_dataset(tmp_path / 'new').clip_list == lists[0]
    os.rename(tmp_path / 'new/a.mp4', tmp_path / 'new/d.mp4')
    lists.append(make_dataset(tmp_path / 'new').clip_list)
    encode(tmp_path / 'new/d.mp4', num_frames=5)
    lists.append(make_dataset(tmp_path / 'new').clip_list)
    (tmp_path / 'new/c.mp4').unlink()
    lists.append(make_dataset(tmp_path / 'new').clip_list)
    assert len({item['digest'] for item in lists}) == 4
    assert [item['number'] for item in lists] == [3, 3, 3, 2]


# Workers


def load(dataset, epochs=1, seed=0, count=16, num_workers=2, **settings):
    """Times of clips of video 0, [epochs, count, T]."""
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(
        dataset,
        batch_size=2,
        sampler=[0] * count,
        num_workers=num_workers,
        generator=generator,
        **settings,
    )
    times = []
    for _ in range(epochs):
        batches = list(loader)
        for batch in batches:
            for video, t in zip(batch['video'], batch['t']):
                assert [read_number(image) for image in video] == t.tolist()
        times.append(torch.cat([batch['t'] for batch in batches]))
    return torch.stack(times).numpy()


def test_workers_and_epochs_differ_and_follow_the_seed(tmp_path):
    encode(tmp_path / 'a.mp4', num_frames=40)
    dataset = make_dataset(tmp_path)
    t = load(dataset, epochs=2)
    # Batches go to the two workers in turn.
    workers = t.reshape(2, 4, 2, 2, 3).swapaxes(1, 2).reshape(4, -1)
    for a in range(4):
        for b in range(a):
            assert (workers[a] != workers[b]).mean() > 0.5
    np.testing.assert_array_equal(load(dataset, epochs=2), t)
    assert (load(dataset, seed=1)[0] != t[0]).mean() > 0.5


@pytest.fixture
def zipped(tmp_path):
    """A zip of one video of 40 frames."""
    (tmp_path / 'data' / 'clip').mkdir(parents=True)
    for i in range(40):
        cv2.imwrite(str(tmp_path / f'data/clip/{i}.png'), numbered(i))
    shutil.make_archive(str(tmp_path / 'data'), 'zip', tmp_path / 'data')
    return tmp_path / 'data.zip'


def test_forked_workers_do_not_disturb_each_other(zipped):
    dataset = make_dataset(zipped)
    dataset[0]
    load(dataset, count=200, multiprocessing_context='fork')


@pytest.mark.slow
def test_workers_started_afresh(tmp_path, zipped):
    encode(tmp_path / 'files' / 'a.mp4')
    for root in (tmp_path / 'files', zipped):
        dataset = make_dataset(root)
        dataset[0]
        settings = dict(num_workers=1, multiprocessing_context='spawn')
        assert load(dataset, count=4, **settings).shape == (1, 4, 3)
