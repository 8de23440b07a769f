"""Images as videos of one frame: folders, zips, LMDBs; many of them."""

import io
import os
import pickle
import shutil
import tracemalloc
import zipfile
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from torch.utils.data import DataLoader

from stylegan_v_mm.datasets import SeedDataset, VideoDataset
from stylegan_v_mm.datasets.sources.finding import find_videos
from stylegan_v_mm.datasets.sources.images import find_images
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.video.reader import DamagedVideoError

lmdb = pytest.importorskip('lmdb')


def picture(i):
    """Image i, RGB: a plain colour that names it, and a corner."""
    image = np.empty((16, 16, 3), np.uint8)
    image[:] = i, 255 - i, (7 * i) % 256
    image[:4, :4] = 10
    return image


def encode(image, suffix='.png'):
    return cv2.imencode(suffix, image[..., ::-1])[1].tobytes()


def write_folder(root, files):
    for i, file in enumerate(files):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(picture(i)))


def write_lmdb(folder, values):
    with (
        lmdb.open(str(folder), map_size=2**26) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in values.items():
            transaction.put(key, value)


def names(images):
    return [image.name for image in images]


def assert_shows(image, i):
    np.testing.assert_array_equal(image.read([0, 0]), [picture(i)] * 2)


# Folders and zips


def test_folder_of_images_in_the_order_of_names(tmp_path):
    write_folder(tmp_path, ['b.png', 'a.png', 'dog/x/1.png', 'cat/ä 10.PNG'])
    write_folder(tmp_path / '.hidden', ['a.png'])
    write_folder(tmp_path / 'cat', ['.a.png'])
    (tmp_path / 'dataset.json').write_text('{}')
    images = find_images(tmp_path)
    assert names(images) == ['a.png', 'b.png', 'cat/ä 10.PNG', 'dog/x/1.png']
    for image, i in zip(images, [1, 0, 3, 2], strict=True):
        assert len(image) == 1
        assert_shows(image, i)
    assert images[np.int64(-1)].name == 'dog/x/1.png'
    with pytest.raises(IndexError):
        images[4]


def test_name_that_is_no_text(tmp_path):
    (tmp_path / os.fsdecode(b'\xff.png')).write_bytes(encode(picture(5)))
    (image,) = find_images(tmp_path)
    assert os.fsencode(image.name) == b'\xff.png'
    assert_shows(image, 5)


@pytest.mark.parametrize(
    ('files', 'side_file', 'expected'),
    [
        # The one folder at the top is not part of the names,
        (['top/b.png', 'top/a.png'], 'top/dataset.json', ['a.png', 'b.png']),
        (['top/x/a.png', 'top/y/b.png'], None, ['x/a.png', 'y/b.png']),
        # but one folder among files and folders is.
        (['00000/img1.png'], 'dataset.json', ['00000/img1.png']),
        (['a.png', 'x/a.png'], None, ['a.png', 'x/a.png']),
        (['a.png'], None, ['a.png']),
    ],
)
def test_zip_of_images(tmp_path, files, side_file, expected):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        for i, file in enumerate(files):
            archive.writestr(file, encode(picture(i)), i % 2 * 8)
        archive.writestr('__MACOSX/a.png', 'x')
        if side_file:
            archive.writestr(side_file, '{}')
    images = find_images(tmp_path / 'a.zip')
    assert names(images) == expected
    for image in images:
        i = next(i for i, f in enumerate(files) if f.endswith(image.name))
        assert_shows(image, i)


@pytest.mark.parametrize(
    ('files', 'name', 'text'),
    [
        ({}, 'data', 'no such file'),
        (
            {'data/a.mp4': b'', 'data/b.txt': b'x'},
            'data',
            r'a video \(1: a\.mp4\); text \(1: b\.txt\)',
        ),
        ({'data.mp4': b''}, 'data.mp4', 'no images found'),
        ({'data/data.mdb': b'words' * 999}, 'data', 'the LMDB cannot be read'),
        ({'data/data.mdb': b''}, 'data', 'the LMDB cannot be read'),
    ],
)
def test_places_without_images(tmp_path, files, name, text):
    for file, content in files.items():
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    with pytest.raises(InputError, match=f'{name}.*{text}'):
        find_images(tmp_path / name)


def test_zip_without_images(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.writestr('x/a.mp4', b'x')
    with pytest.raises(InputError, match=r'no images found.*x/a\.mp4'):
        find_images(tmp_path / 'a.zip')


def test_images_are_no_videos_unless_asked(tmp_path):
    write_folder(tmp_path / 'folder', ['a.png'])
    write_lmdb(tmp_path / 'lmdb', {b'a': encode(picture(0))})
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.writestr('a.png', b'x')
    for name in ('folder', 'lmdb', 'a.zip'):
        with pytest.raises(InputError, match=rf'{name}: .*images=True'):
            find_videos(tmp_path / name)


# LMDBs


@pytest.mark.parametrize('suffix', ['.webp', '.jpg', '.png'])
def test_lmdb(tmp_path, suffix):
    keys = [b'%040x' % (7**i) for i in (9, 3, 6)]
    values = {k: encode(picture(i), suffix) for i, k in enumerate(keys)}
    write_lmdb(tmp_path / 'lmdb', values)
    images = find_images(tmp_path / 'lmdb')
    assert names(images) == sorted(key.decode() for key in keys)
    for image in images:
        value = io.BytesIO(values[image.name.encode()])
        truth = np.int64(PIL.Image.open(value).convert('RGB'))
        shown = image.read([0])[0]
        # The two libraries decompress with other rounding.
        assert np.abs(shown - truth).max() <= 3


def test_keys_of_any_bytes(tmp_path):
    keys = [b'\0', b'\0\0', b'a\0', b'\xff\xfe', 'ä'.encode(), b'x/y.jpg']
    values = {k: encode(picture(i)) for i, k in enumerate(keys)}
    write_lmdb(tmp_path / 'lmdb', values)
    images = find_images(tmp_path / 'lmdb')
    assert [os.fsencode(name) for name in names(images)] == sorted(keys)
    for image in images:
        assert_shows(image, keys.index(os.fsencode(image.name)))


def test_lmdb_without_its_lock_file_gets_none(tmp_path):
    write_lmdb(tmp_path / 'lmdb', {b'a': encode(picture(0))})
    (tmp_path / 'lmdb' / 'lock.mdb').unlink()
    assert_shows(find_images(tmp_path / 'lmdb')[0], 0)
    assert os.listdir(tmp_path / 'lmdb') == ['data.mdb']


def test_damaged_value(tmp_path):
    write_lmdb(tmp_path / 'lmdb', {b'a': b'words', b'b': b''})
    for image in find_images(tmp_path / 'lmdb'):
        with pytest.raises(
            DamagedVideoError, match=f'lmdb/{image.name}: not an image'
        ):
            image.read([0])


def test_empty_lmdb(tmp_path):
    write_lmdb(tmp_path / 'lmdb', {})
    with pytest.raises(InputError, match='the LMDB is empty'):
        find_images(tmp_path / 'lmdb')


def test_without_the_package(tmp_path, monkeypatch):
    write_lmdb(tmp_path / 'lmdb', {b'a': encode(picture(0))})
    monkeypatch.setitem(__import__('sys').modules, 'lmdb', None)
    with pytest.raises(InputError, match='pip install lmdb'):
        find_images(tmp_path / 'lmdb')


@pytest.fixture
def listings(monkeypatch):
    """Sees which LMDBs get their keys listed."""
    from stylegan_v_mm.datasets.sources import images

    seen, list_keys = [], images.list_keys
    monkeypatch.setattr(
        images,
        'list_keys',
        lambda folder: seen.append(folder) or list_keys(folder),
    )
    return seen


def test_keys_are_listed_once(tmp_path, listings, cache_home, monkeypatch):
    keys = [b'a', b'b\0', b'\xff']
    write_lmdb(tmp_path / 'lmdb', {k: encode(picture(0)) for k in keys})
    first = find_images(tmp_path / 'lmdb')
    again = find_images(tmp_path / 'lmdb')
    monkeypatch.chdir(tmp_path)
    relative = find_images('lmdb')
    assert len(listings) == 1
    assert names(first) == names(again) == names(relative)
    assert_shows(relative[2], 0)
    # Another time of change.
    os.utime(tmp_path / 'lmdb' / 'data.mdb', ns=(1, 1))
    assert names(find_images(tmp_path / 'lmdb')) == names(first)
    assert len(listings) == 2
    for content in (b'', b'words'):
        (cache,) = cache_home.rglob('*.npz')
        cache.write_bytes(content)
        assert names(find_images(tmp_path / 'lmdb')) == names(first)
    assert len(listings) == 4


def test_another_lmdb_in_its_place(tmp_path, listings):
    write_lmdb(tmp_path / 'new', {b'b': b'x' * 2**16})
    write_lmdb(tmp_path / 'lmdb', {b'a': b''})
    assert names(find_images(tmp_path / 'lmdb')) == ['a']
    # The next run of the program: this one holds the old file open.
    from stylegan_v_mm.datasets.sources import lmdb as readers

    readers._close_environments()
    shutil.rmtree(tmp_path / 'lmdb')
    (tmp_path / 'new').rename(tmp_path / 'lmdb')
    assert names(find_images(tmp_path / 'lmdb')) == ['b']


def make_dataset(root, **settings):
    return VideoDataset(
        root,
        pipeline=[
            dict(type='SampleClip', num_frames=1, num_gen=2),
            dict(type='LoadClip'),
            dict(type='FlipClip', prob=0.5),
            dict(type='PackClip'),
        ],
        images=True,
        **settings,
    )


def test_workers_open_their_own(tmp_path):
    """They inherit none of the main process, which has read before."""
    values = {b'%d' % i: encode(picture(i)) for i in range(8)}
    write_lmdb(tmp_path / 'lmdb', values)
    dataset = make_dataset(tmp_path / 'lmdb')
    assert dataset[3]['video'][0, 0, -1, 8] == 3
    maps = Path('/proc/self/maps')
    data = str(tmp_path / 'lmdb' / 'data.mdb')
    assert data in maps.read_text()

    def start(worker):
        (tmp_path / f'{worker}.txt').write_text(maps.read_text())

    loader = DataLoader(dataset, 2, num_workers=2, worker_init_fn=start)
    for _ in range(2):
        shown = [video[0, 0, -1, 8] for b in loader for video in b['video']]
        assert shown == list(range(8))
        assert dataset[3]['video'][0, 0, -1, 8] == 3
    for worker in range(2):
        assert data not in (tmp_path / f'{worker}.txt').read_text()
    # As a process that is not forked gets it.
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy[3]['video'][0, 0, -1, 8] == 3


# The data set


def test_item(tmp_path):
    write_folder(tmp_path, ['cat/a.png', 'cat/b.png', 'dog/a.png'])
    dataset = make_dataset(tmp_path, labels='folder')
    assert (len(dataset), dataset.c_dim) == (3, 2)
    assert dataset.metainfo == {'classes': ('cat', 'dog')}
    assert dataset.video_lens.tolist() == [1, 1, 1]
    assert dataset.labels.tolist() == [[1, 0], [1, 0], [0, 1]]
    flipped = set()
    for _ in range(30):
        item = dataset[2]
        shown = item['video'].permute(0, 2, 3, 1).numpy()
        flip = int(shown[0, 0, -1, 0] == 10)
        flipped.add(flip)
        expected = picture(2)[:, :: -1 if flip else 1]
        np.testing.assert_array_equal(shown, [expected])
        assert item['t'].tolist() == [0]
        assert item['gen_t'].tolist() == [[0], [0]]
        assert item['c'].tolist() == [0, 1]
    assert flipped == {0, 1}


def test_labels_of_a_file_name_images(tmp_path):
    write_folder(tmp_path, ['x/a.png', 'x/b.png'])
    (tmp_path / 'dataset.json').write_text(
        '{"labels": [["x/b.png", 1], ["x/a.png", 0]]}'
    )
    dataset = make_dataset(tmp_path, labels='dataset.json')
    assert dataset.labels.tolist() == [[1, 0], [0, 1]]
    seeds = SeedDataset(
        50, 1, data_root=tmp_path, labels='dataset.json', images=True
    )
    drawn = {tuple(seeds[i]['c'].tolist()) for i in range(50)}
    assert drawn == {(1, 0), (0, 1)}


def test_clips_of_several_frames_need_videos(tmp_path):
    write_folder(tmp_path, ['a.png'])
    with pytest.raises(InputError, match=r'images=True.*num_frames=1'):
        VideoDataset(
            tmp_path, [dict(type='SampleClip', num_frames=3)], images=True
        )


def test_damaged_image_is_replaced(tmp_path, warnings_logged):
    write_folder(tmp_path, ['a.png', 'b.png'])
    (tmp_path / 'a.png').write_bytes(b'words')
    dataset = make_dataset(tmp_path)
    assert dataset[0]['video'][0, 0, -1, 8] == 1
    (text,) = warnings_logged
    assert 'a.png: not an image' in text


def test_fingerprint_follows_each_image(tmp_path):
    write_folder(tmp_path / 'folder', ['a.png', 'b.png'])
    folder = make_dataset(tmp_path / 'folder')
    before = folder.fingerprint
    assert folder.fingerprint == before
    (tmp_path / 'folder' / 'b.png').write_bytes(encode(picture(9))[:-1])
    assert folder.fingerprint != before

    write_lmdb(tmp_path / 'lmdb', {b'a': encode(picture(0))})
    before = make_dataset(tmp_path / 'lmdb').fingerprint
    os.utime(tmp_path / 'lmdb' / 'data.mdb', ns=(1, 1))
    assert make_dataset(tmp_path / 'lmdb').fingerprint != before


def test_many_images_take_little_memory(tmp_path):
    count = 20_000
    write_lmdb(tmp_path / 'lmdb', {b'%040x' % i: b'' for i in range(count)})
    make_dataset(tmp_path / 'lmdb')  # imports, caches
    tracemalloc.start()
    dataset = make_dataset(tmp_path / 'lmdb')
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(dataset) == count
    # A name of 40 bytes, its place, a length: a string alone has 49 more.
    assert kept < 80 * count
    assert len(pickle.dumps(dataset)) < 80 * count
    assert Path(dataset.data_root).name == 'lmdb'
