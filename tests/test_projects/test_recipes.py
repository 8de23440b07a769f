"""The comparison of recipes: turns, figures, and that every recipe trains."""

import json
import math

import pytest
import torch
from real_process import ROOT, run_script

from projects.recipes.recipes import RECIPES
from projects.recipes.recipes.report import alive_from, time_to
from stylegan_v_mm.checkpoints.loading import load_checkpoint
from stylegan_v_mm.config import load_config
from stylegan_v_mm.registry import MODELS
from stylegan_v_mm.video.encoding import write_video

COMPARE = ROOT / 'projects/recipes/compare.py'
CONFIG = f"""
_base_ = ['{ROOT}/configs/stylegan_v/demo_moving_shapes.py']
data_root = '{{data_root}}'
resolution = 16
batch_size = 4
log_interval = 5
test_evaluator = ['= fvd2048_16f', '= motion_16f']
model = dict(
    generator=dict(
        z_dim=8, w_dim=8, motion_z_dim=8, motion_v_dim=8, time_enc_dim=4,
        channel_max=8,
    ),
    discriminator=dict(channel_max=8),
)
"""


def test_the_time_to_a_level_by_hand():
    assert time_to(10, [1, 2, 3], [9, 5, 4]) == 1
    # A factor of 4 in two minutes: half of it after one.
    assert time_to(20, [2, 4], [40, 10]) == pytest.approx(3)
    assert time_to(10, [5, 10, 15], [40, 10, 20]) == 10
    assert time_to(3, [5, 10], [40, 10]) == math.inf


def test_from_when_a_video_moves():
    steps = [200, 400, 600, 800]
    assert alive_from(steps, [9, 1, 9, 9], 5) == 600
    assert alive_from(steps, [9, 9, 9, 9], 5) == 200
    assert alive_from(steps, [9, 9, 9, 5], 5) == math.inf
    assert alive_from([], [], 5) == math.inf


@pytest.mark.parametrize('name', RECIPES)
def test_every_recipe_is_a_config(name):
    recipe = RECIPES[name]
    for options in filter(None, (recipe.options, recipe.first)):
        config = load_config(
            str(ROOT / 'configs/stylegan_v/rc_track_32.py'), options
        )
        with torch.device('meta'):
            MODELS.build(config.model)


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('recipes')
    for i in range(4):
        video = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8)
        write_video(folder / f'videos/{i}.mp4', video, 25)
    path = folder / 'small.py'
    path.write_text(CONFIG.format(data_root=folder / 'videos'))
    return path


def compare(config, out, *args):
    """Call the script as a process, from the root of the repository."""
    words = [COMPARE, out, '--config', config, '--seeds=5', '--turns=2']
    return run_script([*words, '--num-videos=4', *args], cwd=ROOT)


@pytest.mark.slow
def test_runs_take_turns(config, tmp_path):
    """With real processes; one run starts from a model of images."""
    out = tmp_path / 'out'
    recipes = ['--recipes', 'published', 'images_first']
    minutes = 3 / 60  # for both turns
    result = compare(config, out, f'--minutes={minutes}', *recipes)
    assert result.returncode == 0, result.stderr + result.stdout
    turns = {
        name: json.loads((out / f'{name}_5/turns.json').read_text())
        for name in recipes[1:]
    }
    first, second = turns['published']
    assert 0 < first < second
    assert turns['images_first'][0] == 0 < turns['images_first'][1]
    # Turns are as long as they should be, by the clock of the checkpoint.
    for name, iteration, seconds in (
        ('published', first, 1.5),
        ('published', second, 3),
        ('images_first', turns['images_first'][1], 1.5),
    ):
        path = out / f'{name}_5/iter_{iteration}.pth'
        hub = load_checkpoint(path)['message_hub']
        trained = hub['runtime_info']['trained_seconds']
        assert seconds <= trained < seconds + 1
    # The second part of the other run started from the images' networks.
    log = (out / 'images_first_5.log').read_text()
    assert 'Start from' in log
    assert 'images/iter_' in log
    lines = result.stdout.splitlines()
    header = next(i for i, x in enumerate(lines) if x.startswith('recipe'))
    assert lines[header].split()[1:3] == ['FVD-random', 'at']
    rows = {line.split()[0]: line for line in lines[header + 1 : header + 3]}
    assert rows.keys() == {'published', 'images_first'}
    measured = [
        json.loads(line)['FVD-random']
        for line in (out / 'published_5/test/metrics.jsonl').open()
    ]
    assert len(measured) == 2
    for value in measured:
        assert f' {value:.0f} ' in rows['published']
    assert (out / 'recipes.png').stat().st_size > 5000
    # Nothing is done twice.
    again = compare(config, out, f'--minutes={minutes}', *recipes)
    assert again.returncode == 0, again.stderr
    assert json.loads((out / 'published_5/turns.json').read_text()) == [
        first,
        second,
    ]
    assert (
        len((out / 'published_5/test/metrics.jsonl').open().readlines()) == 2
    )


def test_a_failure_names_its_log(config, tmp_path):
    path = tmp_path / 'no_data.py'
    path.write_text(f"_base_ = ['{config}']\ndata_root = 'nowhere'\n")
    out = tmp_path / 'out'
    result = compare(path, out, '--minutes=1', '--recipes', 'published')
    assert result.returncode != 0
    (line,) = [x for x in result.stderr.splitlines() if 'error' in x]
    assert str(out / 'published_5.log') in line
    assert 'nowhere' in (out / 'published_5.log').read_text()


def test_a_report_of_nothing(config, tmp_path):
    result = compare(config, tmp_path, '--steps', 'report')
    assert result.returncode != 0
    assert 'do the steps train and measure first' in result.stderr
