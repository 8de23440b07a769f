"""tools/model_converters/convert_safetensors.py, and what takes its files."""

import pytest
import torch
from golden import ROOT
from safetensors import safe_open
from safetensors.torch import load_file
from small_model import load_whole

from stylegan_v_mm.checkpoints.loading import load_checkpoint
from stylegan_v_mm.checkpoints.transfer import transfer_weights
from stylegan_v_mm.config import load_config
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.inference import VideoGANInferencer, load_sampler
from stylegan_v_mm.registry import MODELS


@pytest.fixture
def convert(run_script):
    def convert(*args):
        path = ROOT / 'tools/model_converters/convert_safetensors.py'
        return run_script(path, *args)

    return convert


def same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


def test_there_and_back(job, tmp_path, convert):
    out, back = tmp_path / 'new/a.safetensors', tmp_path / 'b.pth'
    assert convert(job.checkpoint, out).returncode == 0
    weights = load_checkpoint(job.checkpoint)['state_dict']
    same(load_file(out), weights)
    with safe_open(out, 'pt') as file:
        assert file.metadata() == {'format': 'pt'}
    assert convert(out, back).returncode == 0
    same(torch.load(back, weights_only=True)['state_dict'], weights)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['b.pth', 'new']


def test_videos_are_those_of_the_checkpoint(job, tmp_path, convert):
    whole, average = tmp_path / 'a.safetensors', tmp_path / 'b.safetensors'
    assert convert(job.checkpoint, whole).returncode == 0
    assert convert(job.checkpoint, average, '--ema-only').returncode == 0
    assert average.stat().st_size < whole.stat().st_size / 2
    videos = [
        torch.cat([*load_sampler(job.config, str(path)).sample_video(3, t)])
        for path in (job.checkpoint, whole, average)
        for t in [torch.arange(4)]
    ]
    assert torch.equal(videos[0], videos[1])
    assert torch.equal(videos[0], videos[2])


def test_the_average_alone_starts_a_run(job, tmp_path, convert):
    average = tmp_path / 'a.safetensors'
    assert convert(job.checkpoint, average, '--ema-only').returncode == 0
    model = MODELS.build(load_config(job.config).model)
    before = model.discriminator.state_dict()['b4.fc.weight'].clone()
    table = transfer_weights(model, load_checkpoint(average), 'a')
    assert 'generator_ema.mapping' in table
    source = load_sampler(job.config, str(job.checkpoint)).generator
    same(model.generator.state_dict(), source.state_dict())
    same(model.generator_ema.state_dict(), source.state_dict())
    assert torch.equal(model.discriminator.b4.fc.weight, before)


@pytest.fixture
def small(job, tmp_path, convert):
    """All that is worth keeping of a checkpoint, in float16."""
    path = tmp_path / 'small.safetensors'
    result = convert(job.checkpoint, path, '--no-generator', '--half')
    assert result.returncode == 0, result.stderr
    return path


def test_half_of_a_checkpoint_in_half(job, small):
    whole = load_checkpoint(job.checkpoint)['state_dict']
    kept = load_file(small)
    assert {*whole} - {*kept} == {
        name for name in whole if name.startswith('generator.')
    }
    for name, value in kept.items():
        exact = '.motion_encoder.' in name or name.count('.') < 2
        exact |= name.endswith('fourier_coefs')
        assert value.dtype == whole[name].dtype if exact else torch.float16
        torch.testing.assert_close(
            value.to(whole[name].dtype),
            whole[name],
            rtol=0 if exact else 2**-11,
            atol=0 if exact else 1e-7,
        )


@pytest.mark.parametrize('start', [0, 1e6])
def test_videos_of_half_the_precision_are_the_same(start, job, small):
    videos = [
        VideoGANInferencer(job.config, path, 'cpu').sample(
            8, 4, time_offset=start
        )
        for path in (job.checkpoint, small)
    ]
    whole, half = (video.int() for video in videos)
    assert (whole - half).abs().max() <= 1
    assert whole.float().std() > 5


def test_it_starts_both_networks_of_a_run(job, small):
    model = MODELS.build(load_config(job.config).model)
    transfer_weights(model, load_checkpoint(small), 'small')
    source = load_whole(job.config, small)
    same(model.generator.state_dict(), source.generator_ema.state_dict())
    same(model.generator_ema.state_dict(), source.generator_ema.state_dict())
    same(model.discriminator.state_dict(), source.discriminator.state_dict())
    whole = load_whole(job.config, job.checkpoint)
    for name, value in whole.discriminator.named_parameters():
        found = source.discriminator.get_parameter(name)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, value, rtol=2**-11, atol=1e-7)


def test_what_float16_cannot_hold_is_named(job, tmp_path, convert):
    weights = load_checkpoint(job.checkpoint)['state_dict']
    weights['discriminator.b4.fc.weight'][0, 0] = 7e4
    torch.save(weights, tmp_path / 'a.pth')
    out = tmp_path / 'a.safetensors'
    result = convert(tmp_path / 'a.pth', out, '--half')
    assert result.returncode == 2
    assert 'discriminator.b4.fc.weight has values beyond' in result.stderr
    assert not out.exists()


def test_another_architecture_is_named(job, tmp_path, convert):
    average = tmp_path / 'a.safetensors'
    assert convert(job.checkpoint, average, '--ema-only').returncode == 0
    options = {'model.generator.w_dim': 6}
    with pytest.raises(InputError, match='another architecture'):
        load_sampler(job.config, str(average), options=options)


@pytest.mark.parametrize('damage', ['cut', 'empty', 'header'])
def test_damaged_files_are_named(damage, job, tmp_path, convert):
    path = tmp_path / 'a.safetensors'
    assert convert(job.checkpoint, path).returncode == 0
    content = path.read_bytes()
    path.write_bytes(
        {
            'cut': content[:-1],
            'empty': b'',
            'header': b'\xff' * 8 + content[8:],
        }[damage]
    )
    with pytest.raises(InputError, match=r'a\.safetensors'):
        load_checkpoint(str(path))


def test_bad_arguments(job, tmp_path, convert):
    out = tmp_path / 'a.safetensors'
    for args, words in (
        ([tmp_path / 'no.pth', out], 'no.pth'),
        ([job.checkpoint, tmp_path / 'a.bin'], '.safetensors or .pth'),
        ([job.config, out], job.config.name),
    ):
        result = convert(*args)
        assert result.returncode == 2
        (line,) = result.stderr.splitlines()
        assert words in line
        assert not out.exists()
    out.write_bytes(b'mine')
    assert '--overwrite' in convert(job.checkpoint, out).stderr
    assert out.read_bytes() == b'mine'
    assert convert(job.checkpoint, out, '--overwrite').returncode == 0
    assert len(load_file(out)) > 100
