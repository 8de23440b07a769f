"""Running the tools as a user does."""

import atexit
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import torch

from stylegan_v_mm.files import file_lock

ROOT = Path(__file__).parents[1]
# What takes seconds to import, and most scripts do.
PRELOADED = [
    'matplotlib.backends.backend_agg',
    'mmengine.runner',
    'real_process',
    'stylegan_v_mm.engine',
    'stylegan_v_mm.evaluation',
    'stylegan_v_mm.inference',
    'torchvision',
]


@contextmanager
def held_elsewhere(path):
    """Hold a file lock in another process; yield its number."""
    # Not by multiprocessing, whose children our tools kill at their end.
    held, tell = os.pipe()
    wait, release = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(release)
        with file_lock(path):
            os.write(tell, b'.')
            os.read(wait, 1)  # until the other end is closed
        os._exit(0)
    os.close(wait)
    assert os.read(held, 1) == b'.'
    try:
        yield child
    finally:
        os.close(release)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        os.close(held)
        os.close(tell)


def run_tool(tool, *args, cwd=ROOT, **env):
    """Run a script under tools/ as a user does; return the process."""
    return run_script([ROOT / 'tools' / tool, *args], cwd, **env)


def run_script(words, cwd, **env):
    """Run a Python script as a process; return it, completed.

    It is forked from one that has imported what takes seconds.

    Args:
        words: Path of the script, and its arguments.
        cwd: Its current folder.
        env: Added to the environment.
    """
    words = [*map(str, words)]
    env = {**os.environ, 'OMP_NUM_THREADS': '1', **env}
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, 'out'), Path(folder, 'err')
        process = context.Process(
            target=_become_script,
            args=(words, str(cwd), env, str(out), str(err)),
        )
        process.start()
        process.join(300)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, 300, out.read_text())
        return subprocess.CompletedProcess(
            words, process.exitcode, out.read_text(), err.read_text()
        )


def _become_script(words, cwd, env, out, err):
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for number, path in enumerate((os.devnull, out, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
    torch.set_num_threads(1)
    sys.argv = words
    sys.path.insert(0, str(Path(words[0]).parent.resolve()))
    try:
        runpy.run_path(words[0], run_name='__main__')
    finally:
        # The exit of a forked process leaves these out.
        atexit._run_exitfuncs()


def train_on_two(config, work_dir, *args, cwd=ROOT):
    """Run tools/dist_train.sh with two processes; return the process."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    command = [ROOT / 'tools/dist_train.sh', config, '2']
    return subprocess.run(
        [*command, '--work-dir', work_dir, *args],
        cwd=cwd,
        env={
            **os.environ,
            'PORT': str(port),
            'OMP_NUM_THREADS': '1',
            'PYTHON': sys.executable,
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
