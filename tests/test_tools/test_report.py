"""A training run as one page."""

import base64
import re
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config
from real_process import run_tool
from training_logs import write_good_run, write_results

from stylegan_v_mm.reports.page import differences

TOOL = Path(__file__).parents[2] / 'tools/analysis_tools/report.py'


@pytest.fixture
def run(job, tmp_path):
    """A copy of a trained work dir, with two measurements."""
    folder = tmp_path / 'my_run'
    shutil.copytree(job.work_dir, folder)
    protocol = dict(results=['FVD16'], detector='I3D', num_fake=512)
    for_both = dict(FVD16=300.0, protocols=[protocol])
    lines = [dict(kimg=kimg, iter=1, **for_both) for kimg in (1, 2)]
    write_results(folder, *lines)
    return folder


def test_the_page_holds_the_run(run, tmp_path):
    result = run_tool('analysis_tools/report.py', run)
    assert (result.returncode, result.stderr) == (0, '')
    page = (run / 'report.html').read_text()
    assert result.stdout.startswith(f'report in {run}/report.html')
    # It needs nothing else.
    addresses = re.findall('(?:src|href)="([^"]*)"', page)
    assert addresses
    assert all(address.startswith('data:') for address in addresses)
    (newest, *_) = re.findall('video/mp4;base64,([^"]*)"', page)
    previews = sorted((run / 'previews').glob('*.mp4'))
    assert base64.b64decode(newest) == previews[-1].read_bytes()
    for text in (
        '<h1>Training run my_run</h1>',
        '<td>300</td><td>300</td>',
        'FVD16: detector I3D, num_fake 512.',
        '<th>resolution</th><td>256</td>',
        'video files',
        'PyTorch: ',
    ):
        assert text in page, text
    assert 'Nothing was measured' not in page


def test_what_is_missing_is_said(run_script, run, tmp_path):
    (run / 'metrics.jsonl').unlink()
    shutil.rmtree(run / 'previews')
    (config,) = run.glob('*.py')
    text = re.sub("data_root='[^']*'", "data_root='gone'", config.read_text())
    text = re.sub("data_root = '[^']*'", "data_root = 'gone'", text)
    config.write_text(text)
    result = run_script(TOOL, run, '--out', tmp_path / 'page.html')
    assert (result.returncode, result.stderr) == (0, '')
    page = (tmp_path / 'page.html').read_text()
    for text in ('written none', 'Nothing was measured', 'cannot be shown'):
        assert text in page


def test_a_folder_without_a_run(run_script, tmp_path):
    result = run_script(TOOL, tmp_path)
    assert result.returncode == 2
    assert 'has no training log' in result.stderr
    write_good_run(tmp_path / 'logs')
    result = run_script(TOOL, tmp_path / 'logs')
    assert result.returncode == 2
    assert 'config' in result.stderr
    result = run_script(TOOL, tmp_path / 'logs', '--out', tmp_path / 'a.png')
    assert 'must end in .html' in result.stderr


def test_settings_that_differ():
    ours, theirs = (
        Config(
            dict(lr=lr, work_dir=str(lr), optim_wrapper=dict(lr=lr), model=m)
        )
        for lr, m in (
            (1, dict(type='A', generator=dict(w_dim=3))),
            (2, dict(type='A', generator=dict(z_dim=4))),
        )
    )
    assert differences(ours, theirs) == [
        ['lr', '2', '1'],
        ['model.generator.w_dim', '', '3'],
        ['model.generator.z_dim', '4', ''],
    ]
