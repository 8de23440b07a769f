"""Sampling by seeds: portable, endless, continuous in time."""

import copy
import itertools
import resource

import av
import numpy as np
import pytest
import torch
from PIL import Image

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.models.latents import Latents
from stylegan_v_mm.models.noise import CONTENT, MOTION, seeded_noise


def frames_of(gan, seeds, t, motion_seeds=None, **options):
    latents = gan.latents(seeds, motion_seeds=motion_seeds)
    return gan.render(latents.ws, latents.motions, t, latents.c, **options)


def differences(frames):
    """Mean absolute difference of each frame to the next one."""
    return (frames[1:] - frames[:-1]).abs().mean((1, 2, 3))


def test_a_seed_is_the_same_video_alone_and_in_a_batch(inferencer):
    t = torch.arange(16)
    together = frames_of(inferencer, range(16), t, chunk=64)
    assert together.shape == (16, 16, 3, 32, 32)
    for seed in (0, 7, 15):
        alone = frames_of(inferencer, [seed], t, chunk=4)
        assert (alone[0] - together[seed]).abs().max() < 1e-5


def test_length_and_chunk_do_not_matter(inferencer):
    short = frames_of(inferencer, [3], torch.arange(16))[0]
    long = frames_of(inferencer, [3], torch.arange(1000), chunk=64)[0]
    assert (short - long[:16]).abs().max() < 1e-5
    end = frames_of(inferencer, [3], torch.arange(990, 1000), chunk=4)[0]
    assert (end - long[990:]).abs().max() < 1e-5


def test_videos_have_times_of_their_own(inferencer):
    t = torch.tensor([[0, 5.0, 300], [7.5, 2, 1e5]]).double()
    both = frames_of(inferencer, [1, 2], t)
    for i, seed in enumerate((1, 2)):
        alone = frames_of(inferencer, [seed], t[i])
        assert (alone[0] - both[i]).abs().max() < 1e-5


