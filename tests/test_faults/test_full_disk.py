"""A disk that is full: a real one, small, or with a limit to a file's size."""

import json

import pytest
from faults import (
    NUM_ITERS,
    assert_same_end,
    checkpoints,
    error_line,
    resume,
)
from real_process import run_tool


def used(folder):
    """Bytes of all files in a folder."""
    return sum(p.stat().st_size for p in folder.rglob('*') if p.is_file())


def test_training(job, disk, tried, moment):
    work_dir = disk.folder / 'work'
    # At any byte that the run writes: of logs, previews or checkpoints.
    disk.leave(moment.randrange(used(job.work_dir)))
    process = run_tool('train.py', job.config, '--work-dir', work_dir)
    line = error_line(process)
    assert 'cannot be written' in line or 'cannot be made' in line
    disk.make_room()
    lost = resume(job, work_dir)
    assert checkpoints(work_dir)[-1] == NUM_ITERS
    assert_same_end(work_dir, job)
    tried('disk full while training', 'one error, then --resume', lost)


# Files cannot be large while a preview is written.
NO_ROOM_FOR_PREVIEWS = """
import resource
from stylegan_v_mm.engine.hooks import preview
free = resource.getrlimit(resource.RLIMIT_FSIZE)
class Limited(preview.VideoWriter):
    def __enter__(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, free[1]))
        return super().__enter__()
    def __exit__(self, *error):
        try:
            return super().__exit__(*error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, free)
preview.VideoWriter = Limited
"""


def test_previews(job, tmp_path, tried):
    process = run_tool(
        'train.py',
        *(job.config, '--work-dir', tmp_path),
        before=NO_ROOM_FOR_PREVIEWS,
    )
    assert process.poll() == 0, process.said
    lines = process.said.splitlines()
    told = [x for x in lines if 'WARNING - preview: ' in x]
    assert len(told) == 4
    assert all('cannot be written' in line for line in told)
    assert not list((tmp_path / 'previews').iterdir())
    assert_same_end(tmp_path, job)
    tried('disk full while writing a preview', 'a warning, goes on')


def test_caches(job, disk, tmp_path, tried):
    disk.leave(0)
    cache = dict(XDG_CACHE_HOME=str(disk.folder))
    process = run_tool(
        'test.py', job.config, job.checkpoint, '--work-dir', tmp_path, **cache
    )
    assert process.poll() == 0, process.said
    assert 'cannot be cached' in process.said
    left = [path for path in disk.folder.rglob('*') if path.is_file()]
    assert {path.name for path in left if path.stat().st_size} == {'filler'}
    assert not list(disk.folder.rglob('*.tmp'))
    tried('disk full while writing a cache', 'a warning, goes on')


def test_measurements(job, disk, tmp_path, tried):
    work_dir = disk.folder / 'work'
    words = ('test.py', job.config, job.checkpoint, '--work-dir', work_dir)
    first = run_tool(*words)
    assert first.poll() == 0, first.said
    file = work_dir / 'metrics.jsonl'
    lines = file.read_text()
    # The rest of the file's last page is all that is left.
    file.write_text(lines + lines[:-1].ljust(4000 - len(lines)) + '\n')
    before = file.read_bytes()
    disk.leave(0)
    again = run_tool(*words)
    error_line(again)
    assert file.read_bytes() == before
    for line in file.read_text().splitlines():
        json.loads(line)
    tried('disk full while measuring', 'one error, none of the file lost')

    # Half a line, as a machine that lost its power may leave it.
    file.write_bytes(before[: len(lines) + 20])
    process = run_tool(
        'generate.py',
        *(job.config, work_dir, '--metric=FVD', '--out', tmp_path / 'a.mp4'),
    )
    assert f'{file}, line 2 is damaged' in error_line(process)


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('a.mp4', ['--grid', '--num-videos=4']),
        ('a.gif', []),
        ('a', ['--format=png']),
        ('a', ['--num-videos=2']),
    ],
)
def test_samples(job, disk, tried, moment, name, options):
    out = disk.folder / 'out'
    words = ('generate.py', job.config, job.checkpoint, *options)
    whole = run_tool(*words, '--out', out / name)
    assert whole.poll() == 0, whole.said
    size = used(out)
    files = {path.name for path in out.rglob('*') if path.is_file()}
    for path in sorted(out.rglob('*'), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    disk.leave(moment.randrange(size))
    process = run_tool(*words, '--out', out / name)
    assert f'{out / name}' in error_line(process)
    assert 'cannot be written' in error_line(process)
    left = [path for path in out.rglob('*') if path.is_file()]
    assert len(left) < len(files)
    assert {path.name for path in left} <= files
    tried('disk full while generating', 'one error, nothing half-written')


@pytest.mark.parametrize('name', ['out', 'out.zip'])
def test_preparation(job, disk, tmp_path, tried, moment, name):
    words = ('dataset_converters/videos_to_frames.py', job.data)
    whole = run_tool(*words, tmp_path / name)
    assert whole.poll() == 0, whole.said
    disk.leave(moment.randrange(used(tmp_path) - used(tmp_path / 'disk')))
    process = run_tool(*words, disk.folder / name)
    line = error_line(process)
    assert str(disk.folder) in line
    assert 'cannot be written' in line
    disk.make_room()
    again = run_tool(*words, disk.folder / name)
    assert again.poll() == 0, again.said
    frames = [
        {
            path.relative_to(folder): path.read_bytes()
            for path in (folder / name).rglob('*.png')
        }
        for folder in (tmp_path, disk.folder)
    ]
    assert frames[0] == frames[1]
    tried('disk full while preparing data', 'one error, then the rest')
