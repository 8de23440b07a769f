"""Shards: one stream for any number of processes, from disk and by http."""

import io
import shutil
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from planted import scenery, write
from real_process import ROOT, run_tool
from torch.utils.data import DataLoader

from stylegan_v_mm.datasets import ClipSampler, ShardDataset, collate_clips
from stylegan_v_mm.datasets import shards as module
from stylegan_v_mm.datasets.shards import expand_braces, list_shards
from stylegan_v_mm.errors import InputError

PIPELINE = [
    dict(type='SampleClip', num_frames=3, max_dist=8, num_gen=2),
    dict(type='LoadClip'),
    dict(type='ResizeCrop', resolution=16),
    dict(type='FlipClip'),
    dict(type='PackClip'),
]


@pytest.fixture(scope='module')
def packed(tmp_path_factory):
    """Eight videos in four shards, made by the tool."""
    folder = tmp_path_factory.mktemp('shards')
    for seed in range(8):
        write(folder / f'clips/{seed}.mp4', scenery(seed, 24, 32, 32))
    size = max(x.stat().st_size for x in (folder / 'clips').iterdir())
    args = folder / 'clips', folder / 'tars', f'--megabytes={2.5e-6 * size}'
    result = run_tool('dataset_converters/pack_shards.py', *args)
    assert result.returncode == 0, result.stderr
    assert len(list_shards(folder / 'tars')) >= 3
    return folder / 'tars'


@pytest.fixture
def make(packed, tmp_path):
    def make(shards=packed, cache='cache', **options):
        options = dict(clips_per_shard=5, shards_at_once=2) | options
        return ShardDataset(
            shards, PIPELINE, cache=tmp_path / cache, **options
        )

    return make


def stream(dataset, count, start=0, **options):
    """Return the first clips of a stream of a seed."""
    sampler = ClipSampler(dataset, seed=7)
    sampler.start = start
    loader = DataLoader(
        dataset, 1, sampler=sampler, collate_fn=collate_clips, **options
    )
    return [batch for _, batch in zip(range(count), loader)]


def same(a, b):
    return all(torch.equal(a[key], b[key]) for key in ('video', 't', 'gen_t'))


def test_all_videos_come_and_passes_differ(make):
    dataset = make()
    clips = stream(dataset, 60)
    colours = {
        tuple((clip['video'].float().mean((0, 1, 3, 4)) / 6).int().tolist())
        for clip in clips
    }
    assert len(colours) >= 7
    count = len(dataset.addresses)
    windows = [dataset.shards_of(i, seed=7) for i in range(count)]
    shown = [address for window in windows for address in window]
    assert sorted(shown[:count]) == sorted(dataset.addresses)
    assert sorted(shown[count:]) == sorted(dataset.addresses)
    assert shown[:count] != shown[count:]


@pytest.mark.parametrize('num_workers', [0, 2])
def test_a_run_resumes_in_the_same_stream(make, num_workers):
    whole = stream(make(), 24)
    rest = stream(make(cache='b'), 11, start=13, num_workers=num_workers)
    assert all(map(same, whole[13:], rest))


def test_two_processes_share_the_stream(make, monkeypatch):
    whole = stream(make(), 20)
    for rank in (0, 1):
        monkeypatch.setattr(
            'stylegan_v_mm.datasets.clip_sampler.get_dist_info',
            lambda rank=rank: (rank, 2),
        )
        ours = stream(make(cache='shared'), 10)
        assert all(map(same, whole[rank::2], ours))


def test_few_shards_are_kept(make, tmp_path):
    dataset = make(shards_at_once=1, clips_per_shard=3)
    stream(dataset, 3 * 12)
    kept = [x for x in (tmp_path / 'cache').iterdir() if x.is_dir()]
    assert len(kept) <= 4


def test_by_http_from_this_machine(make, packed):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = partial(Quiet, directory=packed)
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    last = len(list_shards(packed)) - 1
    host = f'http://127.0.0.1:{server.server_port}'
    try:
        remote = make(f'{host}/clips-{{0000..{last:04d}}}.tar', cache='web')
        assert all(map(same, stream(make(), 12), stream(remote, 12)))
    finally:
        server.shutdown()
        server.server_close()


