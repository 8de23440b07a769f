"""Jobs of a conversion: done once, whole or not at all, and reported."""

import itertools
import json
import os
import shutil
import signal
import zipfile
from functools import partial
from pathlib import Path

import pytest

from stylegan_v_mm.datasets.conversion.jobs import Job, do_jobs
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import atomic_write
from stylegan_v_mm.video.reader import DamagedVideoError


def write(items, path):
    """Write a folder of texts, as converters write folders of pictures."""
    with atomic_write(path) as folder:
        folder.mkdir()
        for i, text in enumerate(items):
            (folder / f'{i}.txt').write_text(text)


def job(name, texts=('a', 'b'), problem=''):
    items = partial(iter, texts)
    return Job(
        source=f'{name}.mkv',
        name=name,
        num_items=len(texts),
        items=items,
        write=write,
        problem=problem,
    )


def convert(out, jobs, src='/nowhere/src', tool='x', **settings):
    return do_jobs(
        src=Path(src),
        out=out,
        plan=lambda: jobs,
        settings={'tool': tool, **settings},
        num_workers=2,
    )


def contents(out):
    """Return the texts of an output by their paths, hidden ones, too."""
    if out.suffix == '.zip':
        with zipfile.ZipFile(out) as archive:
            found = {n: archive.read(n).decode() for n in archive.namelist()}
    else:
        found = {
            path.relative_to(out).as_posix(): path.read_text()
            for path in out.rglob('*')
            if path.is_file()
        }
    return {k: v for k, v in found.items() if not k.endswith('.json')}


TEXTS = {'a/0.txt': 'a', 'a/1.txt': 'b', 'run/b/0.txt': 'x'}


def both():
    return [job('a'), job('run/b', ['x'])]


@pytest.mark.parametrize('name', ['out', 'out.zip'])
def test_what_is_there_is_not_made_again(tmp_path, name):
    out = tmp_path / 'new' / name
    report = convert(out, both()[:1])
    assert (report.made, report.there, report.skipped) == (['a'], [], {})
    report = convert(out, both())
    assert (report.made, report.there) == (['run/b'], ['a'])
    assert contents(out) == TEXTS
    assert json.loads(report.file.read_text()) == {
        'made': ['run/b'],
        'there already': ['a'],
        'skipped': {},
    }
    report = convert(out, both())
    assert (report.made, report.there) == ([], ['a', 'run/b'])
    names = {'out', 'out.zip', 'out.report.json'} & {name, report.file.name}
    assert {path.name for path in out.parent.iterdir()} == names


def test_what_fails_is_skipped_and_named(tmp_path):
    def damaged():
        yield 'a'
        raise DamagedVideoError('frame 1 is damaged')

    broken = job('c')
    broken = Job(**{**vars(broken), 'items': damaged})
    jobs = [job('a'), job('b', problem='too short'), broken]
    report = convert(tmp_path / 'out', jobs)
    assert report.made == ['a']
    skipped = {'b.mkv': 'too short', 'c.mkv': 'frame 1 is damaged'}
    assert report.skipped == skipped
    assert contents(tmp_path / 'out').keys() == {'a/0.txt', 'a/1.txt'}
    for jobs, words in (
        ([job('b', problem='too short')], 'none of 1 videos .*too short'),
        ([broken], 'none of 1 videos .*frame 1 is damaged'),
    ):
        with pytest.raises(InputError, match=words):
            convert(tmp_path / 'other', jobs)


def test_an_error_of_ours_stops_all_jobs(tmp_path):
    def wrong():
        raise RuntimeError('a defect')
        yield

    wrong_job = Job(**{**vars(job('b')), 'items': wrong})
    with pytest.raises(RuntimeError, match='a defect'):
        convert(tmp_path / 'out', [wrong_job, job('a', ['x'] * 10**5)])
    assert contents(tmp_path / 'out') == {}


@pytest.mark.parametrize('name', ['out', 'out.zip'])
def test_other_settings_are_refused(tmp_path, name):
    out = tmp_path / name
    convert(out, both(), fps=5, size=None)
    with pytest.raises(InputError, match=r'with fps=5, now 6; size=None, now'):
        convert(out, both(), fps=6, size=3)
    # Of another tool, only the name matters.
    with pytest.raises(InputError, match=r'with tool=x, now y: give'):
        convert(out, both(), tool='y', fps=6)
    assert contents(out) == TEXTS


def test_outputs_that_are_refused(tmp_path):
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full/thesis.txt').touch()
    (tmp_path / 'file').touch()
    with zipfile.ZipFile(tmp_path / 'other.zip', 'w') as archive:
        archive.writestr('a/0.png', b'')
    for name, words in [
        ('full', 'was not made by a converter'),
        ('file', 'was not made by a converter'),
        ('other.zip', 'was not made by a converter'),
        ('file/out', 'cannot be written'),
    ]:
        with pytest.raises(InputError, match=words):
            convert(tmp_path / name, both())
    with pytest.raises(InputError, match='OUT must not lie in SRC'):
        convert(tmp_path / 'src/out', both(), src=tmp_path / 'src')
    names = {path.name for path in tmp_path.rglob('*')}
    assert names == {'full', 'thesis.txt', 'file', 'other.zip'}


@pytest.mark.parametrize(
    ('jobs', 'name', 'words'),
    [
        (['a', 'a'], 'out', 'would both become a'),
        (['a', 'a/b'], 'out', 'a folder of frames around a/b.mkv'),
        ([os.fsdecode(b'\xff')], 'out.zip', 'is not UTF-8'),
    ],
)
def test_names_that_collide_are_refused(tmp_path, jobs, name, words):
    with pytest.raises(InputError, match=words):
        convert(tmp_path / name, list(map(job, jobs)))
    assert not any(tmp_path.iterdir())


def killed_at(step, out):
    """Convert in a process that is killed at a step; return its status.

    Steps are calls that change what has a name.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = itertools.count(1)

    def deadly(function):
        def call(*args, **kwargs):
            if next(left) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for module, names in [
        (os, ('replace', 'rename', 'unlink', 'rmdir', 'mkdir')),
        (zipfile.ZipFile, ('write', 'close')),
        (shutil, ('copyfile',)),
    ]:
        for name in names:
            setattr(module, name, deadly(getattr(module, name)))
    convert(out, both())
    os._exit(0)


@pytest.mark.parametrize('name', ['out', 'out.zip', 'lost.zip'])
def test_killed_at_any_step_and_run_again(tmp_path, name):
    """In between, lost.zip is lost."""
    for step in itertools.count(1):
        out = tmp_path / str(step) / name
        out.parent.mkdir()
        status = killed_at(step, out)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        if name == 'lost.zip':
            out.unlink(missing_ok=True)
        report = convert(out, both())
        assert sorted(report.made + report.there) == ['a', 'run/b']
        # Nothing is left of what was begun.
        assert contents(out) == TEXTS
        names = {path.name for path in out.parent.iterdir()}
        assert names == {name} | ({report.file.name} if out.suffix else set())
    assert step > 15
