"""Published snapshots, read and converted."""

import io
import os
import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import ROOT, golden_file
from published_pickle import Call, publish
from small_model import load_whole

from stylegan_v_mm.checkpoints.loading import load_checkpoint
from stylegan_v_mm.checkpoints.snapshot_conversion import convert_snapshot
from stylegan_v_mm.checkpoints.snapshots import read_snapshot
from stylegan_v_mm.checkpoints.transfer import transfer_weights
from stylegan_v_mm.config import load_config
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.models import StyleGANV
from stylegan_v_mm.registry import MODELS

SIZES = dict(resolution=16, channel_base=128, channel_max=8, conv_clamp=None)
LSTM = dict(motion_type='lstm', fourier=False, cond_type='concat_w')
CONFIG = {
    'sampling': {
        'type': 'random',
        'num_frames_per_video': 3,
        'max_num_frames': 64,
        'fps': '${dataset.fps}',
    },
    'dataset': {'fps': 12},
    'model': {
        'generator': {
            'sampling': '${sampling}',
            'motion': {
                'z_dim': 5,
                'v_dim': 8,
                'motion_z_distance': '${model.generator.time_enc'
                '.min_period_len}',
                'gen_strategy': 'conv',
                'kernel_size': 3,
                'fourier': True,
            },
            'time_enc': {
                'cond_type': 'concat_const',
                'dim': 4,
                'min_period_len': 8,
                'max_period_len': '${sampling.max_num_frames}',
            },
        },
        'discriminator': {
            'sampling': '${sampling}',
            'concat_res': 8,
            'num_frames_div_factor': 2,
            'dummy_c': False,
        },
    },
}


def video_gan(generator=None, discriminator=None, augment='bg', **sizes):
    """A small GAN that fits CONFIG, all of whose tensors matter."""
    sizes = SIZES | sizes
    gan = StyleGANV(
        dict(type='StyleGANVGenerator', z_dim=6, w_dim=7, motion_v_dim=8)
        | dict(motion_z_dim=5, motion_kernel_size=3, motion_z_distance=8)
        | dict(time_enc_dim=4, min_period_len=8, max_period_len=64)
        | sizes
        | (generator or {}),
        discriminator
        or dict(type='StyleGANVDiscriminator', concat_res=8)
        | dict(max_num_frames=64, time_embed_dim=6)
        | sizes,
        r1_gamma=1,
        augment=dict(type='VideoAugment', pipeline=augment, p=0.25),
    ).eval()
    for name, value in gan.state_dict().items():
        if name.endswith(('weight', 'bias', 'w_avg', 'noise_strength')):
            value.add_(torch.randn_like(value) / 3)
    return gan


def convert(source, out, overwrite=False):
    return convert_snapshot(source, out, ROOT, overwrite)


def refused(source, out, *words):
    """Check that a conversion ends in one line, which names the source."""
    with pytest.raises(InputError) as error:
        convert(source, out)
    assert '\n' not in str(error.value)
    for word in (*words, source):
        assert str(word) in str(error.value)


def check_outputs(gan, **expected):
    """Compare the networks with arrays of what they shall give."""
    given = {k: torch.as_tensor(v) for k, v in expected.items()}
    with torch.no_grad():
        videos = gan.generator_ema(
            given['z'], given['c'], given['t'], given['motion_z']
        )
        logits = gan.discriminator(
            given['frames'][None], given['c'], given['t']
        )
    frames = videos.flatten(0, 1)
    assert (frames - given['frames']).abs().max() < 1e-4
    assert (logits - given['logits_frames']).abs().max() < 1e-4


@pytest.mark.parametrize('c_dim', [0, 3])
def test_a_snapshot_comes_back_as_it_was(c_dim, tmp_path):
    gan = video_gan(c_dim=c_dim)
    marker = tmp_path / 'executed'
    source, out = tmp_path / 'a.pkl', tmp_path / 'a.pth'
    publish(
        gan,
        source,
        CONFIG,
        code=f'open({str(marker)!r}, "w")',
        stats={'cur_nimg': 5000, 'batch_idx': 17},
    )
    rows = convert(source, out)
    assert not marker.exists()
    assert rows['augmentation'] == 'bg, p = 0.25'
    assert rows['trained'] == '5 kimg'
    assert rows['motion_period'] == '8'
    assert rows['num_classes'] == str(c_dim)

    loaded = load_whole(out.with_suffix('.py'), out)
    theirs = loaded.state_dict()
    ours = gan.state_dict() | dict(iteration=17, frames_seen=5000)
    assert theirs.keys() == ours.keys()
    for name, value in ours.items():
        assert torch.equal(theirs[name], torch.as_tensor(value)), name
    t = torch.tensor([[0, 5, 30.5]])
    c = torch.eye(3)[:1] if c_dim else torch.empty(1, 0)
    z, motion_z = torch.randn(1, 6), torch.randn(1, 10, 5)
    with torch.no_grad():
        videos = gan.generator_ema(z, c, t, motion_z)
        logits = gan.discriminator(videos, c, t)
    check_outputs(
        loaded,
        z=z,
        c=c,
        t=t,
        motion_z=motion_z,
        frames=videos[0],
        logits_frames=logits,
    )
    config = load_config(str(out.with_suffix('.py')))
    assert config.fps == 12
    assert config.train_dataloader.dataset.data_root == 'data/x.zip'


