"""How scripts end where nobody reads, and where memory is short."""

import numpy as np
import pytest
import torch
from real_process import ROOT, run_script

from stylegan_v_mm.cli import run_tool

DEMO = ROOT / 'configs/stylegan_v/demo_moving_shapes.py'
PRINT_CONFIG = ROOT / 'tools/analysis_tools/print_config.py'

# Becomes another script, whose output nobody reads.
UNREAD = """
import os, runpy, sys
reader, writer = os.pipe()
os.close(reader)
for number in {numbers}:
    os.dup2(writer, number)
sys.stdout = open(1, 'w')  # The one before may be of a file.
sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[0].rpartition('/')[0]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.fixture
def unread(tmp_path):
    """Run a script as one whose output nobody reads."""

    def unread(*words, numbers=(1,)):
        script = tmp_path / 'unread.py'
        script.write_text(UNREAD.format(numbers=numbers))
        return run_script([script, *words], ROOT, PYTHONUNBUFFERED='')

    return unread


@pytest.mark.parametrize('key', [[], ['lr']])
def test_nobody_reads(key, unread):
    result = unread(PRINT_CONFIG, DEMO, *key)
    assert (result.returncode, result.stderr) == (141, '')


def test_nobody_reads_help_or_errors(unread):
    result = unread(PRINT_CONFIG, '--help')
    assert result.stderr == ''
    result = unread(PRINT_CONFIG, 'nowhere.py', numbers=(1, 2))
    assert result.returncode != 0


def test_what_is_written_is_whole(job, unread, tmp_path):
    out = tmp_path / 'a.mp4'
    model = job.config, job.checkpoint
    generate = ROOT / 'tools/generate.py'
    result = unread(generate, *model, '--num-frames=4', '--out', out)
    assert (result.returncode, out.exists()) == (141, True)
    assert 'Traceback' not in result.stderr
    # The bar on stderr is the first that finds out.
    other = tmp_path / 'b.mp4'
    result = unread(
        generate, *model, '--num-frames=4', '--out', other, numbers=(1, 2)
    )
    assert result.returncode == 141
    assert {path.name for path in tmp_path.iterdir()} == {'a.mp4', 'unread.py'}


def test_other_broken_pipes_are_no_silent_end(capfd):
    """Of a data worker, say."""

    def main():
        raise BrokenPipeError(32, 'Broken pipe')

    with pytest.raises(BrokenPipeError):
        run_tool(main)


@pytest.mark.parametrize(
    'main',
    [
        lambda: np.empty(2**50),
        lambda: torch.empty(2**50),
        lambda: bytearray(2**60),
    ],
    ids=['numpy', 'torch', 'Python'],
)
def test_too_little_memory_is_one_line(main, capsys):
    with pytest.raises(SystemExit) as end:
        run_tool(main)
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith('error: there is too little memory: ')
    assert err.count('\n') == 1


# Sends itself SIGTERM while it prints, or where a library turns any end of
# the process into an error of its own.
STOPPED = """
import io, os, signal, sys
from stylegan_v_mm.cli import run_tool

class Terminal(io.RawIOBase):
    def writable(self):
        return True

    def write(self, data):
        if not killed:
            killed.append(True)
            os.kill(os.getpid(), signal.SIGTERM)
        return len(data)

killed = []

def printing():
    sys.stderr = io.TextIOWrapper(io.BufferedWriter(Terminal()))
    print('50 %', file=sys.stderr, flush=True)

def converting():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except SystemExit:
        raise ValueError('callback failed')

run_tool({main})
"""


@pytest.mark.parametrize('main', ['printing', 'converting'])
def test_sigterm_at_any_moment(main, tmp_path):
    script = tmp_path / 'stopped.py'
    script.write_text(STOPPED.format(main=main))
    result = run_script([script], tmp_path)
    assert (result.returncode, result.stderr) == (143, 'stopped by SIGTERM\n')
