"""Finding models: files, work dirs, the hub."""

import hashlib
import http.server
import json
import shutil
import threading
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from real_process import run_program
from safetensors.torch import save_file
from torch import nn

from stylegan_v_mm.checkpoints.loading import load_checkpoint, load_weights
from stylegan_v_mm.checkpoints.transfer import transfer_weights
from stylegan_v_mm.config import load_config
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.inference import find_model, load_sampler
from stylegan_v_mm.registry import MODELS


@pytest.fixture
def folder(work_dir, tmp_path):
    """A work dir of its own, to be changed."""
    return Path(shutil.copytree(work_dir, tmp_path / 'work'))


def test_a_config_and_a_checkpoint(folder):
    files = str(folder / 'small.py'), str(folder / 'iter_1.pth')
    assert find_model(*files) == files
    assert find_model(files[0], str(folder)) == files
    assert find_model(str(folder)) == files
    assert find_model(str(folder), 'https://x/y.pth').checkpoint == (
        'https://x/y.pth'
    )


def test_a_config_of_another_kind(folder):
    config = folder / 'small.json'
    Config.fromfile(folder / 'small.py').dump(config)
    files = str(config), str(folder / 'iter_1.pth')
    assert find_model(*files) == files
    ours, theirs = load_sampler(*files), load_sampler(*find_model(str(folder)))
    ours, theirs = (each.generator.state_dict() for each in (ours, theirs))
    for name, value in theirs.items():
        assert torch.equal(ours[name], value)


def test_in_a_process_that_has_used_another_library(folder):
    with DefaultScope.overwrite_default_scope('mmengine'):
        sampler = load_sampler(*find_model(str(folder)))
    generator = sampler.generator
    assert not any(module.training for module in generator.modules())
    assert not any(param.requires_grad for param in generator.parameters())


def test_loading_builds_one_generator(folder, monkeypatch):
    built = []
    build = MODELS.build

    def noted(config, *args, **kwargs):
        built.append(config['type'])
        return build(config, *args, **kwargs)

    monkeypatch.setattr(MODELS, 'build', noted)
    sampler = load_sampler(*find_model(str(folder)))
    assert built == ['StyleGANVGenerator']
    # What others do with the file is for them to check.
    config = (folder / 'small.py').read_text()
    config = config.replace('num_frames=3', 'num_frames=5')
    (folder / 'small.py').write_text(config)
    other = load_sampler(*find_model(str(folder)))
    t = torch.arange(2)
    videos = [torch.cat([*x.sample_video(1, t)]) for x in (sampler, other)]
    assert torch.equal(*videos)


def test_a_config_without_a_generator_is_named(folder):
    (folder / 'small.py').write_text(
        "model = dict(type='mmengine.ImgDataPreprocessor')"
    )
    with pytest.raises(InputError, match=r'model\.generator must be a dict'):
        load_sampler(*find_model(str(folder)))


def test_the_newest_checkpoint_or_the_best(folder):
    whole = (folder / 'iter_1.pth').read_bytes()
    (folder / 'iter_20.pth').write_bytes(whole)
    assert find_model(str(folder)).checkpoint.endswith('iter_20.pth')
    # A damaged one does not count.
    (folder / 'iter_30.pth').write_bytes(whole[:1000])
    assert find_model(str(folder)).checkpoint.endswith('iter_20.pth')
    (folder / 'best_FVD16_iter_5.pth').write_bytes(whole)
    assert find_model(str(folder)).checkpoint.endswith('iter_5.pth')


def test_the_best_by_a_metric(folder):
    whole = (folder / 'iter_1.pth').read_bytes()
    rows = [
        ('iter_1', {'FVD16': 90.0, 'ISv16': 3.0}),
        ('iter_2', {'FVD16': 50.0, 'ISv16': 2.0}),
        ('iter_3', {'FVD16': 70.0, 'ISv16': 7.0}),
        ('iter_4', {'FVD16': 10.0, 'ISv16': 9.0}),  # has been removed
    ]
    for name, _ in rows[:3]:
        (folder / f'{name}.pth').write_bytes(whole)
    lines = [
        json.dumps({'checkpoint': f'work_dirs/x/{name}.pth', **values})
        for name, values in rows
    ]
    (folder / 'metrics.jsonl').write_text('\n'.join(lines))

    def best(metric):
        return Path(find_model(str(folder), metric=metric).checkpoint).stem

    assert best('FVD16') == 'iter_2'
    assert best('ISv16') == 'iter_3'
    with pytest.raises(InputError, match=r'no KID.*FVD16, ISv16.*test\.py'):
        best('KID')
    (folder / 'metrics.jsonl').unlink()
    with pytest.raises(InputError, match=r'metrics\.jsonl.*test\.py'):
        best('FVD16')