def test_redirections_to_plain_http_are_refused(tmp_path):
    class Redirecting(SimpleHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header('Location', 'http://example.com/a.tar')
            self.end_headers()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(('127.0.0.1', 0), Redirecting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f'http://127.0.0.1:{server.server_port}/a.tar'
    try:
        with pytest.raises(InputError, match='use https'):
            ShardDataset(address, PIPELINE, cache=tmp_path / 'cache')
    finally:
        server.shutdown()
        server.server_close()


def test_by_fsspec(make, packed):
    import fsspec

    files = fsspec.filesystem('memory')
    for path in packed.glob('*.tar'):
        files.pipe(f'/shards/{path.name}', path.read_bytes())
    last = len(list_shards(packed)) - 1
    remote = make(f'memory://shards/clips-{{0000..{last:04d}}}.tar', 'memory')
    assert all(map(same, stream(make(), 12), stream(remote, 12)))


def test_frames_in_folders(tmp_path):
    """As WebDataset's users pack them, with a folder for each video."""
    from PIL import Image

    with tarfile.open(tmp_path / 'a.tar', 'w') as archive:
        for i, frame in enumerate(scenery(1, 12, 32, 32)):
            buffer = io.BytesIO()
            Image.fromarray(frame).save(buffer, 'PNG')
            info = tarfile.TarInfo(f'video/{i:03d}.png')
            info.size = len(buffer.getvalue())
            archive.addfile(info, io.BytesIO(buffer.getvalue()))
    dataset = ShardDataset(tmp_path, PIPELINE, cache=tmp_path / 'cache')
    (clip,) = stream(dataset, 1)
    assert clip['video'].shape == (1, 3, 3, 16, 16)


def test_a_missing_or_damaged_shard_is_named(make, tmp_path, monkeypatch):
    monkeypatch.setattr(module.time, 'sleep', lambda _: None)
    good = make().addresses
    listed = tmp_path / 'list.txt'
    for bad in (tmp_path / 'gone.tar', tmp_path / 'cut.tar'):
        content = Path(good[0]).read_bytes()
        if bad.stem == 'cut':
            bad.write_bytes(content[: len(content) // 2])
        listed.write_text('\n'.join([good[0], str(bad)]))
        dataset = make(listed, cache=bad.stem)
        with pytest.raises(InputError) as error:
            stream(dataset, 40)
        assert str(bad) in str(error.value)
        assert 'put it back' in str(error.value)
        assert not list((tmp_path / bad.stem).glob('.*'))


def test_a_shard_that_leaves_its_folder(tmp_path):
    with tarfile.open(tmp_path / 'evil.tar', 'w') as archive:
        info = tarfile.TarInfo('../outside.mp4')
        archive.addfile(info, io.BytesIO())
    with pytest.raises(InputError, match='evil'):
        ShardDataset(tmp_path, PIPELINE, cache=tmp_path / 'cache')
    assert not list(tmp_path.rglob('outside*'))


def test_addresses():
    assert expand_braces('a-{08..10}.tar') == [
        *('a-08.tar', 'a-09.tar', 'a-10.tar')
    ]
    assert expand_braces('{1..2}/{0..1}') == ['1/0', '1/1', '2/0', '2/1']
    assert expand_braces('plain.tar') == ['plain.tar']
    with pytest.raises(InputError, match='use https'):
        list_shards('http://example.com/a.tar')


def test_no_shards(tmp_path):
    with pytest.raises(InputError, match='holds no shards'):
        ShardDataset(tmp_path)
    with pytest.raises(InputError, match='clips_per_shard=0'):
        ShardDataset(tmp_path, clips_per_shard=0)


CONFIG = """
_base_ = ['{root}/configs/stylegan_v/demo_moving_shapes.py']
data_root = '{clips}'
resolution = 16
batch_size = 2
max_iters = 400
log_interval = checkpoint_interval = preview_interval = 400
num_workers = 1
train_dataloader = dict(dataset=dict(
    _delete_=True, type='ShardDataset', shards='{tars}', cache='{cache}',
    clips_per_shard=4, shards_at_once=1, max_num_frames='= max_num_frames',
    pipeline=_base_.train_dataloader.dataset.pipeline))
model = dict(
    generator=dict(z_dim=8, w_dim=8, motion_z_dim=8, motion_v_dim=8,
                   time_enc_dim=4, channel_max=8),
    discriminator=dict(channel_max=8))
"""


@pytest.mark.slow
def test_a_shard_that_is_missing_later_is_named(packed, tmp_path):
    """With a config as the documentation shows it, and real processes."""
    tars = tmp_path / 'tars'
    shutil.copytree(packed, tars)
    path = tmp_path / 'config.py'
    path.write_text(
        CONFIG.format(
            root=ROOT,
            clips=packed.parent / 'clips',
            tars=tars,
            cache=tmp_path / 'cache',
        )
    )
    run, again = tmp_path / 'run', tmp_path / 'again'
    train = ['train.py', path, '--work-dir']
    result = run_tool(*train, run, '--cfg-options', 'max_iters=9')
    assert result.returncode == 0, result.stderr
    assert (run / 'iter_9.pth').exists()
    gone = sorted(tars.iterdir())[-1]
    gone.unlink()
    shutil.rmtree(tmp_path / 'cache')
    listed = tmp_path / 'list.txt'
    names = sorted(packed.iterdir())
    listed.write_text('\n'.join(str(tars / x.name) for x in names))
    option = f'train_dataloader.dataset.shards={listed}'
    result = run_tool(*train, again, '--cfg-options', option)
    assert result.returncode != 0
    assert f'the shard {gone} cannot be read' in result.stderr
