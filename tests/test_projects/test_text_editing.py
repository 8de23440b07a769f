"""Editing by text, with a small CLIP of random weights from local files."""

import json
import math
import pickle
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from small_model import make_work_dir

from projects.text_editing.text_editing.clip import Clip
from projects.text_editing.text_editing.optimize import (
    TextEdit,
    edit_by_text,
    ramp,
)
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.inference import VideoGANInferencer
from stylegan_v_mm.inference.editing import EditReport
from stylegan_v_mm.video.encoding import write_video
from stylegan_v_mm.video.pixels import to_bytes

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / 'projects/text_editing'
CPU = torch.device('cpu')
CONFIG = {
    'embed_dim': 32,
    'vision_cfg': {
        'image_size': 48,
        'layers': 2,
        'width': 32,
        'patch_size': 8,
        'head_width': 16,
    },
    'text_cfg': {
        'context_length': 16,
        'vocab_size': 49408,
        'width': 32,
        'heads': 2,
        'layers': 1,
    },
}
NORMALIZATION = {'mean': [0.5, 0.4, 0.3], 'std': [0.2, 0.3, 0.25]}


class SmallClip(NamedTuple):
    """A CLIP as open_clip has it, and its folder."""

    model: torch.nn.Module
    folder: Path


@pytest.fixture(scope='module')
def small_clip(tmp_path_factory):
    open_clip = pytest.importorskip(
        'open_clip', reason='requirements/tests.txt has open_clip_torch'
    )
    folder = tmp_path_factory.mktemp('clip')
    torch.manual_seed(0)
    model = open_clip.CLIP(**CONFIG).eval()
    # Sharper attention and text, so that all inputs are not alike.
    for param in model.parameters():
        param.data *= 1.5
    config = {'model_cfg': CONFIG, 'preprocess_cfg': NORMALIZATION}
    (folder / 'open_clip_config.json').write_text(json.dumps(config))
    save_file(model.state_dict(), folder / 'open_clip_model.safetensors')
    return SmallClip(model, folder)


@pytest.fixture(scope='module')
def clip(small_clip):
    return Clip(small_clip.folder, 'not used', CPU)


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    return make_work_dir(tmp_path_factory.mktemp('text') / 'model')


@pytest.fixture(scope='module')
def gan(work_dir):
    return VideoGANInferencer(work_dir, device='cpu')


@pytest.fixture
def edit(gan, clip):
    """Edit the video of seed 1; other weights and layers if asked to."""

    def edit(**options):
        settings = TextEdit('a red ball', None, range(2, 8), 20, 0.1, 0, 0, 3)
        latents = gan.latents([1])
        losses = []
        result = edit_by_text(
            gan.sampler,
            latents,
            clip,
            settings._replace(**options),
            20,
            losses.append,
        )
        assert len(losses) == settings.num_steps
        return latents, result

    return edit