def test_what_is_not_there_is_named(folder, tmp_path, monkeypatch):
    with pytest.raises(InputError, match='there is no folder nowhere'):
        find_model('nowhere')
    with pytest.raises(InputError, match='is a config: give a checkpoint'):
        find_model(str(folder / 'small.py'))
    (folder / 'other.py').touch()
    with pytest.raises(InputError, match='holds 2 configs'):
        find_model(str(folder))
    empty = tmp_path / 'empty'
    empty.mkdir()
    with pytest.raises(InputError, match='holds 0 configs'):
        find_model(str(empty))
    with pytest.raises(InputError, match='holds 0 checkpoints'):
        find_model(str(folder / 'small.py'), str(empty))


class Hub(http.server.BaseHTTPRequestHandler):
    """The little of the hub's protocol that a download takes."""

    files: dict[str, bytes]

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        name = self.path.split('/')[-1]
        if self.path.startswith('/api/models/lab/gan'):
            siblings = [{'rfilename': name} for name in self.files]
            about = {'id': 'lab/gan', 'sha': '1' * 40, 'siblings': siblings}
            content = json.dumps(about).encode()
        elif self.path.startswith('/lab/gan/resolve/'):
            content = self.files[name]
        else:
            self.send_response(404)
            self.send_header('X-Error-Code', 'RepoNotFound')
            self.send_header('Content-Length', '0')
            self.end_headers()
            return
        self.send_response(200)
        self.send_header('Content-Length', str(len(content)))
        self.send_header('ETag', f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header('X-Repo-Commit', '1' * 40)
        self.end_headers()
        if self.command == 'GET':
            self.wfile.write(content)

    def log_message(self, *args):
        pass


# The client reads its environment when it is imported.
ANEW = """
import sys
for name in [*sys.modules]:
    if name.partition('.')[0] == 'huggingface_hub':
        del sys.modules[name]
"""
SCRIPT = """
import sys
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.inference import VideoGANInferencer
gan = VideoGANInferencer('lab/gan', device='cpu')
print(int(gan.sample(seeds=[3], num_frames=4).int().sum()))
try:
    VideoGANInferencer('lab/nothing')
except InputError as error:
    print(error)
"""


def test_a_model_of_the_hub(inferencer, work_dir, tmp_path):
    """The hub's real client, against a server on this machine."""
    pytest.importorskip('huggingface_hub')
    names = ('small.py', 'iter_1.pth')
    Hub.files = {name: (work_dir / name).read_bytes() for name in names}
    Hub.files['README.md'] = b'# A model'
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def run():
        return run_program(
            SCRIPT,
            tmp_path,
            before=ANEW,
            HF_ENDPOINT=f'http://127.0.0.1:{server.server_port}',
            HF_HOME=str(tmp_path / 'hub'),
        )

    try:
        result = run()
    finally:
        server.shutdown()
        server.server_close()
    assert result.returncode == 0, result.stderr
    total, error = result.stdout.splitlines()
    expected = inferencer.sample(seeds=[3], num_frames=4)
    assert abs(int(total) - int(expected.int().sum())) < 20
    assert 'there is no folder lab/nothing' in error
    found = {path.name for path in (tmp_path / 'hub').rglob('*.*')}
    assert {*names} <= found
    assert 'README.md' not in found
    # Without the hub, what has been downloaded is enough.
    assert run().stdout.splitlines()[0] == total


# Weights in other shapes than a training run writes


def wrapped(weights, *parts):
    """Put parts into names, as DistributedDataParallel and compiling do."""
    for part in parts:
        weights = {f'{part}.{name}': value for name, value in weights.items()}
    return weights


def within(weights, network, part):
    """Put a part into the names of one network."""
    return {
        name.replace(f'{network}.', f'{network}.{part}.', 1): value
        for name, value in weights.items()
    }


def network(weights, name):
    """The state dict of one network."""
    return {
        key.removeprefix(f'{name}.'): value
        for key, value in weights.items()
        if key.startswith(f'{name}.')
    }


NETWORKS = ('generator', 'generator_ema', 'discriminator')
FILES = {
    'bare': lambda w: w,
    'DDP': lambda w: {'state_dict': wrapped(w, 'module'), 'meta': {}},
    'compiled': lambda w: wrapped(w, '_orig_mod'),
    'DDP of compiled': lambda w: wrapped(w, '_orig_mod', 'module'),
    'compiled DDP': lambda w: {'model': wrapped(w, 'module', '_orig_mod')},
    'a compiled network': lambda w: within(w, 'generator_ema', '_orig_mod'),
    'a compiled part': lambda w: within(w, 'synthesis', '_orig_mod.module'),
    'the average': lambda w: network(w, 'generator_ema'),
    'the average, wrapped': lambda w: {
        'state_dict': wrapped(network(w, 'generator_ema'), 'module')
    },
    'the average, by name': lambda w: {
        'iteration': 3, 'generator_ema': network(w, 'generator_ema')
    },
    'the average, by its published name': lambda w: {
        'G_ema': wrapped(network(w, 'generator_ema'), '_orig_mod')
    },
    'without the generator': lambda w: {
        name: value for name, value in w.items()
        if not name.startswith('generator.')
    },
    'published names': lambda w: {
        name.replace('generator_ema', 'G_ema').replace('generator', 'G')
        .replace('discriminator', 'D'): value for name, value in w.items()
    },
    'networks apart': lambda w: {
        'state_dict': {name: network(w, name) for name in NETWORKS}
        | {'pl_mean': w['pl_mean'], 'iteration': w['iteration'],
           'frames_seen': w['frames_seen']}
    },
}  # fmt: skip


# A .safetensors file holds tensors alone.
FLAT = (
    'bare', 'compiled', 'a compiled network', 'the average',
    'without the generator',
)  # fmt: skip


@pytest.mark.parametrize(
    ('kind', 'suffix'),
    [(kind, 'pth') for kind in FILES]
    + [(kind, 'safetensors') for kind in FLAT],
)
def test_weights_as_others_save_them(
    kind, suffix, work_dir, inferencer, tmp_path
):
    saved = torch.load(work_dir / 'iter_1.pth', weights_only=True)
    content = FILES[kind](saved['state_dict'])
    file = tmp_path / f'a.{suffix}'
    if suffix == 'pth':
        torch.save(content, file)
    else:
        save_file(content, file)
    expected = inferencer.sampler.generator.state_dict()
    sampler = load_sampler(str(work_dir / 'small.py'), str(file))
    for name, value in sampler.generator.state_dict().items():
        assert torch.equal(value, expected[name]), name
    # The same as where a run starts from it.
    torch.manual_seed(1)
    fresh = MODELS.build(load_config(str(work_dir / 'small.py')).model)
    transfer_weights(fresh, load_checkpoint(str(file)), str(file))
    for name, value in fresh.generator_ema.named_parameters():
        assert torch.equal(value, expected[name]), name


def test_average_and_discriminator_alone(work_dir, tmp_path, capfd):
    weights = load_checkpoint(work_dir / 'iter_1.pth')['state_dict']
    kept = {
        name: value.half() if value.is_floating_point() else value
        for name, value in weights.items()
        if name.startswith(('generator_ema.', 'discriminator.'))
    }
    torch.manual_seed(1)
    gan = MODELS.build(load_config(str(work_dir / 'small.py')).model)
    before = {name: x.clone() for name, x in gan.state_dict().items()}
    load_weights(gan, {'state_dict': kept}, 'x.pth')
    for name, value in gan.state_dict().items():
        assert value.dtype == weights[name].dtype
        expected = kept[name] if name in kept else before[name]
        assert torch.equal(value, expected.to(value.dtype)), name
    # That something is not there is no news.
    assert capfd.readouterr() == ('', '')
    lacking = {k: v for k, v in kept.items() if 'generator_ema.b4' not in k}
    lacking.pop('discriminator.b4.fc.weight')
    for content, words in (
        (lacking, 'lacks discriminator.b4.fc.weight'),
        (kept | {'critic.weight': torch.ones(1)}, 'extra critic.weight'),
        ({'discriminator.b4.fc.bias': torch.ones(1)}, 'differences'),
    ):
        with pytest.raises(InputError, match=f'another arch.*{words}'):
            load_weights(gan, {'state_dict': content}, 'x.pth')


def test_a_network_that_has_such_a_name_itself():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(1, 1)

    source, target = Twice(), Twice()
    load_weights(target, {'state_dict': source.state_dict()}, 'x.pth')
    assert torch.equal(target.module.weight, source.module.weight)
    weights = wrapped(source.state_dict(), 'module')
    with pytest.raises(InputError, match=r'x\.pth has another architecture'):
        load_weights(target, {'state_dict': weights}, 'x.pth')