def test_generate_takes_what_comes_out(tmp_path, run_script):
    source, out = tmp_path / 'a.pkl', tmp_path / 'a.pth'
    publish(video_gan(), source, CONFIG)
    convert(source, out)
    args = [out.with_suffix('.py'), out, '--num-frames=4', '--out']
    result = run_script(ROOT / 'tools/generate.py', *args, tmp_path / 'a.mp4')
    assert result.returncode == 0, result.stderr
    assert (tmp_path / 'a.mp4').stat().st_size > 0


def test_the_same_bytes_and_nothing_overwritten(tmp_path):
    source, out = tmp_path / 'a.pkl', tmp_path / 'a.pth'
    publish(video_gan(), source, CONFIG)
    convert(source, out)
    before = out.read_bytes()
    with pytest.raises(InputError, match=f'{out} exists: --overwrite'):
        convert(source, out)
    out.unlink()
    config = out.with_suffix('.py')
    with pytest.raises(InputError, match=f'{config} exists: --overwrite'):
        convert(source, out)
    convert(source, out, overwrite=True)
    assert out.read_bytes() == before


def test_the_average_alone_is_enough(tmp_path):
    gan = video_gan()
    source, out = tmp_path / 'a.pkl', tmp_path / 'a.pth'
    publish(gan, source, CONFIG, G=None, D=None, augment_pipe=None)
    assert 'at random' in convert(source, out)['without D']
    loaded = load_whole(out.with_suffix('.py'), out)
    assert loaded.augment is None
    for network in ('generator', 'generator_ema'):
        theirs = getattr(loaded, network).state_dict()
        for name, value in gan.generator_ema.state_dict().items():
            assert torch.equal(theirs[name], value), name


def test_the_baseline_with_lstm_codes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from projects.mocogan_sg2.mocogan_sg2 import MoCoGANDiscriminator

    gan = video_gan(
        dict(LSTM, motion_z_distance=1),
        dict(
            type=MoCoGANDiscriminator.__name__,
            num_frames=16,
            video_channels=3,
            image_discr=dict(type='StyleGANVDiscriminator', num_frames=1)
            | dict(concat_res=8, num_frames_div_factor=1, **SIZES),
        ),
    )
    cfg = CONFIG | {
        'sampling': CONFIG['sampling']
        | {'num_frames_per_video': 16, 'type': 'uniform'},
        'model': {
            'generator': {
                'sampling': '${sampling}',
                'motion': {
                    'z_dim': 5,
                    'v_dim': 8,
                    'motion_z_distance': 1,
                    'gen_strategy': 'autoregressive',
                    'fourier': False,
                },
                'time_enc': {'cond_type': 'concat_w'},
            },
            'discriminator': {
                'sampling': '${sampling}',
                'concat_res': -1,
                'video_discr_num_t_paddings': 0,
            },
        },
    }
    source, out = tmp_path / 'a.pkl', tmp_path / 'a.pth'
    publish(gan, source, cfg)
    convert(source, out)
    loaded = load_whole(out.with_suffix('.py'), out)
    assert loaded.state_dict().keys() == gan.state_dict().keys()
    for name, value in gan.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    z, t = torch.randn(2, 6), torch.tensor([[0.0, 3]]).expand(2, 2)
    motion_z = torch.randn(2, 6, 5)
    with torch.no_grad():
        ours = gan.generator_ema(z, None, t, motion_z)
        theirs = loaded.generator_ema(z, None, t, motion_z)
    assert torch.equal(ours, theirs)


def image_gan(use_noise):
    return video_gan(
        dict(motion_v_dim=0, mapping_layers=4, use_noise=use_noise),
        dict(type='StyleGANVDiscriminator', concat_res=8, num_frames=1)
        | dict(num_frames_div_factor=1, **SIZES),
    )


