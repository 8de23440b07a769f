"""Properties that hold for all inputs, tried on random ones."""

import csv
import io
import json
import math
import os
import shutil
import zipfile
from pathlib import PurePosixPath

import av
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from reading import FACTOR
from seed_files import video

from stylegan_v_mm.config import load_config
from stylegan_v_mm.datasets.clip_times import METHODS, min_video_len
from stylegan_v_mm.datasets.labels import load_labels
from stylegan_v_mm.datasets.sources.finding import find_videos
from stylegan_v_mm.datasets.sources.listing import natural_key, set_aside
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.models.motion import MotionEncoder
from stylegan_v_mm.models.noise import MOTION, MotionNoise, seeded_noise


def examples(count):
    """So many examples, always the same ones, however long they take."""
    return settings(
        max_examples=round(count * FACTOR),
        derandomize=True,
        deadline=None,
        database=None,
    )


def refused(name, function, *args):
    """Call; give True if it refuses in one line that names the culprit."""
    try:
        function(*args)
    except InputError as error:
        message = str(error)
    else:
        return False
    assert name in message
    assert '\n' not in message
    return True


# Times of clips

NUMBERS = st.integers(-2, 40)
OPTIONS = {
    'random': dict(
        max_dist=NUMBERS, total_dists=st.lists(NUMBERS, max_size=4)
    ),
    'uniform': dict(
        max_gap=st.none() | NUMBERS,
        gaps=st.none() | st.lists(NUMBERS, max_size=4),
    ),
    'consecutive': dict(frame_stride=NUMBERS),
}
CASES = st.sampled_from(sorted(METHODS)).flatmap(
    lambda method: st.tuples(
        st.just(method),
        NUMBERS,
        NUMBERS,
        st.fixed_dictionaries(OPTIONS[method]),
        st.booleans(),
        st.integers(0, 2**32),
    )
)


@examples(500)
@given(CASES)
def test_times_of_clips(case):
    method, video_len, num_frames, options, fractional, seed = case
    rng = np.random.default_rng(seed)
    draw = METHODS[method]
    try:
        least = min_video_len(method, num_frames, **options)
    except ValueError:
        least = math.inf
    if video_len < least:
        with pytest.raises(ValueError, match=r'fits|at least|positive'):
            draw(video_len, num_frames, rng, fractional=fractional, **options)
        return
    t = draw(video_len, num_frames, rng, fractional=fractional, **options)
    assert t.shape == (num_frames,)
    assert t.dtype == (np.float64 if fractional else np.int64)
    assert 0 <= t[0] <= t[-1] <= video_len - 1
    steps = np.diff(t)
    assert (steps > 0).all()
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
    span = round(t[-1] - t[0])
    if method == 'random' and num_frames > 1:
        assert span <= options['max_dist']
        assert span in options['total_dists']
    if method != 'random' and num_frames > 1:
        assert len({round(step) for step in steps}) == 1
        gap = round(steps[0])
        if method == 'consecutive':
            assert gap == options['frame_stride']
        else:
            assert options['gaps'] is None or gap in options['gaps']
            assert options['max_gap'] is None or gap <= options['max_gap']


# Motion codes


@examples(100)
@given(
    seed=st.integers(0, 2**64 - 1),
    first_code=st.integers(0, 40),
    num_codes=st.integers(0, 10),
    period=st.none() | st.integers(1, 12),
    first=st.integers(0, 2**40),
    count=st.integers(1, 8),
)
def test_rows_of_noise(seed, first_code, num_codes, period, first, count):
    codes = torch.arange(num_codes * 3.0).view(num_codes, 3)
    noise = MotionNoise(seed, codes, first_code, period)
    rows = noise.rows(first, count, 3)
    assert rows.shape == (count, 3)
    for i, row in enumerate(rows):
        place = (first + i) % (period or 2**63)
        if first_code <= place < first_code + num_codes:
            assert row.tolist() == codes[place - first_code].tolist()
        else:
            drawn = seeded_noise(seed, MOTION, place, 1, 3)[0]
            assert torch.equal(row, drawn)