def test_frames_are_what_clip_was_trained_on(small_clip, clip):
    """As Pillow resizes and open_clip encodes them."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 6, 3), np.uint8)
    for size, error in ((48, 1e-5), (96, 0.01)):
        image = Image.fromarray(coarse).resize((size, size), 3)
        pixels = np.array(image.resize((48, 48), 3)) / 255
        pixels = (pixels - NORMALIZATION['mean']) / NORMALIZATION['std']
        pixels = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            expected = small_clip.model.encode_image(pixels)
        expected = expected / expected.norm()
        frame = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        found = clip.frames(frame / 127.5 - 1)
        assert (found - expected).abs().max() < error


def test_texts_are_those_of_open_clip(small_clip, clip):
    import open_clip

    tokens = open_clip.SimpleTokenizer(context_length=16)(['a blue star'])
    with torch.no_grad():
        expected = small_clip.model.encode_text(tokens)
    expected = expected / expected.norm()
    assert (clip.texts(['a blue star']) - expected).abs().max() < 1e-5


def test_the_video_comes_to_be_like_the_text_and_keeps_its_motion(gan, edit):
    latents, result = edit(latent_weight=0.008)
    assert result.after > result.before + 0.02
    step = result.ws - latents.ws
    assert (step[:, :2] == 0).all()
    assert step[:, 2:].abs().amax(2).min() > 0.01
    t = gan.times(48)
    report = EditReport()
    report.add(
        *(
            to_bytes(gan.render(ws, latents.motions, t)[0])
            for ws in (latents.ws, result.ws)
        )
    )
    assert report.change.min() > 1
    assert report.motion > 0.9


def test_penalties_keep_the_video_near_to_what_it_was(gan, clip, edit):
    latents, free = edit()
    distances = [(free.ws - latents.ws).norm()]
    for weight in (0.01, 0.1):
        _, result = edit(latent_weight=weight)
        distances.append((result.ws - latents.ws).norm())
    assert distances[0] > 1.5 * distances[1] > 3 * distances[2]

    def likeness(ws):
        frames = gan.render(latents.ws, latents.motions, torch.zeros(1))[0]
        edited = gan.render(ws, latents.motions, torch.zeros(1))[0]
        return float((clip.frames(frames) * clip.frames(edited)).sum())

    _, result = edit(identity_weight=5)
    assert likeness(result.ws) > likeness(free.ws)


def test_the_way_from_a_neutral_text_is_followed(gan, clip, edit):
    latents, result = edit(neutral='a ball')
    way = clip.texts(['a red ball']) - clip.texts(['a ball'])
    t = torch.arange(4.0)
    before, after = (
        clip.frames(gan.render(ws, latents.motions, t)[0])
        for ws in (latents.ws, result.ws)
    )
    assert ((after - before) @ way.T).min() > 0


def test_the_learning_rate_rises_and_falls():
    assert ramp(0) == 0
    assert ramp(0.025) == pytest.approx(0.5)
    assert ramp(0.05) == ramp(0.5) == ramp(0.75) == 1
    assert ramp(0.875) == pytest.approx(0.5)
    assert ramp(1 - 0.25 / 3) == pytest.approx((1 - math.cos(math.pi / 3)) / 2)
    assert ramp(1) == pytest.approx(0)


@pytest.fixture
def script(work_dir, run_script, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(PROJECT))

    def script(weights, *args):
        return run_script(
            PROJECT / 'edit_by_text.py',
            work_dir,
            f'--clip={weights}',
            f'--out={tmp_path / "out"}',
            '--steps=3',
            '--num-frames=5',
            *args,
        )

    return script


def test_prompts_of_a_file_are_edited_in_turn(small_clip, script, tmp_path):
    prompts = tmp_path / 'prompts.yaml'
    prompts.write_text('one: a red ball\ntwo: a star\n')
    args = [f'--prompts={prompts}', '--seed=4', '--num-videos=2']
    result = script(small_clip.folder, *args)
    assert result.returncode == 0, result.stderr
    names = sorted(
        p.relative_to(tmp_path / 'out').as_posix()
        for p in (tmp_path / 'out').rglob('*.*')
    )
    files = ['000004.mp4', '000004_compared.mp4', '000005.mp4']
    files += ['000005_compared.mp4', 'after.safetensors', 'before.safetensors']
    assert names == [f'{a}/{b}' for a in ('one', 'two') for b in files]
    before = load_file(tmp_path / 'out/one/before.safetensors')
    after = load_file(tmp_path / 'out/one/after.safetensors')
    assert (after['ws'] - before['ws']).abs().amax((1, 2)).min() > 1e-3
    assert before['motion_seed'].tolist() == [4, 5]


def test_weights_may_be_a_file(small_clip, script, tmp_path):
    """Of an architecture that open_clip knows by name."""
    import open_clip

    (tmp_path / 'small.json').write_text(json.dumps(CONFIG))
    open_clip.add_model_config(tmp_path / 'small.json')
    weights = tmp_path / 'weights.pt'
    torch.save(small_clip.model.state_dict(), weights)
    args = ['--prompt=a red ball', '--clip-model=small']
    result = script(weights, *args)
    assert result.returncode == 0, result.stderr
    after = load_file(tmp_path / 'out/after.safetensors')
    assert after['ws'].shape == (1, 8, 16)
    result = script(weights, '--prompt=a star', '--clip-model=RN51')
    assert '--clip-model RN51: open_clip has' in result.stderr


class Evil:
    """A pickle that leaves a file where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_wrong_weights_are_one_line(small_clip, script, tmp_path):
    state = small_clip.model.state_dict()
    del state['logit_scale']
    evil = tmp_path / 'evil'
    for name, content in (
        ('open_clip_model.safetensors', b'no weights'),
        ('open_clip_model.safetensors', safetensors.torch.save(state)),
        ('open_clip_pytorch_model.bin', pickle.dumps(Evil(evil), 2)),
    ):
        folder = tmp_path / f'{len(content)}'
        shutil.copytree(small_clip.folder, folder)
        (folder / 'open_clip_model.safetensors').unlink()
        (folder / name).write_bytes(content)
        result = script(folder, '--prompt=a star')
        assert result.returncode == 2
        last = result.stderr.strip().split('\n')[-1]
        assert last.startswith(f'error: {folder} holds no weights of')
    assert not evil.exists()
    result = script(tmp_path / 'none.pt', '--prompt=a star')
    assert 'there is no file' in result.stderr


def test_without_open_clip_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'open_clip', None)
    with pytest.raises(InputError, match=r'pip install .*open_clip_torch'):
        Clip(tmp_path, 'ViT-B-32', CPU)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('- a\n- b', 'must hold lines'),
        ('', 'must hold lines'),
        ('a: [1, 2]', 'is no name for a folder'),
        ('../up: a star', 'is no name for a folder'),
        ('a: !!python/object/apply:os.getcwd []', 'cannot be read'),
        (None, 'cannot be read'),
    ],
)
def test_wrong_prompts_are_named(script, tmp_path, text, message):
    prompts = tmp_path / 'prompts.yaml'
    if text is not None:
        prompts.write_text(text)
    result = script(tmp_path, f'--prompts={prompts}')
    assert result.returncode == 2
    assert f'{prompts}' in result.stderr
    assert message in result.stderr
    assert result.stderr.count('\n') == 1


def test_a_toy_clip_learns_the_names_of_folders(
    small_clip, run_script, tmp_path
):
    """Grey noise with a tint, so that the tint is what there is to learn."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 100, (2, 16, 3, 32, 32), np.uint8)
    for channel, name in ((0, 'red'), (2, 'blue')):
        frames[channel // 2, :, channel] += 100
        (tmp_path / name).mkdir()
        write_video(tmp_path / name / '0.mp4', frames[channel // 2], 25)
    result = run_script(
        PROJECT / 'train_toy_clip.py',
        tmp_path,
        f'--out={tmp_path / "toy"}',
        '--steps=15',
    )
    assert result.returncode == 0, result.stderr
    assert 'a blue thing, a red thing' in result.stdout
    toy = Clip(tmp_path / 'toy', 'not used', CPU)
    texts = toy.texts(['a red thing', 'a blue thing'])
    likeness = toy.frames(torch.from_numpy(frames[:, 3]) / 127.5 - 1) @ texts.T
    assert likeness.argmax(1).tolist() == [0, 1]
