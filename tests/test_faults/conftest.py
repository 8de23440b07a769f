"""A trained model, a small disk, the table of faults."""

import os
import random
import subprocess
import time
from collections import defaultdict

import pytest
from faults import CONFIG, INTERVAL, Disk, Job
from real_process import run_tool


def pytest_generate_tests(metafunc):
    """Repeat what draws its moment; ``moment`` is a source of randomness."""
    if 'moment' in metafunc.fixturenames:
        times = range(int(os.environ.get('STYLEGAN_V_FAULTS', 1)))
        seeds = [f'{metafunc.function.__name__} {i}' for i in times]
        metafunc.parametrize('moment', map(random.Random, seeds), ids=times)


@pytest.fixture(scope='session')
def job(tmp_path_factory):
    """Make videos and train on them."""
    folder = tmp_path_factory.mktemp('job')
    data = folder / 'videos'
    made = run_tool(
        'dataset_converters/moving_shapes.py',
        *(data, '--num-videos=8', '--num-frames=40', '--resolution=16'),
    )
    assert made.poll() == 0, made.said
    config = folder / 'config.py'
    config.write_text(CONFIG.format(data_root=data))
    work_dir = folder / 'work'
    train = run_tool('train.py', config, '--work-dir', work_dir)
    assert train.poll() == 0, train.said
    return Job(config, data, work_dir, time.monotonic() - train.started)


@pytest.fixture
def disk(tmp_path):
    """A small disk to be filled."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', folder]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('no tmpfs can be mounted: needs root')
    yield Disk(folder)
    subprocess.run(['umount', '-l', folder], check=True)


# The table


@pytest.fixture
def tried(record_property):
    """Note a fault that was survived, and how many iterations it cost."""

    def tried(fault: str, then: str, lost: int = 0) -> None:
        assert lost <= INTERVAL
        record_property('fault', (fault, then, lost))

    return tried


def pytest_terminal_summary(terminalreporter):
    """Show what was tried, where it was asked how often."""
    if 'STYLEGAN_V_FAULTS' not in os.environ:
        return
    rows = defaultdict(list)
    spoilt = defaultdict(list)
    for report in terminalreporter.stats.get('passed', []):
        for name, value in report.user_properties:
            if name == 'fault' and report.when == 'call':
                fault, then, lost = value
                rows[fault, then].append(lost)
            if name == 'damage' and report.when == 'call':
                kind, harm, *counts = value
                spoilt[kind].append(counts)
                spoilt[harm].append(counts)
                spoilt['all'].append(counts)
    if spoilt:
        terminalreporter.section('damaged videos')
        terminalreporter.write_line(
            '| | files | frames spoilt | used | frames intact | used |'
        )
        terminalreporter.write_line('|---|---|---|---|---|---|')
        for name, counts in spoilt.items():
            totals = ' | '.join(str(sum(column)) for column in zip(*counts))
            terminalreporter.write_line(
                f'| {name} | {len(counts)} | {totals} |'
            )
    terminalreporter.section('faults')
    terminalreporter.write_line('| fault | times | then | iterations lost |')
    terminalreporter.write_line('|---|---|---|---|')
    for (fault, then), lost in rows.items():
        terminalreporter.write_line(
            f'| {fault} | {len(lost)} | {then} | {max(lost)} |'
        )
