"""Finding and reading videos in each layout, and the cache of indices."""

import json
import os
import shutil
import zipfile
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from stylegan_v_mm.datasets.sources.archives import ZippedFrames
from stylegan_v_mm.datasets.sources.finding import find_videos
from stylegan_v_mm.datasets.sources.frame_folders import FrameFolder
from stylegan_v_mm.datasets.sources.video_files import VideoFile
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.video.encoding import write_video
from stylegan_v_mm.video.reader import DamagedVideoError


def picture(i, size=(16, 12)):
    """Frame i, RGB: three channels that differ, and a corner."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[:] = i, 255 - i, (7 * i) % 256
    image[: height // 2, : width // 2] = 10
    return image


def write_image(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])


def write_frames(folder, numbers, suffix='.png', name='{}', size=(16, 12)):
    """Write frame i as file ``name.format(i)``."""
    for i in numbers:
        write_image(folder / (name.format(i) + suffix), picture(i, size))


def write_clip(path, num_frames=5, grey=100):
    write_video(path, np.full((num_frames, 3, 16, 16), grey, np.uint8), fps=25)


def pack(root, archive, top='', folders=False, method=zipfile.ZIP_STORED):
    """Zip a folder, in an order that is not that of the names."""
    with zipfile.ZipFile(archive, 'w', method) as file:
        for path in sorted(root.rglob('*'), reverse=True):
            if folders or path.is_file():
                file.write(path, top + path.relative_to(root).as_posix())


def summary(sources):
    return [(source.name, len(source)) for source in sources]


# Frame folders


def test_frame_folders_in_natural_order(tmp_path):
    write_frames(tmp_path / 'clip10', range(3))
    write_frames(tmp_path / 'clip2', range(12))
    write_frames(tmp_path / 'clip2' / 'more', range(2))
    write_frames(tmp_path / 'clip', range(1))
    write_frames(tmp_path / 'clip-2', range(4), name='{:06d}')
    sources = find_videos(tmp_path)
    assert summary(sources) == [
        ('clip', 1),
        ('clip2', 12),
        ('clip2/more', 2),
        ('clip10', 3),
        ('clip-2', 4),
    ]
    assert all(isinstance(source, FrameFolder) for source in sources)
    # Frame 10 comes after frame 9, not after frame 1.
    inds = [11, 0, 2, 2]
    np.testing.assert_array_equal(
        sources[1].read(inds), np.stack([picture(i) for i in inds])
    )


@pytest.mark.parametrize('suffix', ['.png', '.bmp', '.PPM', '.tiff'])
def test_lossless_images(tmp_path, suffix):
    write_frames(tmp_path / 'a', range(2), suffix)
    frames = find_videos(tmp_path)[0].read([1, 0])
    np.testing.assert_array_equal(frames, [picture(1), picture(0)])


@pytest.mark.parametrize('suffix', ['.jpg', '.JPEG', '.webp'])
def test_lossy_images(tmp_path, suffix):
    image = np.full((16, 16, 3), (200, 100, 30), np.uint8)
    write_image(tmp_path / 'a' / f'0{suffix}', image)
    frames = find_videos(tmp_path)[0].read([0])
    assert np.abs(frames.astype(int) - image).max() <= 4


def test_grey_and_transparent_images_become_colour(tmp_path):
    grey = np.arange(192, dtype=np.uint8).reshape(12, 16)
    (tmp_path / 'a').mkdir()
    cv2.imwrite(str(tmp_path / 'a/0.png'), grey)
    alpha = np.dstack([picture(3)[..., ::-1], np.full((12, 16), 9, np.uint8)])
    cv2.imwrite(str(tmp_path / 'a/1.png'), alpha)
    frames = find_videos(tmp_path)[0].read([0, 1])
    np.testing.assert_array_equal(frames[0], np.dstack([grey] * 3))
    np.testing.assert_array_equal(frames[1], picture(3))


def test_other_files_are_passed_over(tmp_path):
    write_frames(tmp_path / 'a', range(2))
    write_frames(tmp_path / '.hidden', range(2))
    write_frames(tmp_path, [7])
    (tmp_path / 'a' / '.0.png').write_bytes(b'resource fork')
    (tmp_path / 'a' / 'notes.txt').write_text('')
    (tmp_path / 'dataset.json').write_text('{}')
    (tmp_path / 'empty').mkdir()
    sources = find_videos(tmp_path)
    assert summary(sources) == [('a', 2)]
    assert sources.left_out == [
        ('7.png', 'images in no folder of frames'),
        ('.hidden/', 'hidden'),
        ('a/.0.png', 'hidden'),
        ('a/notes.txt', 'empty'),
        ('dataset.json', 'text'),
    ]


def test_folder_reached_by_a_link(tmp_path):
    write_frames(tmp_path / 'store' / 'a', range(2))
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'b').symlink_to(tmp_path / 'store' / 'a')
    assert summary(find_videos(tmp_path / 'data')) == [('b', 2)]


@pytest.mark.parametrize('zipped', [False, True])
def test_damaged_image(tmp_path, zipped):
    root = tmp_path / 'data'
    write_frames(root / 'a', range(3))
    (root / 'a' / '1.png').write_bytes(b'not a picture')
    (root / 'a' / '2.png').write_bytes(b'')
    if zipped:
        pack(root, tmp_path / 'data.zip')
        root = tmp_path / 'data.zip'
    source = find_videos(root)[0]
    np.testing.assert_array_equal(source.read([0]), [picture(0)])
    for i in (1, 2):
        with pytest.raises(
            DamagedVideoError, match=rf'a/{i}\.png: not an image'
        ):
            source.read([0, i])


@pytest.mark.parametrize('zipped', [False, True])
def test_images_of_mixed_sizes(tmp_path, zipped):
    root = tmp_path / 'data'
    write_frames(root / 'a', [0])
    write_frames(root / 'a', [1], size=(18, 12))
    # Videos may differ from each other.
    write_frames(root / 'b', [0], size=(20, 20))
    if zipped:
        pack(root, tmp_path / 'data.zip')
        root = tmp_path / 'data.zip'
    a, b = find_videos(root)
    with pytest.raises(
        DamagedVideoError, match=r'a/1\.png.*one size.*18x12 and 16x12'
    ):
        a.read([0, 1])
    assert a.read([1]).shape == (1, 12, 18, 3)
    assert b.read([0]).shape == (1, 20, 20, 3)


def test_image_that_is_gone(tmp_path):
    write_frames(tmp_path / 'a', range(2))
    source = find_videos(tmp_path)[0]
    (tmp_path / 'a' / '1.png').unlink()
    with pytest.raises(DamagedVideoError, match=r'a/1\.png'):
        source.read([1])


# Zips


@pytest.mark.parametrize('top', ['', 'top/'])
@pytest.mark.parametrize('folders', [False, True])
@pytest.mark.parametrize('method', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_of_frame_folders(tmp_path, top, folders, method):
    root = tmp_path / 'data'
    write_frames(root / 'clip10', range(2))
    write_frames(root / 'clip2', range(12))
    write_frames(root / 'class' / 'clip1', range(3))
    (root / 'dataset.json').write_text('{}')
    pack(root, tmp_path / 'data.zip', top, folders, method)
    sources = find_videos(tmp_path / 'data.zip')
    assert all(isinstance(source, ZippedFrames) for source in sources)
    assert summary(sources) == [
        ('class/clip1', 3),
        ('clip2', 12),
        ('clip10', 2),
    ]
    inds = [11, 3, 3, 0]
    np.testing.assert_array_equal(
        sources[1].read(inds), np.stack([picture(i) for i in inds])
    )
    np.testing.assert_array_equal(
        np.stack([source.read([1])[0] for source in sources]),
        np.stack([picture(1)] * 3),
    )


def test_zip_of_one_video(tmp_path):
    write_frames(tmp_path / 'data' / 'clip', range(2))
    pack(tmp_path / 'data', tmp_path / 'data.zip')
    assert summary(find_videos(tmp_path / 'data.zip')) == [('clip', 2)]


def test_zip_from_a_mac(tmp_path):
    root = tmp_path / 'data'
    write_frames(root / 'clip', range(2))
    write_frames(root / '__MACOSX' / 'clip', range(2))
    pack(root, tmp_path / 'data.zip')
    assert summary(find_videos(tmp_path / 'data.zip')) == [('clip', 2)]


def test_zip_with_something_before_it_and_long_local_headers(tmp_path):
    archive = tmp_path / 'data.zip'
    blob = cv2.imencode('.png', picture(5)[..., ::-1])[1].tobytes()
    # Opened for writing, an entry gets a 64-bit extra field.
    with (
        zipfile.ZipFile(archive, 'w') as file,
        file.open('clip/0.png', 'w', force_zip64=True) as entry,
    ):
        entry.write(blob)
    archive.write_bytes(b'#!/bin/sh\n' + archive.read_bytes())
    source = find_videos(archive)[0]
    np.testing.assert_array_equal(source.read([0]), [picture(5)])


@pytest.mark.parametrize('method', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_damaged_later(tmp_path, method):
    write_frames(tmp_path / 'data' / 'clip', range(2), '.bmp')
    archive = tmp_path / 'data.zip'
    pack(tmp_path / 'data', archive, method=method)
    source = find_videos(archive)[0]
    with zipfile.ZipFile(archive) as file:
        info = file.getinfo('clip/0.bmp')
    blob = bytearray(archive.read_bytes())
    blob[info.header_offset + 30 + len('clip/0.bmp') + 20] ^= 255
    archive.write_bytes(blob)
    with pytest.raises(DamagedVideoError, match=r'data\.zip/clip'):
        source.read([0])
    np.testing.assert_array_equal(source.read([1]), [picture(1)])
    archive.write_bytes(blob[:45])
    with pytest.raises(DamagedVideoError, match=r'data\.zip/clip'):
        source.read([1])


def test_zip_compressed_otherwise(tmp_path):
    write_frames(tmp_path / 'data' / 'clip', range(2))
    pack(tmp_path / 'data', tmp_path / 'a.zip', method=zipfile.ZIP_BZIP2)
    with pytest.raises(InputError, match=r'a\.zip: clip/.*deflate'):
        find_videos(tmp_path / 'a.zip')


# Video files


def test_video_tree_in_natural_order(tmp_path, monkeypatch):
    for i, name in enumerate(
        ['b/10.mp4', 'b/9.mp4', 'a.mp4', '.trash/x.mp4', 'b/c/d/e.mp4']
    ):
        write_clip(tmp_path / 'data' / name, num_frames=i + 1, grey=20 * i)
    (tmp_path / 'data' / 'b' / 'B.MP4').write_bytes(
        (tmp_path / 'data/a.mp4').read_bytes()
    )
    (tmp_path / 'data' / 'gone.mp4').symlink_to(tmp_path / 'nowhere')
    monkeypatch.chdir(tmp_path)
    for root in ('data', tmp_path / 'data'):
        sources = find_videos(root)
        assert all(isinstance(source, VideoFile) for source in sources)
        assert summary(sources) == [
            ('a.mp4', 3),
            ('b/9.mp4', 2),
            ('b/10.mp4', 1),
            ('b/B.MP4', 3),
            ('b/c/d/e.mp4', 5),
        ]
    frames = sources[-1].read([4, 0])
    assert frames.shape == (2, 16, 16, 3)
    assert np.abs(frames.astype(int) - 80).max() <= 3


def test_single_video_file(tmp_path):
    write_clip(tmp_path / 'a.mp4')
    write_clip(tmp_path / 'b.mp4')
    assert summary(find_videos(tmp_path / 'a.mp4')) == [('a.mp4', 5)]


def test_video_files_and_frame_folders_are_videos_alike(tmp_path):
    """But for covers beside videos, and for frames of what is a file, too."""
    write_clip(tmp_path / 'b.mp4')
    write_clip(tmp_path / 'walk' / '2.mp4')
    write_clip(tmp_path / 'walk' / '1.mp4')
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'damaged.mp4').write_bytes(b'x')
    write_frames(tmp_path / 'a', range(2))
    write_frames(tmp_path / 'b', range(3))
    write_frames(tmp_path / 'walk', [0, 1], name='cover_{}')
    write_frames(tmp_path / 'run', range(4))
    sources = find_videos(tmp_path)
    assert summary(sources) == [
        ('a', 2), ('b.mp4', 5), ('run', 4), ('run/damaged.mp4', 0),
        ('walk/1.mp4', 5), ('walk/2.mp4', 5),
    ]  # fmt: skip
    assert sources.left_out == [
        ('b/', 'frames named like a video file'),
        ('walk/cover_0.png', 'images beside a video'),
        ('walk/cover_1.png', 'images beside a video'),
    ]


@pytest.mark.parametrize(
    ('files', 'name', 'text'),
    [
        ({}, 'data', 'no such file'),
        ({'data/notes.txt': b'x'}, 'data', r'no videos.*text \(1: notes'),
        ({'data/x': b'RIFF\0\0\0\0AVI '}, 'data', r'no video: .*\(1: x\)'),
        ({'data/0.png': b''}, 'data', 'directly in the folder'),
        ({'data.txt': b'words'}, 'data.txt', 'give a folder'),
        ({'data.zip': b'words'}, 'data.zip', 'give a folder'),
        ({'a.png': b'x'}, 'a.png', 'give a folder.*an image'),
    ],
)
def test_places_without_videos(tmp_path, files, name, text):
    for file, content in files.items():
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    with pytest.raises(InputError, match=f'{name}.*{text}'):
        find_videos(tmp_path / name)


@pytest.mark.parametrize('file', ['a.mp4', '0.png'])
def test_zip_without_frame_folders(tmp_path, file):
    with zipfile.ZipFile(tmp_path / 'data.zip', 'w') as archive:
        archive.writestr(file, b'x')
    with pytest.raises(InputError, match='holds no folders of frames'):
        find_videos(tmp_path / 'data.zip')


# The cache


@pytest.fixture
def videos(tmp_path):
    root = tmp_path / 'data'
    for i in range(3):
        write_clip(root / f'{i}.mp4', num_frames=4 + i)
    return root


def cache_files(cache_home):
    return [path for path in cache_home.rglob('*.json') if path.is_file()]


def scramble(path):
    """Change a file's content behind the back of its size and time."""
    stat = path.stat()
    path.write_bytes(b'x' * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_cache_lies_outside_the_data(videos, cache_home):
    before = sorted(videos.rglob('*'))
    find_videos(videos)
    assert sorted(videos.rglob('*')) == before
    assert len(cache_files(cache_home)) == 1


def test_cached_files_are_not_read_again(videos):
    first = find_videos(videos)
    # Reading these files would find no frame in them.
    for path in videos.iterdir():
        scramble(path)
    again = find_videos(videos)
    assert summary(again) == [('0.mp4', 4), ('1.mp4', 5), ('2.mp4', 6)]
    for old, new in zip(first, again):
        assert old.signature() == new.signature()
        for key in ('pts', 'key_pts', 'key_inds', 'damaged'):
            assert getattr(new.index, key).dtype == np.int64
        for key, value in asdict(old.index).items():
            np.testing.assert_array_equal(value, getattr(new.index, key))


def test_changed_files_are_read_again_and_no_others(videos):
    find_videos(videos)
    scramble(videos / '0.mp4')
    time_ns = (videos / '1.mp4').stat().st_mtime_ns
    write_clip(videos / '1.mp4', num_frames=9)
    os.utime(videos / '1.mp4', ns=(time_ns, time_ns))
    write_clip(videos / '3.mp4', num_frames=2)
    (videos / '2.mp4').unlink()
    expected = [('0.mp4', 4), ('1.mp4', 9), ('3.mp4', 2)]
    assert summary(find_videos(videos)) == expected
    assert summary(find_videos(videos)) == expected

    # Another time, the same size.
    stat = (videos / '0.mp4').stat()
    os.utime(videos / '0.mp4', ns=(stat.st_mtime_ns, stat.st_mtime_ns + 1))
    assert summary(find_videos(videos)) == [('0.mp4', 0), *expected[1:]]


def test_file_that_cannot_be_decoded_is_tried_again(videos):
    blob = (videos / '0.mp4').read_bytes()
    scramble(videos / '0.mp4')
    stat = (videos / '0.mp4').stat()
    source = find_videos(videos)[0]
    assert len(source) == 0
    assert source.problem
    assert str(videos) not in source.problem
    (videos / '0.mp4').write_bytes(blob)
    os.utime(videos / '0.mp4', ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    assert len(find_videos(videos)[0]) == 4


@pytest.mark.parametrize(
    'content', ['', '{"version"', '[]', '{"version": 1}', '{"videos": 3}']
)
def test_damaged_cache_is_built_again(
    videos, cache_home, content, warnings_logged
):
    find_videos(videos)
    (path,) = cache_files(cache_home)
    path.write_text(content)
    expected = [('0.mp4', 4), ('1.mp4', 5), ('2.mp4', 6)]
    assert summary(find_videos(videos)) == expected
    assert any('damaged cache' in text for text in warnings_logged)
    _, _, text = path.read_text().partition('\n')
    assert len(json.loads(text)) == 3


def test_a_cache_of_other_frames_is_not_believed(
    videos, cache_home, warnings_logged
):
    """A disk that has changed a digit: the text is still valid."""
    find_videos(videos)
    (path,) = cache_files(cache_home)
    text = path.read_text()
    path.write_text(text.replace('"width": 16', '"width": 17'))
    assert path.read_text() != text
    assert {source.index.width for source in find_videos(videos)} == {16}
    assert any('damaged cache' in text for text in warnings_logged)
    assert path.read_text() == text


def test_cache_that_cannot_be_written(videos, tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    assert summary(find_videos(videos))[2] == ('2.mp4', 6)


def test_copies_of_a_folder_do_not_share_a_cache(videos, cache_home):
    find_videos(videos)
    copy = videos.with_name('copy')
    shutil.copytree(videos, copy)
    sources = find_videos(copy)
    assert {Path(source.index.path).parent for source in sources} == {copy}
    assert len(cache_files(cache_home)) == 2
