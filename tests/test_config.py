"""Formulas, checks and inheritance of configs."""

import math
from pathlib import Path

import pytest
import torch

from stylegan_v_mm.config import load_config
from stylegan_v_mm.engine import VideoGANRunner
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.models.shared import network_config
from stylegan_v_mm.registry import MODELS

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs/stylegan_v').glob('*.py'))


def networks(config):
    """Return the configs of both networks, with what they share."""
    return [
        network_config(config.model, name)
        for name in ('generator', 'discriminator')
    ]


@pytest.fixture
def write(tmp_path):
    def write(text, name='config.py'):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    ('formula', 'value'),
    [
        ('= a', 3),
        ('= 2 + 3 * a', 11),
        ('= -(a - 1) ** 2 / 8', -0.5),
        ('= 7 // 2 % 2', 1),
        ('= min(a, 2) + max(1, 2, 9)', 11),
        ('= round(2.6) + int(2.6)', 5),
        ('= b', 6),
        ('= num_processes * a', 12),
        ('not = a formula', 'not = a formula'),
    ],
)
def test_formulas_are_computed(write, formula, value):
    path = write(
        "a = 3\nb = '= 2 * a'\n"
        f"model = dict(used='= b', x=[dict(y='{formula}')])"
    )
    assert load_config(path, {'num_processes': 4}).model.x[0].y == value


def test_options_reach_formulas(write):
    path = write("a = 3\nmodel = dict(x='= a + 1', y=5)")
    config = load_config(path, {'a': 10, 'model.y': '= a'})
    assert config.model == dict(x=11, y=10)


def test_a_variable_set_below_reaches_all_that_was_inherited(write):
    base = write(
        "a = 3\nb = '= a + 1'\nmodel = dict(x='= a', y='= b')", 'base.py'
    )
    path = write(f"_base_ = ['{base}']\na = 7")
    assert load_config(path).model == dict(x=7, y=8)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ("model = dict(x='= lenght')", ['model.x', "'lenght'"]),
        (
            "a = '= b'\nb = '= a'\nmodel = dict(x='= a')",
            ['depend on themselves', 'a -> b'],
        ),
        ("model = dict(x='= 1 +')", ['model.x', '= 1 +']),
        ("a = 0\nmodel = dict(x='= 1 / a')", ['model.x', '1 / a', 'zero']),
        ("model = dict(x='= open(1)')", ['model.x', 'open']),
        ("a = 'x'\nmodel = dict(x='= a.__class__')", ['model.x']),
        (
            "resolution = 3\nresolutoin = 4\nmodel = dict(x='= resolution')",
            ["'resolutoin'", "'resolution'"],
        ),
        ('this is no python', ['cannot be read']),
        ("_base_ = ['nowhere.py']", ['cannot be read', 'nowhere.py']),
        (
            "model = dict(type='StyleGANVGenerator', resolution=16, zdim=3)",
            ["'model.zdim'", "'z_dim'"],
        ),
        (
            "a = [dict(type='FlipClip', probability=1)]",
            ["'a.0.probability'"],
        ),
    ],
)
def test_mistakes_are_named(write, text, words):
    path = write(text)
    with pytest.raises(InputError) as error:
        load_config(path)
    for word in [str(path), *words]:
        assert word in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r'nowhere\.py'):
        load_config(tmp_path / 'nowhere.py')


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_a_short_delta_that_loads(path):
    config = load_config(path)
    assert len(path.read_text().splitlines()) < 30
    dataset = config.train_dataloader.dataset
    assert dataset.data_root == config.data_root
    resize = dataset.pipeline[2]
    assert resize.type == 'ResizeCrop'
    generator, discriminator = networks(config)
    assert (
        resize.resolution
        == generator['resolution']
        == discriminator['resolution']
        == config.test_evaluator[0].resolution
        == config.resolution
    )


