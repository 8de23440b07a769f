"""Labels by folder, in json and in csv files, and what is wrong with them."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from stylegan_v_mm.datasets.labels import load_labels
from stylegan_v_mm.errors import InputError

NAMES = ['a', 'b', 'c/d']


def write_json(path, labels):
    path.write_text(json.dumps({'labels': labels}))


def one_hot(inds, width):
    array = np.zeros((len(inds), width), np.float32)
    for row, i in enumerate(inds):
        array[row, i] = 1
    return array


def test_no_labels(tmp_path):
    c, classes = load_labels(tmp_path, NAMES, None)
    assert (c.shape, c.dtype, classes) == ((3, 0), np.float32, [])


def test_class_is_the_first_folder(tmp_path):
    names = ['run10/x/1', 'run2/a.mp4', 'run10/b', 'jump/c']
    c, classes = load_labels(tmp_path, names, 'folder')
    assert classes == ['jump', 'run2', 'run10']
    assert c.dtype == np.float32
    np.testing.assert_array_equal(c, one_hot([2, 1, 2, 0], 3))


def test_video_in_no_class_folder(tmp_path):
    with pytest.raises(InputError, match=r'needs one folder per.*b\.mp4'):
        load_labels(tmp_path, ['run/a.mp4', 'b.mp4'], 'folder')


def test_json_of_frames(tmp_path):
    entries = [
        [f'{name}/{i:06d}.jpg', label]
        for name, label in [('c/d', 0), ('a', 4), ('b', 1), ('gone', 6)]
        for i in range(3)
    ]
    write_json(tmp_path / 'dataset.json', entries)
    c, classes = load_labels(tmp_path, NAMES, 'dataset.json')
    # The width is that of the whole file, with or without all videos.
    np.testing.assert_array_equal(c, one_hot([4, 1, 0], 7))
    assert c.dtype == np.float32
    assert classes == []
    some, _ = load_labels(tmp_path, ['b'], 'dataset.json')
    np.testing.assert_array_equal(some, one_hot([1], 7))


def test_json_of_videos_with_vectors(tmp_path):
    entries = [['b', [0.5, -1]], ['a', [2, 3]], ['c/d.mp4', [0, 0.25]]]
    write_json(tmp_path / 'dataset.json', entries)
    names = ['a.mp4', 'b.mkv', 'c/d.mp4']
    c, classes = load_labels(tmp_path, names, 'dataset.json')
    np.testing.assert_array_equal(c, [[2, 3], [0.5, -1], [0, 0.25]])
    assert (c.dtype, classes) == (np.float32, [])


def test_json_anywhere(tmp_path):
    elsewhere = tmp_path / 'labels.json'
    write_json(elsewhere, [['a', 1], ['b', 0], ['c/d', 1]])
    c, _ = load_labels(tmp_path / 'data', NAMES, str(elsewhere))
    np.testing.assert_array_equal(c, one_hot([1, 0, 1], 2))


@pytest.mark.parametrize('top', ['', 'top/'])
def test_json_in_a_zip(tmp_path, top):
    text = json.dumps({'labels': [['a', 1], ['b', 0], ['c/d', 2]]})
    with zipfile.ZipFile(tmp_path / 'data.zip', 'w') as archive:
        archive.writestr(f'{top}other.json', '{}')
        archive.writestr(f'{top}dataset.json', text)
    c, _ = load_labels(tmp_path / 'data.zip', NAMES, 'dataset.json')
    np.testing.assert_array_equal(c, one_hot([1, 0, 2], 3))


@pytest.mark.parametrize('header', ['', 'video,label\n', '\ufeff'])
def test_csv_of_numbers(tmp_path, header):
    text = f'{header}a,2\n b , 0\n\nc/d,2\nother,3\n'
    (tmp_path / 'labels.csv').write_text(text, encoding='utf-8')
    c, classes = load_labels(tmp_path, NAMES, 'labels.csv')
    np.testing.assert_array_equal(c, one_hot([2, 0, 2], 4))
    assert classes == []


def test_a_given_csv_with_another_header():
    folder = os.environ.get('STYLEGAN_V_BAD_INPUTS')
    if folder is None:
        pytest.skip('STYLEGAN_V_BAD_INPUTS names no folder of bad inputs')
    file = Path(folder) / 'labels_other_header.csv'
    with pytest.raises(InputError, match=r"'path,class_id'.*\"video,label\""):
        load_labels(folder, ['a/x.mp4'], str(file))
    header, *lines = file.read_text().splitlines()
    assert header == 'path,class_id'
    entries = [line.split(',') for line in lines]
    labels = [int(label) for _, label in entries]
    assert sorted({*labels}) == [0, 2, 5]


def test_classes_without_videos_count(tmp_path):
    (tmp_path / 'labels.csv').write_text('Video, Label\na,0\nb,2\nc/d,5\n')
    c, _ = load_labels(tmp_path, NAMES, 'labels.csv')
    np.testing.assert_array_equal(c, one_hot([0, 2, 5], 6))


def test_csv_of_class_names(tmp_path):
    (tmp_path / 'labels.csv').write_text('a,walk\nb,"run, fast"\nc/d,walk\n')
    c, classes = load_labels(tmp_path, NAMES, 'labels.csv')
    assert classes == ['run, fast', 'walk']
    np.testing.assert_array_equal(c, one_hot([1, 0, 1], 2))


@pytest.mark.parametrize(
    ('labels', 'text'),
    [
        ([['a', 0], ['b', 1]], 'no label for c/d'),
        ([['a/0.jpg', 0], ['a/1.jpg', 1]], r'a/1\.jpg has label 1.*has 0'),
        ([['a', [1, 2]], ['b', [1]], ['c/d', [1, 2]]], 'b has 1.*a has 2'),
        ([['a', 0], ['b', [1]], ['c/d', 2]], r'b has \[1\]|a has 0'),
        ([['a', 0], ['b', 'run'], ['c/d', 2]], 'a has 0'),
        ([['a', 'run'], ['b', 0], ['c/d', 2]], "a has 'run'"),
        ([['a', 0], ['b', -1], ['c/d', 2]], 'b has negative label -1'),
        ([['a', 0.5], ['b', 1.5], ['c/d', 2]], r'a has 0\.5'),
        ([['a', True], ['b', False], ['c/d', True]], 'a has True'),
        (
            [['a', [1.0]], ['b', [float('nan')]], ['c/d', [0]]],
            'finite numbers',
        ),
        ([['a', ['x']], ['b', ['y']], ['c/d', ['z']]], 'finite numbers'),
        ([['a', [None]], ['b', [1]], ['c/d', [1]]], 'finite numbers'),
        ([['a', [[1, 2]]], ['b', [[1, 2]]], ['c/d', [[1, 2]]]], 'numbers'),
        (None, 'expected'),
        ([1, 2], 'expected'),
        ([['a', 0, 1]], 'expected'),
    ],
)
def test_json_that_cannot_be_used(tmp_path, labels, text):
    write_json(tmp_path / 'dataset.json', labels)
    with pytest.raises(InputError, match=rf'dataset\.json: .*({text})'):
        load_labels(tmp_path, NAMES, 'dataset.json')


@pytest.mark.parametrize(
    ('file', 'content', 'text'),
    [
        ('dataset.json', '{', 'expected'),
        ('dataset.json', '[]', 'expected'),
        ('dataset.json', '{"a": 1}', 'expected'),
        ('labels.csv', 'a,1,2\n', '"video,label", got .a,1,2'),
        ('labels.csv', '', 'no label for a'),
        (
            'labels.csv',
            'path,class_id\na,0\nb,2\nc/d,5\n',
            'first line .*path,class_id.*"video,label"',
        ),
        ('labels.csv', 'path,class_id\na,0\n', 'path,class_id.*known'),
        ('labels.csv', 'a,0\nb,2\nc/d,\n', "all integers .*, c/d has ''"),
        ('labels.csv', 'a,0\nb,2.0\nc/d,5\n', "b has '2.0'"),
        ('labels.txt', 'a,1\n', 'a .json or a .csv file'),
    ],
)
def test_files_that_cannot_be_read(tmp_path, file, content, text):
    (tmp_path / file).write_text(content)
    with pytest.raises(InputError, match=f'{file}.*{text}'):
        load_labels(tmp_path, NAMES, file)


def test_label_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r'labels\.csv: no such label file'):
        load_labels(tmp_path, NAMES, 'labels.csv')