def test_the_published_snapshot_of_images(tmp_path):
    """The code in the file raises if it is run."""
    source = golden_file('image-network-snapshot.pkl')
    out = tmp_path / 'images.pth'
    convert(source, out)
    gan = load_whole(out.with_suffix('.py'), out)
    with np.load(golden_file(source.stem + '_expected.npz')) as file:
        expected = {k: torch.from_numpy(file[k]) for k in file.files}

    def check(ours, name):
        assert (ours - expected[name]).abs().max() < 1e-4, name

    z, t = expected['z'], torch.zeros(4, 1)
    with torch.no_grad():
        check(gan.generator_ema.map(z), 'ws')
        images = gan.generator_ema(z, None, t)
        check(images[:, 0], 'images')
        logits = gan.discriminator(expected['images'][:, None], None, t)
        check(logits[:, None], 'logits')
        gan.generator_ema.synthesis.noise_mode = 'none'
        check(gan.generator_ema(z, None, t)[:, 0], 'images_none')

    # And it starts a model of videos, whose frames are its pictures.
    config = load_config(str(out.with_stem('images_video').with_suffix('.py')))
    target = MODELS.build(config.model).eval()
    transfer_weights(target, load_checkpoint(str(out)), str(out))
    with torch.no_grad():
        t = torch.rand(4, 3) * 100
        videos = target.generator_ema(z, None, t)
    assert (videos - expected['images'][:, None]).abs().max() < 1e-4


@pytest.mark.parametrize('use_noise', [False, True])
def test_an_image_gan_comes_back_and_starts_a_video_gan(
    use_noise, tmp_path, run_script
):
    gan = image_gan(use_noise)
    source, out = tmp_path / 'a.pkl', tmp_path / 'a.pth'
    publish(gan, source, image_names=True)
    assert convert(source, out)['kind'] == 'StyleGAN2-ADA'
    assert {path.name for path in tmp_path.iterdir()} == {
        'a.pkl',
        'a.pth',
        'a.py',
        'a_video.py',
    }
    config = load_config(str(tmp_path / 'a.py'))
    assert config.images
    assert config.data_root == 'data/x.zip'
    loaded = load_whole(tmp_path / 'a.py', out).state_dict()
    assert loaded.keys() == gan.state_dict().keys()
    for name, value in gan.state_dict().items():
        assert torch.equal(loaded[name], value), name
    args = [tmp_path / 'a.py', out, '--num-frames=1', '--format=png', '--out']
    made = run_script(ROOT / 'tools/generate.py', *args, tmp_path / 'pictures')
    assert made.returncode == 0, made.stderr

    config = load_config(str(tmp_path / 'a_video.py'))
    assert not config.images
    assert config.data_root == 'data/ucf101'
    target = MODELS.build(config.model).eval()
    transfer_weights(target, load_checkpoint(str(out)), str(out))
    z = torch.randn(2, 6)
    t = torch.tensor([[0, 2, 40.5]] * 2)
    with torch.no_grad():
        for network in ('generator_ema', 'generator'):
            # Whatever the motion is, each frame is the picture.
            videos = getattr(target, network)(z, None, t)
            images = getattr(gan, network)(z, None, t)
            assert videos.shape == (2, 3, 3, 16, 16)
            assert (videos - images).abs().max() < 1e-4
    assert images[0].std() > 0.1
    theirs = target.discriminator.state_dict()
    for name in ('b16.fromrgb.weight', 'b16.conv0.weight', 'b4.fc.weight'):
        ours = gan.discriminator.state_dict()[name]
        assert torch.equal(theirs[name], ours), name


def test_a_config_for_videos_is_not_overwritten(tmp_path):
    source, out = tmp_path / 'a.pkl', tmp_path / 'a.pth'
    publish(image_gan(False), source, image_names=True)
    kept = tmp_path / 'a_video.py'
    kept.touch()
    refused(source, out, kept, '--overwrite')
    assert set(tmp_path.iterdir()) == {source, kept}
    convert(source, out, overwrite=True)
    assert kept.stat().st_size > 0


def test_noise_of_a_video_gan_and_codes_of_another_width(tmp_path):
    gan = video_gan(dict(use_noise=True, motion_v_dim=9))
    generator = CONFIG['model']['generator']
    motion = generator['motion'] | {'v_dim': 9}
    generator = generator | {'motion': motion, 'use_noise': True}
    cfg = CONFIG | {'model': CONFIG['model'] | {'generator': generator}}
    source, out = tmp_path / 'a.pkl', tmp_path / 'a.pth'
    publish(gan, source, cfg)
    convert(source, out)
    loaded = load_whole(out.with_suffix('.py'), out).state_dict()
    assert loaded.keys() == gan.state_dict().keys()
    for name, value in gan.state_dict().items():
        assert torch.equal(loaded[name], value), name