@examples(60)
@given(
    start=st.floats(0, 1e5),
    steps=st.lists(st.floats(0, 20), min_size=1, max_size=5),
    distance=st.floats(0.5, 300),
    kernel=st.integers(1, 5),
    kind=st.sampled_from(['conv', 'conv, plain', 'lstm']),
    period=st.integers(1, 9),
)
def test_motion_codes(start, steps, distance, kernel, kind, period):
    """A time has its code, whatever other times are asked for with it."""
    # Of an LSTM, all codes before are computed.
    start = 0 if kind == 'lstm' else start
    t = [start + step * distance for step in steps]
    torch.manual_seed(0)
    encoder = MotionEncoder(
        0, 3, 8, distance, kind.split(',')[0], kernel,
        fourier=kind == 'conv', time_enc_dim=4, min_period_len=4,
        max_period_len=64,
    ).double()  # fmt: skip
    noise = MotionNoise(5)

    def codes_at(times):
        times = torch.tensor([times], dtype=torch.float64)
        first, count = encoder.code_range(times)
        motion_z = noise.rows(int(first), count, 3)[None]
        return encoder(None, times, motion_z, first)

    with torch.no_grad():
        together = codes_at(t)
        for time, code in zip(t, together):
            torch.testing.assert_close(codes_at([time])[0], code)
    assert together.isfinite().all()
    times = torch.tensor([t], dtype=torch.float64)
    if kind == 'lstm':
        with pytest.raises(InputError, match='cannot loop'):
            encoder.wrap(times, [period])
        return
    for wrapped, time in zip(encoder.wrap(times, [period])[0].tolist(), t):
        assert 0 <= wrapped < period * distance
        rounds = (time - wrapped) / (period * distance)
        assert abs(rounds - round(rounds)) < 1e-6


# Names and places of videos

