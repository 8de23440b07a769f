"""model-index.yml and what it names, as mim and OpenMMLab's tools read it."""

import pytest
import yaml
from real_process import ROOT

from stylegan_v_mm.config import load_config

CONFIGS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / 'configs/stylegan_v').glob('*.py')
)


def read(path):
    return yaml.safe_load((ROOT / path).read_text())


INDEX = [read(path) for path in read('model-index.yml')['Import']]
MODELS = [model for index in INDEX for model in index['Models']]


def test_every_config_is_listed_once():
    assert sorted(model['Config'] for model in MODELS) == CONFIGS
    assert len({model['Name'] for model in MODELS}) == len(MODELS)


def test_models_are_of_collections_with_a_readme():
    for index in INDEX:
        collections = {each['Name']: each for each in index['Collections']}
        for model in index['Models']:
            assert model['In Collection'] in collections
        for collection in collections.values():
            assert (ROOT / collection['README']).is_file()


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model['Name'])
def test_metadata_are_those_of_the_config(model):
    config = load_config(ROOT / model['Config'])
    about = model['Metadata']
    assert about['Resolution'] == config.resolution
    assert about['Frames'] == config.num_frames
    assert about['Batch Size'] == config.batch_size


def test_there_are_no_weights_and_results_are_those_of_the_paper():
    for model in MODELS:
        assert 'Weights' not in model
        for result in model.get('Results', []):
            assert result.keys() == {'Task', 'Dataset', 'Metrics'}
            assert all(name.endswith(' paper') for name in result['Metrics'])