def zip_bomb_in_a_storage():
    """A storage in PyTorch's zip format, of a kilobyte for a megabyte."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data.pkl', pickle.dumps(None, 2))
        archive.writestr('archive/data/0', bytes(2**20))
    return stream.getvalue()


def storage(payload):
    """A snapshot whose generator has a tensor of that storage."""
    return Call(
        torch._utils._rebuild_tensor_v2,
        Call(torch.storage._load_from_bytes, payload),
        0,
        (1,),
        (1,),
        False,
        {},
    )


ATTACKS = {
    'system': (Call(os.system, 'touch executed'), 'posix.system'),
    'reduce in a storage': (
        storage(pickle.dumps(Call(os.system, 'touch executed'), 2)),
        'posix.system',
    ),
    'zip bomb': (storage(zip_bomb_in_a_storage()), 'fc0.weight'),
    'cut': (None, 'cut off'),
}


@pytest.mark.parametrize('attack', ATTACKS)
def test_attacks_are_refused(attack, tmp_path, monkeypatch):
    """One line, nothing run, nothing written."""
    monkeypatch.chdir(tmp_path)
    source = tmp_path / 'a.pkl'
    bad, words = ATTACKS[attack]
    gan = video_gan()
    if bad is not None:
        gan.generator_ema.mapping.fc0._parameters['weight'] = bad
    publish(gan, source, CONFIG)
    if bad is None:
        os.truncate(source, source.stat().st_size // 2)
    refused(source, Path('out.pth'), words)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'', 'empty'),
        (b'PK\x03\x04rest', 'zip'),
        (b'\x1f\x8b\x08rest', 'gunzip'),
        (b'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull'),
        (b'\n<!DOCTYPE html><html>', 'web page'),
        (b'cos\nsystem\n(S"touch executed"\ntR.', 'os.system'),
        (pickle.dumps([1, 2]), 'G_ema'),
        (pickle.dumps({'G_ema': 3}), 'network'),
    ],
)
def test_other_files_are_named(content, words, tmp_path):
    source = tmp_path / 'a.pkl'
    source.write_bytes(content)
    refused(source, tmp_path / 'a.pth', words)
    assert list(tmp_path.iterdir()) == [source]
    refused(tmp_path / 'b.pkl', tmp_path / 'a.pth')


@pytest.mark.parametrize(
    ('section', 'key', 'value', 'words'),
    [
        ('motion', 'kernel_size', 2**30, 'differences'),
        ('motion', 'kernel_size', 5, 'conv.0.weight is [5, 5, 3]'),
        ('motion', 'z_dim', None, 'cfg.motion.z_dim'),
        ('motion', 'gen_strategy', 'dream', 'autoregressive'),
        ('motion', 'motion_z_distance', '${nowhere}', 'motion_z_distance'),
        ('time_enc', 'cond_type', "'); import os", 'cond_type'),
        ('time_enc', 'min_period_len', 9, 'freqs'),
    ],
)
def test_settings_that_the_tensors_contradict(
    section, key, value, words, tmp_path
):
    generator = CONFIG['model']['generator']
    changed = generator | {section: generator[section] | {key: value}}
    if key == 'min_period_len':
        changed['motion'] = generator['motion'] | {'motion_z_distance': 8}
    cfg = CONFIG | {'model': CONFIG['model'] | {'generator': changed}}
    source = tmp_path / 'a.pkl'
    publish(video_gan(), source, cfg)
    refused(source, tmp_path / 'a.pth', words)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    'path',
    ["'); import os; os.system('touch executed')", '= 2**99', '{{ x }}'],
)
def test_a_path_is_no_code(path, tmp_path):
    source, out = tmp_path / 'a.pkl', tmp_path / 'a.pth'
    kwargs = {'path': path}
    publish(video_gan(), source, CONFIG, training_set_kwargs=kwargs)
    convert(source, out)
    config = load_config(str(out.with_suffix('.py')))
    assert config.data_root == 'data/ucf101'


def test_mutations_are_read_or_refused(tmp_path):
    source = tmp_path / 'a.pkl'
    publish(video_gan(), source, CONFIG)
    original = source.read_bytes()
    draw = random.Random(0)
    outcomes = {'read': 0, 'refused': 0}
    for _ in range(150):
        content = bytearray(original)
        for _ in range(draw.choice([1, 3, 10])):
            content[draw.randrange(len(content))] = draw.randrange(256)
        if draw.random() < 0.3:
            del content[draw.randrange(len(content)) :]
        source.write_bytes(content)
        try:
            read_snapshot(source)
            outcomes['read'] += 1
        except InputError:
            outcomes['refused'] += 1
    assert min(outcomes.values()) > 10, outcomes