NAME = st.text(
    st.characters(
        exclude_categories=['Cs'], exclude_characters='/\0', max_codepoint=600
    ),
    min_size=1,
    max_size=8,
).filter(lambda name: not set_aside(name))
TREE = st.lists(
    st.tuples(st.lists(NAME, min_size=1, max_size=3), st.integers(1, 3)),
    min_size=1,
    max_size=5,
    unique_by=lambda entry: tuple(entry[0]),
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('properties')


@examples(60)
@given(TREE)
def test_frame_folders_and_their_zip(folder, tree):
    """Each folder with frames is a video; a zip of them holds the same."""
    root = folder / 'tree'
    shutil.rmtree(root, ignore_errors=True)
    with zipfile.ZipFile(folder / 'tree.zip', 'w') as archive:
        for parts, count in tree:
            place = root.joinpath(*parts)
            place.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                (place / f'{i}.png').write_bytes(b'x')
                archive.write(
                    place / f'{i}.png', '/'.join(parts) + f'/{i}.png'
                )
    expected = {'/'.join(parts): count for parts, count in tree}
    found = find_videos(root)
    assert {source.name: len(source) for source in found} == expected
    assert [s.name for s in found] == sorted(expected, key=natural_key)
    tops = {parts[0] for parts, _ in tree}
    if len(tops) == 1 and all(len(parts) > 1 for parts, _ in tree):
        expected = {
            name.partition('/')[2]: count for name, count in expected.items()
        }
    zipped = find_videos(folder / 'tree.zip')
    assert {source.name: len(source) for source in zipped} == expected


@examples(200)
@given(
    st.lists(st.decimals(0, 10**30, places=3), min_size=2, max_size=2),
    NAME,
    st.sampled_from(['', '.png', '.mp4', '.3gp', ' of 3.jpg', 's']),
    st.booleans(),
)
def test_numbers_in_names_are_ordered_as_numbers(numbers, name, end, whole):
    assume(not name[-1:].isdecimal() and name[-1:] not in '-.')
    if whole:
        numbers = [int(number) for number in numbers]
    one, other = (natural_key(f'{name}{number}{end}') for number in numbers)
    assert (one < other) == (numbers[0] < numbers[1])
    assert natural_key(name) < natural_key(f'{name}{numbers[0]}')
    # A minus separates, or is a sign, where nothing is to be separated.
    one, other = (natural_key(f'{name}x-{number}') for number in numbers)
    assert (one < other) == (numbers[0] < numbers[1])
    for start in ('', f'{name}=', f'{name}_', f'{name} '):
        one, other = (natural_key(f'{start}-{number}') for number in numbers)
        assert (one < other) == (-numbers[0] < -numbers[1])
        assert one <= natural_key(f'{start}0') or numbers[0] == 0


# What is used and what is named

FILE = st.sampled_from(
    [
        'a.mp4', 'b.avi', 'c.f4v', 'd', 'e.png', '0.png', '1.png', '2.jfif',
        'f.webp', 'g.tif', 'notes.txt', 'h.bin', '.hidden.mp4', '._0.png',
        'Thumbs.db', 'a.mp4.bak', '0', '3.jpg', 'i.zip', 'k.gif',
    ]
)  # fmt: skip
FOLDER = st.sampled_from(['x', 'y', 'a', 'v 1', '@eaDir', '.git', 'deep/er'])
CONTENT = st.sampled_from(
    ['video', 'half video', 'no video', 'image', 'half image', 'jpeg', 'webp',
     'stack', 'gif', 'text', 'empty', 'noise']
)  # fmt: skip
THING = st.one_of(
    CONTENT, CONTENT, CONTENT,
    st.sampled_from(['link', 'folder link', 'outer link', 'dangling', 'pipe']),
)  # fmt: skip
THINGS = st.dictionaries(
    st.tuples(st.lists(FOLDER, max_size=2), FILE).map(
        lambda parts: '/'.join([*parts[0], parts[1]])
    ),
    THING,
    min_size=1,
    max_size=9,
)


@pytest.fixture(scope='module')
def contents(folder):
    """Content of files by kind, which other libraries have written."""
    pictures = [
        Image.fromarray(np.full((32, 48, 3), 25 * i, np.uint8))
        for i in range(6)
    ]

    def saved(format, several, **options):
        file = io.BytesIO()
        if several:
            options |= dict(save_all=True, append_images=pictures[1:])
        pictures[0].save(file, format, **options)
        return file.getvalue()

    video(folder / 'video.mp4', 'libx264', 'yuv420p')
    whole = (folder / 'video.mp4').read_bytes()
    return {
        'video': whole,
        'half video': whole[: len(whole) // 2],
        'no video': whole[:40],
        'image': saved('PNG', False),
        'half image': saved('PNG', False)[:60],
        'jpeg': saved('JPEG', False),
        'webp': saved('WEBP', True),
        'stack': saved('TIFF', True),
        'gif': saved('GIF', True),
        'text': b'words\n' * 9,
        'empty': b'',
        'noise': np.random.default_rng(0).bytes(2000),
    }


def put(root, things, contents):
    """Make a tree; what is in the way of a file stays."""
    outer = root.parent / 'outer'
    for name, thing in things.items():
        path = root / name
        if any(p.is_symlink() or p.is_file() for p in path.parents):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path):
            continue
        match thing:
            case 'link':
                path.symlink_to(root / min(things))
            case 'folder link':
                path.symlink_to(path.parent)
            case 'outer link':
                path.symlink_to(outer / 'v' if len(name) % 2 else outer)
            case 'dangling':
                path.symlink_to('nowhere')
            case 'pipe':
                os.mkfifo(path)
            case _:
                path.write_bytes(contents[thing])


def opens(path):
    """Whether PyAV or Pillow finds a picture in a file."""
    if not path.is_file():
        return False
    try:
        with Image.open(path) as image:
            image.load()
        return True
    except Exception:
        pass
    try:
        with av.open(str(path)) as container:
            return any(True for _ in container.decode(video=0))
    except Exception:
        return False


def found(root):
    """Give the videos under a path, or the one line that says why not."""
    try:
        return find_videos(root), ''
    except InputError as error:
        message = str(error)
    assert '\n' not in message
    return [], message


# Why what others open may be left out.
FAIR = (
    'hidden', 'a system file', 'a link to something listed already',
    'images in no folder of frames', 'images beside a video',
    'frames named like a video file', 'named like a copy of a file beside it',
)  # fmt: skip


@examples(120)
@given(THINGS)
def test_what_lies_there_is_used_or_named(folder, contents, things):
    """Once, whatever it is, and what other libraries open is used."""
    root = folder / 'place' / 'root'
    shutil.rmtree(root.parent, ignore_errors=True)
    root.mkdir(parents=True)
    outer = root.parent / 'outer' / 'v'
    outer.mkdir(parents=True)
    (outer / '0.png').write_bytes(contents['image'])
    put(root, things, contents)
    there = set()
    for place, folders, files in os.walk(root):
        links = [f for f in folders if os.path.islink(os.path.join(place, f))]
        there |= {
            os.path.relpath(os.path.join(place, name), root)
            for name in [*files, *links]
        }
    sources, message = found(root)
    if message:
        for name in there:
            assert not opens(root / name) or any(f in message for f in FAIR)
        return
    used = []
    for source in sources:
        files = getattr(source, 'files', None)
        if files is None:
            used.append(source.name)
        else:
            used += [f'{source.name}/{file}' for file in files]
    assert len(set(used)) == len(used)
    # Nothing is used that does not open, unless a problem is known.
    for source in sources:
        if getattr(source, 'files', None) is None:
            assert source.problem or opens(root / source.name)
    left_out = dict(sources.left_out)
    assert len(left_out) == len(sources.left_out)
    for name in there:
        above = [
            f'{p}/' for p in [name, *map(str, PurePosixPath(name).parents)]
        ]
        reasons = [left_out[n] for n in [name, *above] if n in left_out]
        below = any(u == name or u.startswith(f'{name}/') for u in used)
        assert below + len(reasons) == 1 or (
            # A link to a folder is used in part.
            (root / name).is_symlink() and (root / name).is_dir()
        ), (name, used, left_out)
        if reasons and opens(root / name):
            assert reasons[0] in FAIR, (name, reasons)
    for name in left_out:
        assert os.path.lexists(root / name), name
    # And so for a zip of that, where names are what counts.
    with zipfile.ZipFile(folder / 'tree.zip', 'w') as archive:
        names = [n for n in there if (root / n).is_file()]
        for name in names:
            archive.write(root / name, name)
    zipped, message = found(folder / 'tree.zip')
    if message:
        return
    frames = [file for source in zipped for file in source.files]
    named = [name for name, _ in zipped.left_out]
    assert sorted(frames + named) == sorted(names)


# Labels

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(['a', 'b', 'a/0.png', 'labels']),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(['labels', 'a']), inner, max_size=2)
    ),
    max_leaves=12,
)
ENTRIES = st.lists(
    st.tuples(st.sampled_from(['a', 'b', 'b/0.png', 'c', '', '/']), VALUES),
    max_size=4,
)


