"""Machines that lack what most have: a user's name, a home, /dev/shm."""

import ast
import os
import subprocess
import sys

import pytest
from faults import OPTIONS, error_line, one_by_one
from real_process import ROOT, run_tool

# Gives a process a /dev/shm of its own, or ends it with status 77.
OWN_SHM = """
import ctypes, os
from pathlib import Path
libc = ctypes.CDLL(None)
user, group = os.getuid(), os.getgid()
if libc.unshare(0x10000000 | 0x20000):  # users, mounts
    os._exit(77)
Path('/proc/self/setgroups').write_text('deny')
Path('/proc/self/uid_map').write_text(f'{{user}} {{user}} 1')
Path('/proc/self/gid_map').write_text(f'{{group}} {{group}} 1')
if libc.mount(b'tmpfs', b'/dev/shm', b'tmpfs', {read_only}, b'size={size}'):
    os._exit(77)
"""
SHM = {
    'read-only': OWN_SHM.format(read_only=1, size='1m'),
    # Too small for semaphores, or for a batch.
    'of 32 kB': OWN_SHM.format(read_only=0, size='32k'),
    'of 64 kB': OWN_SHM.format(read_only=0, size='64k'),
}


@pytest.mark.parametrize('home', [None, ''])
def test_unknown_user(job, tmp_path, tried, home):
    unshare = ['unshare', '--user', '--map-user=54321', '--']
    if subprocess.run([*unshare, 'true'], capture_output=True).returncode:
        pytest.skip('the system gives processes no users of their own')
    work_dir, out = tmp_path / 'work', tmp_path / 'a.mp4'
    model = (job.config, job.checkpoint)
    commands = [('generate.py', *model, '--num-frames=4', '--out', out)]
    if home is None:
        commands += [
            ('train.py', job.config, '--work-dir', work_dir, *OPTIONS),
            ('test.py', *model, '--work-dir', work_dir, *OPTIONS),
            ('analysis_tools/plot_log.py', work_dir),
        ]
    # PYTHONPATH and the like; no HOME, USER or cache.
    env = {k: v for k, v in os.environ.items() if k.startswith('PY')}
    if home is not None:
        env['HOME'] = home
    result = subprocess.run(
        [*unshare, sys.executable, '-c', one_by_one(commands)],
        env={'PATH': os.environ['PATH'], 'OMP_NUM_THREADS': '1', **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert 'Traceback' not in result.stdout + result.stderr
    assert out.exists()
    if home is None:
        for name in ('iter_1.pth', 'metrics.jsonl', 'report.png'):
            assert (work_dir / name).exists()
    tried('an unknown user, no home', 'all works, nothing is cached')


def imports(path):
    """List the modules that a script imports when it starts, in order."""
    for node in ast.parse(path.read_text()).body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        for name in names:
            beside = path.parent.joinpath(*name.split('.')).with_suffix('.py')
            yield from imports(beside) if beside.is_file() else [name]


def test_scripts_name_the_user_before_they_import_mmengine():
    scripts = [
        path
        for folder in ('tools', 'projects')
        for path in sorted((ROOT / folder).rglob('*.py'))
        if 'run_tool(' in path.read_text()
    ]
    assert len(scripts) > 20
    for path in scripts:
        for name in imports(path):
            room = name.partition('.')[0]
            assert room not in ('mmengine', 'mmcv', 'mmagic'), path
            if room == 'stylegan_v_mm':
                break


def run(shm, *words):
    """Run a tool with a /dev/shm of its own."""
    process = run_tool(*words, before=SHM[shm])
    if process.poll() == 77:
        pytest.skip('the system gives processes no /dev/shm of their own')
    return process


@pytest.mark.parametrize('shm', ['read-only', 'of 32 kB'])
def test_no_workers_need_no_shared_memory(job, tmp_path, tried, shm):
    work_dir, options = tmp_path / 'work', (*OPTIONS, 'num_workers=0')
    model = (job.config, work_dir / 'iter_1.pth')
    for words in (
        ('train.py', job.config, '--work-dir', work_dir, *options),
        ('test.py', *model, '--work-dir', work_dir, *options),
        ('generate.py', *model, '--num-frames=4', '--out', tmp_path / 'a.mp4'),
    ):
        process = run(shm, *words)
        assert process.poll() == 0, process.said
    tried(f'/dev/shm {shm}, num_workers=0', 'all works')


@pytest.mark.parametrize('shm', SHM)
@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_workers_without_shared_memory(job, tmp_path, tried, shm, tool):
    model = (
        (job.config,) if tool == 'train.py' else (job.config, job.checkpoint)
    )
    options = (*OPTIONS, 'num_workers=1', 'batch_size=64')
    words = (*model, '--work-dir', tmp_path, *options)
    line = error_line(run(shm, tool, *words))
    assert '/dev/shm' in line
    assert 'num_workers=0' in line
    tried(f'/dev/shm {shm}, {tool}', 'one error')
