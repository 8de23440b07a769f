"""tools/analysis_tools/print_config.py: what a run sees, and from where."""

import pytest
from mmengine.config import Config
from real_process import ROOT
from yapf.yapflib.yapf_api import FormatCode

from stylegan_v_mm.config import load_config

TOOL = ROOT / 'tools/analysis_tools/print_config.py'
DEMO = ROOT / 'configs/stylegan_v/demo_moving_shapes.py'


@pytest.fixture(autouse=True)
def layout(monkeypatch):
    """Lay configs out, which other tests do without."""
    monkeypatch.setattr('mmengine.config.config.FormatCode', FormatCode)


@pytest.fixture
def config(tmp_path):
    (tmp_path / 'base.py').write_text(
        "size = 4\nname = 'a'\nother = 1\n"
        "work_dir = '= name'\nrandomness = dict(seed='= 2 * size')\n"
    )
    path = tmp_path / 'config.py'
    path.write_text("_base_ = ['./base.py']\nsize = 8\n")
    return path


def test_the_output_is_a_config_without_formulas(config, tmp_path, run_script):
    result = run_script(TOOL, config)
    assert result.returncode == 0
    resolved = tmp_path / 'resolved.py'
    resolved.write_text(result.stdout)
    assert Config.fromfile(resolved).to_dict() == dict(
        work_dir='a', randomness=dict(seed=16)
    )


def test_it_says_which_files_set_a_part(config, tmp_path, run_script):
    lines = run_script(TOOL, config).stdout.splitlines()
    base = tmp_path / 'base.py'
    assert lines[lines.index('# size = 8') - 1] == f'# {config}, {base}:'
    assert lines[lines.index('# other = 1') - 1] == f'# {base}:'
    place = lines.index("work_dir = 'a'")
    assert lines[place - 1] == f'# {base}:'


def test_what_is_printed_trains_the_same(tmp_path, run_script):
    resolved = tmp_path / 'resolved.py'
    resolved.write_text(run_script(TOOL, DEMO).stdout)
    there, full = load_config(resolved), load_config(DEMO)
    assert {'model', 'train_dataloader', 'optim_wrapper'} <= there.keys()
    assert there.keys() < full.keys()
    assert all(there[key] == full[key] for key in there)


def test_one_key_with_an_option(run_script):
    result = run_script(
        TOOL, DEMO, 'train_dataloader.batch_size', '--num-processes', 2,
        '--cfg-options', 'batch_size=12',
    )  # fmt: skip
    assert result.stdout.strip().splitlines() == [
        f'# {ROOT}/configs/_base_/datasets/videos.py:',
        'batch_size = 6',
    ]
    result = run_script(TOOL, DEMO, 'lr', '--cfg-options', 'lr=0.1')
    first, second = result.stdout.strip().splitlines()
    assert first.startswith(f'# --cfg-options, {DEMO}, ')
    assert second == 'lr = 0.1'
    result = run_script(TOOL, DEMO, 'test_evaluator.1.num_frames')
    assert result.stdout.strip().endswith('num_frames = 16')


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['nowhere.py'], 'nowhere.py'),
        ([DEMO, 'model.generatr'], "no 'generatr' in model; did you mean"),
        ([DEMO, 'test_evaluator.2'], "no '2' in test_evaluator"),
        ([DEMO, 'lr.x'], "no 'x' in lr"),
    ],
)
def test_bad_arguments(args, words, run_script):
    result = run_script(TOOL, *args)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith('error: ')
    assert words in line