@examples(200)
@given(st.builds(lambda entries: {'labels': entries}, ENTRIES) | VALUES)
def test_any_json_as_labels(folder, content):
    (folder / 'any.json').write_text(json.dumps(content))
    call = load_labels, folder, ['a', 'b'], 'any.json'
    if refused('any.json', *call):
        return
    c, classes = call[0](*call[1:])
    assert len(c) == 2
    assert c.dtype == np.float32
    assert np.isfinite(c).all()
    if classes:
        assert (c.sum(1) == 1).all()


@examples(200)
@given(st.text(max_size=40) | st.text('ab,01"\n- \r', max_size=40))
def test_any_text_as_csv_of_labels(folder, text):
    (folder / 'any.csv').write_bytes(text.encode('utf-8', 'surrogatepass'))
    call = load_labels, folder, ['a', 'b'], 'any.csv'
    if not refused('any.csv', *call):
        c, _ = call[0](*call[1:])
        assert c.shape[0] == 2
        assert (c.sum(1) == 1).all()


LABEL = st.integers(0, 50)


@examples(100)
@given(
    st.dictionaries(NAME, LABEL, min_size=1, max_size=5)
    | st.dictionaries(
        NAME, NAME.filter(lambda n: n.strip() == n != ''), min_size=1
    )
)
def test_labels_come_back(folder, labels):
    """As json and as csv; names with blanks at their ends only as json."""
    names = list(labels)
    entries = list(labels.items())
    (folder / 'these.json').write_text(json.dumps({'labels': entries}))
    results = [load_labels(folder, names, 'these.json')]
    assume(all(name == name.strip() for name in names))
    assume(
        not any(
            set(f'{k}{v}') & set('\n\r\x0b\x0c\x1c\x1d\x1e\x85')
            for k, v in entries
        )
    )
    if all(isinstance(v, int) or not v.isdecimal() for v in labels.values()):
        text = io.StringIO()
        csv.writer(text).writerows(entries)
        (folder / 'these.csv').write_text(text.getvalue())
        results.append(load_labels(folder, names, 'these.csv'))
    for c, classes in results:
        for row, (_, label) in zip(c, entries):
            place = classes.index(label) if classes else label
            assert row.argmax() == place
            assert row.sum() == 1


