"""The models that come with the package, and how they are found by name."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_model import load_whole, make_work_dir

from stylegan_v_mm import zoo
from stylegan_v_mm.checkpoints.loading import load_checkpoint
from stylegan_v_mm.config import load_config
from stylegan_v_mm.config.checks import runner_arguments
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.inference import (
    VideoGANInferencer,
    find_model,
    load_sampler,
)

ROOT = Path(__file__).parents[1]
SHIPPED = zoo.zoo_models()
#: Bytes of the weights in the package, all models together.
MOST_BYTES = 10_000_000


# What is shipped.


def test_the_weights_are_small():
    files = Path(zoo.__file__).parent.glob('*.safetensors')
    sizes = [file.stat().st_size for file in files]
    assert 0 < sum(sizes) < MOST_BYTES
    # None that no entry names.
    local = [x for x in SHIPPED.values() if '://' not in x.weights]
    assert len(sizes) == len(local)


@pytest.mark.parametrize('name', SHIPPED)
def test_an_entry_is_complete(name):
    model = SHIPPED[name]
    assert re.fullmatch('[0-9a-f]{64}', model.sha256)
    assert 0 < len(model.about) < 79
    card = (zoo.FOLDER / f'{name}.md').read_text()
    assert card.startswith(f'# {name}\n')
    assert model.sha256 in card
    for heading in ('Data', 'Recipe', 'Known faults'):
        assert f'\n## {heading}\n' in card
    if '://' in model.weights:
        return
    content = Path(model.weights).read_bytes()
    assert hashlib.sha256(content).hexdigest() == model.sha256
    networks = {key.partition('.')[0] for key in load_file(model.weights)}
    assert {'generator_ema', 'discriminator'} <= networks
    assert 'generator' not in networks


@pytest.mark.parametrize('name', SHIPPED)
def test_a_config_is_the_one_of_the_repository(name):
    ours = load_config(SHIPPED[name].config)
    theirs = load_config(ROOT / f'configs/stylegan_v/{name}.py')
    for key in runner_arguments():
        assert ours.get(key) == theirs.get(key), key
    # Its formulas are still there.
    options = dict(data_root='data/mine', num_test_videos=64)
    changed = load_config(SHIPPED[name].config, options)
    assert changed.train_dataloader.dataset.data_root == 'data/mine'
    assert changed.test_evaluator[0].real_data.data_root == 'data/mine'
    assert changed.test_evaluator[0].num_real == 64


@pytest.mark.parametrize(
    'name', [x for x, model in SHIPPED.items() if '://' not in model.weights]
)
def test_it_draws_and_judges(name):
    gan = VideoGANInferencer(name, device='cpu')
    latents = gan.latents([0, 1])
    videos = gan.render(latents.ws, latents.motions, gan.times(3))
    assert videos.isfinite().all()
    resolution = gan.cfg.resolution
    assert videos.shape == (2, 3, 3, resolution, resolution)
    # Pictures, each with a content and a motion of its own.
    assert videos.std([3, 4]).min() > 0.05
    assert (videos[0] - videos[1]).abs().mean() > 0.05
    assert (videos[:, 0] - videos[:, 2]).abs().mean() > 0.01
    t = torch.arange(3.0).expand(2, 3)
    discriminator = load_whole(*SHIPPED[name][:2]).discriminator
    logits = discriminator(videos, torch.zeros(2, 0), t)
    assert logits.isfinite().all()


# Names.


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    return make_work_dir(tmp_path_factory.mktemp('zoo') / 'work')


@pytest.fixture
def index(tmp_path, monkeypatch, work_dir):
    """Make the zoo hold one model, and go to an empty folder."""
    monkeypatch.setattr(zoo, 'FOLDER', tmp_path / 'zoo')
    content = (work_dir / 'iter_1.pth').read_bytes()

    def index(weights):
        entry = dict(
            config='tiny.py',
            weights=weights,
            sha256=hashlib.sha256(content).hexdigest(),
            about='Noise',
        )
        text = json.dumps({'tiny': entry})
        (tmp_path / 'zoo/index.json').write_text(text)

    (tmp_path / 'zoo').mkdir()
    shutil.copy(work_dir / 'small.py', tmp_path / 'zoo/tiny.py')
    shutil.copy(work_dir / 'iter_1.pth', tmp_path / 'zoo')
    index('iter_1.pth')
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    return index


def test_a_name_stands_for_config_and_weights(index, tmp_path, work_dir):
    config, weights = (
        str(tmp_path / 'zoo' / name) for name in ('tiny.py', 'iter_1.pth')
    )
    assert find_model('tiny') == (config, weights)
    assert find_model('tiny', 'mine.pth') == (config, 'mine.pth')
    found = load_checkpoint('tiny')['state_dict']
    expected = load_checkpoint(weights)['state_dict']
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    # Its weights with a config of one's own.
    gan = VideoGANInferencer(work_dir / 'small.py', 'tiny', device='cpu')
    same = VideoGANInferencer('tiny', device='cpu')
    videos = [each.sample(num_frames=2) for each in (gan, same)]
    assert torch.equal(*videos)


def test_a_path_wins_over_a_name(index, work_dir):
    shutil.copytree(work_dir, 'tiny')
    assert find_model('tiny') == ('tiny/small.py', 'tiny/iter_1.pth')
    shutil.rmtree('tiny')
    torch.save({'state_dict': {'a': torch.ones(1)}}, 'tiny')
    assert load_checkpoint('tiny')['state_dict'].keys() == {'a'}


def test_an_unknown_name_lists_the_known_ones(index, work_dir):
    for fails in (
        lambda: find_model('tyni'),
        lambda: VideoGANInferencer('tyni'),
        lambda: load_checkpoint('tyni'),
        lambda: load_sampler(str(work_dir / 'small.py'), 'tyni'),
    ):
        with pytest.raises(
            InputError, match=r'tyni\b.*(named models:|there is) tiny$'
        ):
            fails()


def test_weights_may_lie_elsewhere(index, work_dir, https_site):
    shutil.copy(work_dir / 'iter_1.pth', https_site.folder / 'tiny.pth')
    index(f'{https_site.url}/tiny.pth')
    expected = VideoGANInferencer(work_dir, device='cpu').sample(num_frames=2)
    for _ in range(2):
        gan = VideoGANInferencer('tiny', device='cpu')
        assert torch.equal(gan.sample(num_frames=2), expected)
    assert https_site.requests == ['/tiny.pth']
    (https_site.folder / 'other.pth').write_bytes(b'other')
    index(f'{https_site.url}/other.pth')
    with pytest.raises(InputError, match='checksum is'):
        VideoGANInferencer('tiny', device='cpu')
