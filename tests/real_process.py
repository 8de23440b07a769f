"""Running the tools as a user does."""

import atexit
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

import mmengine.config.config
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


def leave_configs_as_they_are():
    """Do without the layout of a run's nine copies, each half a second."""
    mmengine.config.config.FormatCode = lambda text, **style: (text, True)


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
    (process,) = _run_at_once([words], cwd, [env])
    return process


def free_port():
    """Find a port that no process listens at."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def run_two(words, cwd=ROOT, **env):
    """Run a script as two processes of a group, as torchrun starts them.

    Args:
        words: Path of the script, and its arguments.
        cwd: Its current folder.
        env: Added to the environment.

    Returns:
        list: Both processes, completed.
    """
    group = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()))
    group |= dict(WORLD_SIZE='2', LOCAL_WORLD_SIZE='2', **env)
    ranks = [dict(RANK=rank, LOCAL_RANK=rank) for rank in '01']
    return _run_at_once([words] * 2, cwd, [group | rank for rank in ranks])


def run_program_twice(program, folder, *args):
    """Run Python code as two processes of a group, and check their ends.

    Args:
        program: What reads ``RANK`` and joins the group by the environment.
        folder: Of both, where the code is put as ``program.py``.
        args: Of the program.

    Returns:
        list: What each process printed.
    """
    path = Path(folder, 'program.py')
    path.write_text(textwrap.dedent(program))
    processes = run_two([path, *args], folder)
    for process in processes:
        assert process.returncode == 0, process.stderr
    return [process.stdout for process in processes]


def train_two(config, work_dir, *args, cwd=ROOT):
    """Run tools/train.py as two processes; return both, completed."""
    words = [ROOT / 'tools/train.py', config, '--launcher', 'pytorch']
    return run_two([*words, '--work-dir', work_dir, *args], cwd)


def _run_at_once(commands, cwd, envs):
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for i, (words, env) in enumerate(zip(commands, envs)):
            words = [*map(str, words)]
            out, err = Path(folder, f'out{i}'), Path(folder, f'err{i}')
            env = {**os.environ, 'OMP_NUM_THREADS': '1', **env}
            process = context.Process(
                target=_become_script,
                args=(words, str(cwd), env, str(out), str(err)),
            )
            process.start()
            started.append((process, words, out, err))
        deadline = time.monotonic() + 300
        for process, words, out, _ in started:
            process.join(deadline - time.monotonic())
            if process.is_alive():
                for other, *_ in started:
                    other.kill()
                    other.join()
                raise subprocess.TimeoutExpired(words, 300, out.read_text())
        return [
            subprocess.CompletedProcess(
                words, process.exitcode, out.read_text(), err.read_text()
            )
            for process, words, out, err in started
        ]


def _become_script(words, cwd, env, out, err):
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for number, path in enumerate((os.devnull, out, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
    torch.set_num_threads(1)
    leave_configs_as_they_are()
    sys.argv = words
    sys.path.insert(0, str(Path(words[0]).parent.resolve()))
    try:
        runpy.run_path(words[0], run_name='__main__')
    finally:
        # The exit of a forked process leaves these out.
        atexit._run_exitfuncs()