# Formulas of configs

LEAF = st.sampled_from(['a', 'b', '0', '1', '7', '2.5', '1e300', '"x"', 'c'])
FORMULA = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.tuples(
            inner,
            st.sampled_from(['+', '-', '*', '/', '//', '%']),
            inner,
        ).map(lambda parts: f'({parts[0]} {parts[1]} {parts[2]})'),
        st.tuples(inner, st.sampled_from(['2', '0.5', '-1'])).map(
            lambda parts: f'({parts[0]} ** {parts[1]})'
        ),
        inner.map(lambda x: f'-{x}'),
        st.tuples(st.sampled_from(['min', 'max']), inner, inner).map(
            lambda parts: f'{parts[0]}({parts[1]}, {parts[2]})'
        ),
        st.tuples(st.sampled_from(['int', 'round']), inner).map(
            lambda parts: f'{parts[0]}({parts[1]})'
        ),
    ),
    max_leaves=8,
)


@pytest.fixture(scope='module')
def config(folder):
    path = folder / 'config.py'
    path.write_text("a = 3\nb = -2\nmodel = dict(x='= a + b')\n")
    return path


@examples(100)
@given(FORMULA)
def test_formulas_are_pythons(config, formula):
    """What Python computes of numbers, or an error."""
    options = {'model.x': f'= {formula}'}
    if refused('config.py', load_config, config, options):
        return
    found = load_config(config, options).model.x
    expected = eval(formula, {'a': 3, 'b': -2})
    assert type(found) is type(expected)
    assert found == expected or found != found


@examples(100)
@given(st.text(max_size=30) | st.text('ab+-/%(),=<>."[]{}1 \n', max_size=30))
def test_any_text_as_a_formula(config, text):
    refused('config.py', load_config, config, {'model.x': f'={text}'})


@pytest.mark.parametrize(
    'formula',
    [
        'int("x")', 'int(1e308 * 10 - 1e308 * 10)', '\0', 'a.__class__',
        '[x for x in a]', '(lambda: 1)()', 'min(*a)', 'a[0]',
        '__import__("os").mkdir("executed")',
    ],
)  # fmt: skip
def test_formulas_that_are_refused(config, formula, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r'config\.py'):
        load_config(config, {'model.x': f'= {formula}'})
    assert os.listdir(tmp_path) == []


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        'model', 'model.type', 'model.x', 'train_cfg', 'a', 'work_dir',
        'model.generator', 'optim_wrapper', 'train_dataloader', 'seed',
    ]
) | st.text(max_size=6)  # fmt: skip


@examples(60)
@given(st.dictionaries(KEYS, VALUE, max_size=3))
def test_any_options_of_a_config(config, options):
    refused('config.py', load_config, config, options)
