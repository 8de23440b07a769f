"""Folders with awkward names, that cannot be written, and locales."""

import os
import shutil
import subprocess
import sys

import pytest
from faults import CONFIG, OPTIONS, one_by_one
from real_process import ROOT, run_tool

UNICODE = 'Фильмы 映画 🎬 ü'
NAMES = {
    'spaces, Unicode and signs': f' a  {UNICODE} #%20&;$e\'"[h]{{i}}=j ',
    '200 characters': 200 * 'x',
}


def use(folder, data, *, cwd=ROOT, **more):
    """Train, measure, generate and convert, all in a folder."""
    config, work_dir = folder / 'my config.py', folder / 'work'
    quoted = str(data).replace("'", r'\'')
    config.write_text(CONFIG.format(data_root=quoted), 'utf-8')
    options = dict(cwd=cwd, **more)
    model = (config, work_dir / 'iter_1.pth')
    for words in (
        ('train.py', config, '--work-dir', work_dir, *OPTIONS),
        ('test.py', *model, '--work-dir', work_dir, *OPTIONS),
        ('generate.py', *model, '--out', folder / 'out/a.mp4'),
        ('dataset_converters/videos_to_frames.py', data, folder / 'frames'),
    ):
        process = run_tool(*words, **options)
        assert process.poll() == 0, process.said
        assert 'Traceback' not in process.said
    assert (work_dir / 'metrics.jsonl').exists()
    assert (folder / 'out/a.mp4').exists()
    assert len(list((folder / 'frames').glob('*/*.png'))) == 8 * 40


@pytest.mark.parametrize('name', NAMES)
def test_names(job, tmp_path, tried, name):
    folder = tmp_path / NAMES[name]
    folder.mkdir()
    data = shutil.copytree(job.data, folder / 'data')
    use(folder, data)
    tried(f'a path with {name}', 'all works')


def test_relative_paths(job, tmp_path, tried, monkeypatch):
    shutil.copytree(job.data, tmp_path / 'data')
    monkeypatch.chdir(tmp_path)
    here = type(tmp_path)('.')
    use(here, here / 'data', cwd=tmp_path)
    tried('relative paths', 'all works')


def test_links(job, tmp_path, tried):
    real, folder = tmp_path / 'real', tmp_path / 'folder'
    real.mkdir()
    folder.symlink_to(real, target_is_directory=True)
    (real / 'data').symlink_to(job.data, target_is_directory=True)
    use(folder, folder / 'data')
    assert (real / 'work/iter_1.pth').exists()
    tried('symbolic links', 'all works')


# Root may write anywhere, until it gives this up.
NO_PRIVILEGE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
words = (ctypes.c_uint32 * 6)()
assert libc.capget(header, words) == 0
words[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
assert libc.capset(header, words) == 0
assert not os.access({data!r}, os.W_OK, effective_ids=True)
"""


def test_data_that_cannot_be_written(job, tmp_path, tried):
    data = shutil.copytree(job.data, tmp_path / 'data')
    for path in (data, *data.iterdir()):
        path.chmod(path.stat().st_mode & 0o555)
    use(tmp_path, data, before=NO_PRIVILEGE.format(data=str(data)))
    tried('data that cannot be written', 'all works')


@pytest.mark.slow
@pytest.mark.parametrize(
    'env',
    [
        dict(LC_ALL='xx', LANG='garbage'),
        # ASCII: what Python would do there, were it not to know better.
        dict(LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0'),
    ],
    ids=['unknown', 'ASCII'],
)
def test_locales(job, tmp_path, tried, env):
    # Python forced to ASCII can name no other files.
    folder = tmp_path / ('a' if 'PYTHONUTF8' in env else UNICODE)
    folder.mkdir()
    shutil.copytree(job.data, folder / 'data')
    config = folder / 'config.py'
    text = CONFIG.format(data_root='data')
    config.write_text(f'# {UNICODE}\n{text}', 'utf-8')
    work_dir = folder / 'work'
    command = ('train.py', config, '--work-dir', work_dir, *OPTIONS)
    process = subprocess.run(
        [sys.executable, '-c', one_by_one([command])],
        cwd=folder,
        env={**os.environ, 'OMP_NUM_THREADS': '1', **env},
        capture_output=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr.decode()
    assert b'Traceback' not in process.stderr, process.stderr.decode()
    assert (work_dir / 'iter_1.pth').exists()
    tried(f'locale {" ".join(env.values())}', 'all works')
