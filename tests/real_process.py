"""Running the tools as a user does."""

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from select import select

import mmengine.config.config
import pytest

from stylegan_v_mm.files import file_lock

ROOT = Path(__file__).parents[1]


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


class Process:
    """A script that runs, or ran, in a session of its own."""

    def __init__(self, pid, folder):
        self.pid = pid
        self.started = time.monotonic()
        self._folder = folder
        self._end = os.pidfd_open(pid)
        self._status = None

    def poll(self, seconds=0):
        """Exit status, minus the signal that ended it, None if it runs.

        Args:
            seconds: How long to wait for the end.
        """
        if self._status is None and select([self._end], [], [], seconds)[0]:
            os.close(self._end)
            self._status = _server().ask({'poll': self.pid})
        return self._status

    def wait(self, seconds=120):
        """Wait for the end, but not for ever; return the exit status."""
        if self.poll(seconds) is None:
            self.send(signal.SIGKILL)
            pytest.fail(f'it hangs; it said: {self.said}')
        return self._status

    @property
    def returncode(self):
        """What :meth:`poll` returns."""
        return self.poll()

    def send(self, number):
        """Send a signal to the process and all that it started."""
        os.killpg(self.pid, number)

    @property
    def said(self):
        """All that was written to standard output and error."""
        return self.stdout + self.stderr

    @property
    def stdout(self):
        """What was written to standard output."""
        return (self._folder / 'out').read_text(errors='replace')

    @property
    def stderr(self):
        """What was written to standard error."""
        return (self._folder / 'err').read_text(errors='replace')


class _Server:
    """The process that the scripts are forked from."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory()
        self._numbers = count()
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name('warm_start.py')],
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout.readline() == 'ready\n'
        atexit.register(self.close)

    def ask(self, job):
        """Hand over a job and return the answer."""
        self._process.stdin.write(json.dumps(job) + '\n')
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def folder(self):
        """Make a folder for what a process writes."""
        folder = Path(self._folder.name, str(next(self._numbers)))
        folder.mkdir()
        for name in ('out', 'err'):
            (folder / name).touch()
        return folder

    def close(self):
        self._process.stdin.close()
        self._process.wait(60)
        self._folder.cleanup()


_server = functools.cache(_Server)


def start_script(words, cwd, before='', **env):
    """Start a Python script as a process.

    It is forked from one that has imported what takes seconds.

    Args:
        words: Path of the script, and its arguments.
        cwd: Its current folder.
        before: Python code that runs first in the new process.
        env: Added to the environment.
    """
    folder = _server().folder()
    job = dict(
        words=[*map(str, words)],
        before=before,
        cwd=str(cwd),
        env={**os.environ, 'OMP_NUM_THREADS': '1', **env},
        out=str(folder / 'out'),
        err=str(folder / 'err'),
    )
    return Process(_server().ask(job), folder)


def run_script(words, cwd, **env):
    """Run a script as a process; return it when it has ended."""
    process = start_script(words, cwd, **env)
    process.wait(300)
    return process


def run_program(program, folder, *args, **options):
    """Run Python code as a process; return it when it has ended.

    Args:
        program: The code.
        folder: Its current folder, where it is put as ``program.py``.
        args: Of the program.
        options: Of :func:`start_script`.
    """
    path = Path(folder, 'program.py')
    path.write_text(program)
    return run_script([path, *args], folder, **options)


def start_tool(tool, *args, cwd=ROOT, **options):
    """Start a script under tools/; see :func:`start_script`."""
    return start_script([ROOT / 'tools' / tool, *args], cwd, **options)


def run_tool(tool, *args, **options):
    """Run a script under tools/; return the process when it has ended."""
    process = start_tool(tool, *args, **options)
    process.wait(300)
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
        list: Both processes, which have ended.
    """
    group = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()))
    group |= dict(WORLD_SIZE='2', LOCAL_WORLD_SIZE='2', **env)
    both = [
        start_script(words, cwd, **group, RANK=rank, LOCAL_RANK=rank)
        for rank in '01'
    ]
    for process in both:
        process.wait(300)
    return both


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
    """Run tools/train.py as two processes, to their ends; return both."""
    words = [ROOT / 'tools/train.py', config, '--launcher', 'pytorch']
    return run_two([*words, '--work-dir', work_dir, *args], cwd)