def test_a_frame_far_away_is_exact_and_takes_no_memory(inferencer):
    network = copy.deepcopy(inferencer.sampler.generator).double()
    t, first = 1_000_000, 1_000_000 // 16
    with torch.no_grad():
        expected = network(
            seeded_noise(5, CONTENT, 0, 1, 16).double(),
            None,
            torch.tensor([[t]]).double(),
            seeded_noise(5, MOTION, first, 22, 16)[None].double(),
            first_code=first,
        )
    frames_of(inferencer, [5], torch.tensor([0]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    frame = frames_of(inferencer, [5], torch.tensor([t]))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (frame - expected).abs().max() < 1e-4
    # All codes from time 0 on would be 62500 * 16 * 8 bytes, 7.6 MiB.
    assert after - before < 3 * 1024


def test_slow_motion_has_the_normal_frames_and_more_in_between(inferencer):
    normal = frames_of(inferencer, [2], inferencer.times(12))[0]
    slow = frames_of(inferencer, [2], inferencer.times(45, slow_motion=4))[0]
    assert (slow[::4] - normal).abs().max() < 1e-5
    for i in range(11):
        before, after = normal[i], normal[i + 1]
        whole = (before - after).abs().mean()
        for between in slow[4 * i + 1 : 4 * i + 4]:
            assert (between - before).abs().mean() < whole
            assert (between - after).abs().mean() < whole


def test_a_time_offset_cuts_the_beginning_off(inferencer):
    whole = inferencer.sample(seeds=[4], num_frames=30)
    late = inferencer.sample(seeds=[4], num_frames=10, time_offset=20)
    assert (late.int() - whole[:, 20:].int()).abs().max() <= 1


@pytest.mark.parametrize('num_frames', [16, 40, 50, 170])
def test_a_loop_closes(inferencer, num_frames):
    codes = inferencer.loop_codes(num_frames)
    assert codes == {16: 1, 40: 2, 50: 3, 170: 11}[num_frames]
    t = inferencer.times(num_frames, loop_codes=codes)
    latents = inferencer.latents([6], loop_codes=codes)
    # One round and the frame after it, a hair before the seam, and after it.
    end = codes * 16
    t = torch.cat(
        [t, torch.tensor([end, end - 1e-6, end + 1e-6, 3 * end + 5])]
    )
    frames = inferencer.render(latents.ws, latents.motions, t)[0]
    assert (frames[num_frames] - frames[0]).abs().max() < 1e-5
    assert (frames[num_frames + 1] - frames[0]).abs().max() < 1e-4
    assert (frames[num_frames + 2] - frames[0]).abs().max() < 1e-4
    at_5 = inferencer.render(latents.ws, latents.motions, torch.tensor([5]))
    assert (frames[num_frames + 3] - at_5[0, 0]).abs().max() < 1e-5
    steps = differences(frames[: num_frames + 1])
    assert steps[-1] <= steps[:-1].max()
    assert steps.min() > 0
    # Without closing the motion, the seam is a jump.
    plain = inferencer.latents([6])
    frames = inferencer.render(plain.ws, plain.motions, t[:num_frames])[0]
    jump = (frames[0] - frames[-1]).abs().mean()
    assert num_frames == 16 or jump > 3 * differences(frames).mean()


def test_content_and_motion_have_seeds_of_their_own(inferencer):
    t = torch.arange(8)
    own = frames_of(inferencer, [1, 2], t)
    assert torch.equal(frames_of(inferencer, [1, 2], t, [1, 2]), own)
    swapped = frames_of(inferencer, [1, 2], t, [2, 1])
    one = frames_of(inferencer, [1], t, 2)
    assert (swapped[0] - one[0]).abs().max() < 1e-5
    assert (swapped - own).abs().mean() > 1e-3


def walked(gan, latents, t, *args):
    return torch.cat(list(gan.walk(latents, t, *args, chunk=4))).int()


@pytest.mark.parametrize('what', ['content', 'motion'])
def test_a_walk_passes_its_stations(conditional, what):
    latents = conditional.latents([1, 2, 3], labels=[0, 2, 1])
    t = torch.tensor([9, 2.5, 30, 31, 32, 80, 7])
    contents, motions = ([1, 2, 3, 1], [1] * 4)
    if what == 'motion':
        contents, motions = motions, contents

    def station(content, motion, time):
        styles, moves = latents[content - 1 :], latents[motion - 1 :]
        latents_of_one = Latents(styles.ws[:1], moves.motions[:1], moves.c[:1])
        pieces = conditional.sampler.render(latents_of_one, time[None])
        frame = (127.5 * next(pieces)[0, 0] + 128).clamp(0, 255)
        return frame.byte().int()

    for closed, every in ((False, 3), (True, 2)):
        length = 7 if not closed else 6
        frames = walked(conditional, latents, t[:length], what, closed)
        assert len(frames) == length
        for i in range(0, length, every):
            expected = station(contents[i // every], motions[i // every], t[i])
            assert (frames[i] - expected).abs().max() <= 1


@pytest.mark.parametrize('what', ['content', 'motion'])
def test_a_walk_is_smooth(inferencer, what):
    latents = inferencer.latents([1, 2])
    still = torch.full([21], 5.0)
    frames = walked(inferencer, latents, still, what).float()
    whole = (frames[0] - frames[-1]).abs().mean()
    assert differences(frames).max() < whole / 4
    assert differences(frames).min() > 0


def test_rendering_from_codes(inferencer):
    """Given codes come first; after them go on those of seed 0."""
    latents = inferencer.latents([3])
    t = torch.arange(0, 200, 9)
    codes = seeded_noise(0, MOTION, 0, 5, 16)[None]
    frames = inferencer.render(latents.ws, codes, t)
    expected = frames_of(inferencer, [3], t, 0)
    assert (frames - expected).abs().max() < 1e-5
    other = inferencer.render(latents.ws, codes + 1, t)
    assert (other[0, 0] - frames[0, 0]).abs().mean() > 1e-4
    assert torch.equal(other[0, -1], frames[0, -1])  # beyond the codes


def test_samples_are_bytes_of_what_is_rendered(inferencer):
    videos = inferencer.sample(num_videos=3, num_frames=5, chunk=10)
    assert videos.dtype == torch.uint8
    expected = frames_of(inferencer, range(3), torch.arange(5))
    expected = (127.5 * expected + 128).clamp(0, 255).byte()
    assert (videos.int() - expected.int()).abs().max() <= 1
    for chunk in (1, 7, 100):
        other = inferencer.sample(num_videos=3, num_frames=5, chunk=chunk)
        assert (videos.int() - other.int()).abs().max() <= 1


def test_labels(conditional):
    one_hot = torch.eye(3)[[2, 0]]
    by_class = conditional.latents([1, 2], [2, 0])
    assert torch.equal(by_class.c, one_hot)
    by_vector = conditional.latents([1, 2], one_hot)
    assert torch.equal(by_vector.ws, by_class.ws)
    assert torch.equal(conditional.latents([5, 6], 1).c, torch.eye(3)[[1, 1]])
    # Random ones depend on the seed alone, and all of them come.
    drawn = conditional.latents(range(60)).c
    assert torch.equal(conditional.latents([17]).c[0], drawn[17])
    assert drawn.sum(0).min() > 8
    t = torch.arange(4)
    a, b = (
        conditional.sample(seeds=[1], num_frames=4, labels=i) for i in (0, 1)
    )
    assert not torch.equal(a, b)
    latents = conditional.latents([1, 2], [2, 0])
    both = conditional.render(latents.ws, latents.motions, t, latents.c)
    alone = conditional.latents([2], 0)
    alone = conditional.render(alone.ws, alone.motions, t, alone.c)
    assert (both[1] - alone[0]).abs().max() < 1e-5


def test_mmengines_call(inferencer, tmp_path):
    result = inferencer(
        [4, 9, 2], batch_size=2, num_frames=6, out=tmp_path / 'o', fps=10
    )
    expected = inferencer.sample(seeds=[4, 9, 2], num_frames=6)
    for video, array, wanted in zip(
        result['predictions'], result['visualization'], expected
    ):
        assert (video.int() - wanted.int()).abs().max() <= 1
        assert np.array_equal(array, video.permute(0, 2, 3, 1))
    names = sorted(path.name for path in (tmp_path / 'o').iterdir())
    assert names == ['000002.mp4', '000004.mp4', '000009.mp4']


def decoded(path):
    """Decode a file with a library that did not write it, where possible."""
    if path.suffix == '.mp4':
        with av.open(str(path)) as container:
            rate = float(container.streams.video[0].average_rate)
            frames = [
                frame.to_ndarray(format='rgb24')
                for frame in container.decode(video=0)
            ]
        return np.stack(frames), rate
    image = Image.open(path)
    frames = []
    for i in range(image.n_frames):
        image.seek(i)
        frames.append(np.array(image.convert('RGB')))
    return np.stack(frames), 1000 / image.info['duration']


@pytest.mark.parametrize(
    ('suffix', 'error'), [('mp4', 12), ('gif', 12), ('webp', 0)]
)
def test_files(inferencer, tmp_path, suffix, error):
    path = tmp_path / f'new/one.{suffix}'
    options = dict(seeds=[1], num_frames=9)
    assert inferencer.sample(fps=20, out=path, **options) == [path]
    frames, rate = decoded(path)
    assert rate == 20
    video = inferencer.sample(**options)[0].permute(0, 2, 3, 1).numpy()
    assert frames.shape == video.shape
    assert abs(frames.astype(int) - video).mean() <= error
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_folder_of_files(inferencer, tmp_path):
    paths = inferencer.sample(
        num_videos=3, num_frames=4, out=tmp_path / 'a', format='png', chunk=8
    )
    assert [path.name for path in paths] == ['000000', '000001', '000002']
    video = inferencer.sample(num_videos=3, num_frames=4, chunk=8)
    for i, j in itertools.product(range(3), range(4)):
        image = np.array(Image.open(paths[i] / f'{j:06d}.png'))
        assert np.array_equal(image, video[i, j].permute(1, 2, 0))


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(num_frames=0), 'num_frames=0'),
        (dict(slow_motion=0), 'slow_motion=0'),
        (dict(time_offset=-1), 'time_offset=-1'),
        (dict(time_offset=float('nan')), 'time_offset=nan'),
        (dict(seeds=[-1]), 'seed -1 must be from 0'),
        (dict(seeds=[1, 2], num_videos=3), 'num_videos=3, but 2 seeds'),
        (dict(seeds=[]), '0 seeds'),
        (dict(seeds=[1, 2], motion_seeds=[1, 2, 3]), '3 motion seeds for 2'),
        (dict(labels=0), 'the model has 0 classes'),
        (dict(truncation_cutoff=99), 'truncation_cutoff=99'),
        (dict(num_videos=2, out='x.mp4'), 'x.mp4: several videos'),
        (dict(out='/dev/null/x'), '/dev/null'),
        (dict(out='x', format='avi'), "format='avi'"),
    ],
)
def test_bad_values_are_named(
    inferencer, tmp_path, monkeypatch, options, words
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        inferencer.sample(**{'num_frames': 2, **options})
    assert not any(tmp_path.rglob('*.*'))


@pytest.mark.parametrize('labels', [3, -1, [0], torch.zeros(1, 2)])
def test_bad_labels_are_named(conditional, labels):
    with pytest.raises(InputError, match='3 classes'):
        conditional.latents([0, 1], labels)