def test_the_published_numbers_of_the_256_px_run():
    # Spec of the published run: batch 64, 3 frames, lazy regularisation
    # every 4 and 16 iterations, gamma 0.0002 R^2 / N, 25 million frames.
    config = load_config(ROOT / 'configs/stylegan_v/ucf101.py')
    assert config.model.r1_gamma == pytest.approx(0.2048)
    assert config.model.ema_kimg == 20
    assert config.train_cfg.max_iters == 25_000_000 // 192
    for name, interval in (('generator', 4), ('discriminator', 16)):
        optimizer = config.optim_wrapper[name].optimizer
        share = interval / (interval + 1)
        assert optimizer.lr == pytest.approx(0.0025 * share)
        assert optimizer.betas[0] == 0
        assert math.log(optimizer.betas[1]) == pytest.approx(
            share * math.log(0.99)
        )
        assert optimizer.eps == 1e-8
    generator, _ = networks(config)
    assert generator['max_period_len'] == 1024
    assert generator['min_period_len'] == 16
    with torch.device('meta'):
        discriminator = MODELS.build(config.model).discriminator
    assert discriminator.mbstd_group_size == 4
    assert discriminator.concat_res == 16


def test_a_new_data_set_in_five_lines(write):
    path = write(
        f"""
_base_ = ['{ROOT}/configs/stylegan_v/sky_timelapse.py']
data_root = 'data/my_videos'
resolution = 128
motion_period = 64
batch_size = 32
"""
    )
    config = load_config(path, {'num_processes': 8})
    generator, discriminator = networks(config)
    assert generator['resolution'] == discriminator['resolution'] == 128
    assert generator['motion_z_distance'] == generator['min_period_len'] == 64
    assert config.train_dataloader.batch_size == 4
    assert config.train_dataloader.dataset.data_root == 'data/my_videos'
    assert config.train_dataloader.dataset.pipeline[2].resolution == 128
    assert config.test_evaluator[0].real_data.data_root == 'data/my_videos'
    assert config.test_evaluator[0].resolution == 128


def test_the_batch_is_divided_among_processes(monkeypatch, tmp_path):
    path = ROOT / 'configs/stylegan_v/ucf101.py'
    monkeypatch.setenv('WORLD_SIZE', '8')
    options = {'launcher': 'pytorch', 'work_dir': str(tmp_path)}
    config = load_config(path, options)
    assert config.train_dataloader.batch_size == 8
    assert config.launcher == 'pytorch'
    monkeypatch.setenv('WORLD_SIZE', '5')
    with pytest.raises(
        InputError, match=r'batch_size=64 .* multiple of the 5'
    ):
        VideoGANRunner.from_cfg(load_config(path, options))


def test_a_formula_may_name_a_whole_part(write):
    path = write(
        "n = 3\nother = '= part'\npart = dict(a='= 2 * n', b=['= n'])\n"
        "model = dict(x='= other', y='= part')"
    )
    part = dict(a=6, b=[3])
    assert load_config(path).model == dict(x=part, y=part)
    assert load_config(path, {'other': None}).model == dict(x=None, y=part)


def test_metrics_during_training_are_those_of_the_test():
    path = ROOT / 'configs/stylegan_v/ucf101.py'
    assert load_config(path).train_cfg.val_interval == 0
    config = load_config(path, dict(val_interval=500, num_test_videos=64))
    assert config.train_cfg.val_interval == 500
    assert config.val_cfg == dict(type='ValLoop')
    assert config.val_dataloader == config.test_dataloader
    assert config.val_dataloader.dataset.num_videos == 64
    assert config.val_evaluator == config.test_evaluator
    assert config.val_evaluator[0].num_real == 64


def test_variables_of_plain_python_are_no_misspelt_keys(write):
    path = write("n = 3\nnames = ['a']\nmodel = dict(x=n, y=[*names])")
    assert load_config(path).model == dict(x=3, y=['a'])
    path = write("size = 3\nsize_ = 4\nmodel = dict(x='= size')")
    with pytest.raises(InputError, match="unknown key 'size_'"):
        load_config(path)


def test_in_another_scope_what_has_our_prefix_is_checked(write):
    path = write(
        "default_scope = 'mmagic'\n"
        "model = dict(x=[dict(type='InceptionScore', fake_nums=5000),"
        "dict(type='stylegan_v_mm.FlipClip', probb=1)])"
    )
    with pytest.raises(InputError, match=r"'model\.x\.1\.probb'.* 'prob'"):
        load_config(path)


@pytest.mark.parametrize('name', ['mmagic.NoSuch', 'torch.nn.ReLU'])
def test_types_of_other_libraries_are_theirs_to_check(write, name):
    path = write(f"model = dict(type='{name}', whatever=1)")
    assert load_config(path).model.whatever == 1
