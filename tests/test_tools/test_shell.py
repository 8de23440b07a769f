"""The launchers: words passed on, usage, and a real two-process launch."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAUNCHERS = sorted((ROOT / 'tools').glob('*.sh'))
SCRIPTS = [*LAUNCHERS, *ROOT.glob('requirements/*.sh'), ROOT / '.ci/run']

# Instead of python or srun: write down the words.
RECORDER = f"""#!{sys.executable}
import json, os, sys
with open(os.environ['RECORD'], 'w') as file:
    json.dump(sys.argv[1:], file)
"""

# Instead of tools/train.py: join the process group and add up the ranks.
STUB_TRAIN = """
import json, sys
from pathlib import Path
import torch, torch.distributed as dist
dist.init_process_group('gloo')
total = torch.tensor(dist.get_rank() + 1)
dist.all_reduce(total)
out = Path(__file__).with_name(f'rank{dist.get_rank()}.json')
out.write_text(json.dumps([total.item(), sys.argv[1:]]))
dist.destroy_process_group()
"""


def run_script(script, *args, cwd, **env):
    return subprocess.run(
        [script, *args],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )


@pytest.fixture
def recorded_words(tmp_path):
    """Run a launcher with python and srun replaced; give srun's words."""
    for name in ('python', 'srun'):
        (tmp_path / name).write_text(RECORDER)
        (tmp_path / name).chmod(0o755)

    def run_recorded(name, *args, **env):
        record = tmp_path / 'record.json'
        env = {
            'RECORD': str(record),
            'PYTHON': str(tmp_path / 'python'),
            'PATH': f'{tmp_path}:{os.environ["PATH"]}',
            **env,
        }
        script = ROOT / 'tools' / name
        result = run_script(script, *args, cwd=tmp_path, **env)
        assert result.returncode == 0, result.stderr
        return json.loads(record.read_text())

    return run_recorded


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse_and_can_be_run(script):
    subprocess.run(['bash', '-n', script], check=True)
    assert os.access(script, os.X_OK)


def test_the_four_launchers_are_there():
    assert [path.name for path in LAUNCHERS] == [
        'dist_test.sh',
        'dist_train.sh',
        'slurm_test.sh',
        'slurm_train.sh',
    ]


@pytest.mark.parametrize('script', LAUNCHERS, ids=lambda path: path.name)
def test_missing_arguments_give_a_usage_line(script, tmp_path):
    result = run_script(script, 'config.py', cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith('usage: ')
    assert result.stderr.count('\n') == 1
    assert result.stdout == ''


def test_dist_train_words(recorded_words):
    words = recorded_words(
        'dist_train.sh',
        *('my config.py', '4', '--resume', '--cfg-options', 'a=1 2'),
        NNODES='2',
        NODE_RANK='1',
        MASTER_ADDR='10.0.0.1',
        PORT='1234',
    )
    assert words == [
        '-m',
        'torch.distributed.run',
        '--nnodes=2',
        '--node_rank=1',
        '--master_addr=10.0.0.1',
        '--master_port=1234',
        '--nproc_per_node=4',
        str(ROOT / 'tools/train.py'),
        'my config.py',
        '--launcher',
        'pytorch',
        '--resume',
        '--cfg-options',
        'a=1 2',
    ]


def test_dist_test_words(recorded_words):
    words = recorded_words('dist_test.sh', 'config.py', 'c.pth', '8', '--x')
    assert words[2:] == [
        '--nnodes=1',
        '--node_rank=0',
        '--master_addr=127.0.0.1',
        '--master_port=29500',
        '--nproc_per_node=8',
        str(ROOT / 'tools/test.py'),
        'config.py',
        'c.pth',
        '--launcher',
        'pytorch',
        '--x',
    ]


def test_slurm_train_words(recorded_words):
    words = recorded_words(
        'slurm_train.sh',
        *('part', 'job', 'config.py', 'work dir', '--resume'),
        GPUS='16',
        CPUS_PER_TASK='3',
        SRUN_ARGS='--time=1:00 --quiet',
    )
    assert words[:8] == [
        '--partition=part',
        '--job-name=job',
        '--ntasks=16',
        '--gres=gpu:8',
        '--ntasks-per-node=8',
        '--cpus-per-task=3',
        '--kill-on-bad-exit=1',
        '--time=1:00',
    ]
    assert words[8] == '--quiet'
    assert words[10:] == [
        str(ROOT / 'tools/train.py'),
        'config.py',
        '--work-dir',
        'work dir',
        '--launcher',
        'slurm',
        '--resume',
    ]


def test_slurm_test_on_part_of_a_node(recorded_words):
    words = recorded_words(
        'slurm_test.sh', 'part', 'job', 'config.py', 'c.pth', GPUS='2'
    )
    assert words[2:5] == [
        '--ntasks=2',
        '--gres=gpu:2',
        '--ntasks-per-node=2',
    ]
    assert words[-5:] == [
        str(ROOT / 'tools/test.py'),
        'config.py',
        'c.pth',
        '--launcher',
        'slurm',
    ]


@pytest.mark.slow
def test_two_processes_find_each_other(tmp_path):
    (tmp_path / 'tools').mkdir()
    shutil.copy(ROOT / 'tools/dist_train.sh', tmp_path / 'tools')
    (tmp_path / 'tools/train.py').write_text(STUB_TRAIN)
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    result = run_script(
        'tools/dist_train.sh',
        *('config.py', '2', '--resume'),
        cwd=tmp_path,
        PYTHON=sys.executable,
        PORT=str(port),
    )
    assert result.returncode == 0, result.stderr
    for rank in (0, 1):
        total, words = json.loads(
            (tmp_path / f'tools/rank{rank}.json').read_text()
        )
        assert total == 1 + 2
        assert words == ['config.py', '--launcher', 'pytorch', '--resume']


@pytest.mark.parametrize(
    ('words', 'env', 'message'),
    [
        ([], {}, 'usage: '),
        (['fast'], {}, 'usage: '),
        (['quick'], {'PYTHON': 'no-such-python'}, 'PYTHON=no-such-python'),
        (['quick'], {'PYTHON': 'old-python'}, 'PYTHON=old-python is not a'),
    ],
)
def test_install_refuses_in_one_line(tmp_path, words, env, message):
    (tmp_path / 'requirements').mkdir()
    shutil.copy(ROOT / 'requirements/install.sh', tmp_path / 'requirements')
    old_python = tmp_path / 'old-python'
    old_python.write_text('#!/bin/sh\nexit 1\n')
    old_python.chmod(0o755)
    env['PATH'] = f'{tmp_path}:{os.environ["PATH"]}'
    result = run_script('requirements/install.sh', *words, cwd=tmp_path, **env)
    assert result.returncode == 1
    assert message in result.stderr
    assert result.stderr.count('\n') == 1
    assert not (tmp_path / '.venv').exists()
