"""What a data set holds, against videos made for it."""

import time
from pathlib import Path

import av
import numpy as np
import pytest
from drawn_videos import write_clip, write_frames

from stylegan_v_mm.datasets.sources.video_files import VideoFile
from stylegan_v_mm.datasets.survey import (
    advise,
    config_lines,
    contact_sheet,
    flaws,
    histograms,
    measure_motion,
    measure_reading,
    survey_videos,
)
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.video.encoding import write_video

ROOT = Path(__file__).parents[2]


def look(root, num_frames=3, max_dist=32, **options):
    return survey_videos(
        str(root),
        labels=None,
        num_frames=num_frames,
        max_dist=max_dist,
        **options,
    )


def config(survey):
    """Return the variables of the proposed config."""
    variables = {}
    exec(
        '\n'.join(config_lines(survey, measure_motion(survey))), {}, variables
    )
    return variables


def damage_middle(path):
    """Write a video of 40 frames, of which 11 to 19 are damaged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w') as file:
        options = {'sc_threshold': '1000000000'}
        stream = file.add_stream('mpeg4', rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        stream.codec_context.gop_size = 10
        for image in np.random.default_rng(0).integers(
            0, 255, (40, 48, 64, 3)
        ):
            frame = av.VideoFrame.from_ndarray(image.astype(np.uint8), 'rgb24')
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    with av.open(str(path)) as file:
        packets = [(p.pos, p.size) for p in file.demux(video=0) if p.size]
    start, size = packets[11]
    blob = bytearray(path.read_bytes())
    blob[start + size // 2 : start + size] = bytes(size - size // 2)
    path.write_bytes(blob)


def test_damage_counts_as_far_as_was_decoded(tmp_path):
    damage_middle(tmp_path / 'a.mp4')
    write_clip(tmp_path / 'b.mp4', 12)
    # The first and the last ten of a.mp4, and b.mp4.
    survey = look(tmp_path)
    assert survey.num_checked == 10 + 10 + 12
    assert [list(damaged) for damaged in survey.damaged] == [[], []]
    survey = look(tmp_path, thorough=True)
    assert survey.num_checked == 52
    first, second = survey.damaged
    assert (list(first), list(second)) == ([*range(11, 20)], [])
    assert len(contact_sheet(survey)) == 2 * 128 + 2
    # Frames 0 to 10 and 20 to 39 are not enough for a clip of 32.
    many = dict(num_frames=32, max_dist=64)
    assert look(tmp_path, **many).usable.tolist() == [True, False]
    with pytest.raises(InputError, match='none of 2 videos can be used'):
        look(tmp_path, **many, thorough=True)


def test_damaged_pictures_count_where_all_are_decoded(tmp_path):
    write_frames(tmp_path / 'a', 5)
    write_frames(tmp_path / 'b', 5)
    (tmp_path / 'b' / '3.png').write_bytes(b'not a picture')
    assert ('damaged', 'none found') in flaws(look(tmp_path))
    survey = look(tmp_path, thorough=True)
    assert survey.num_checked == 10
    assert ('damaged', 'b (3.png cannot be decoded)') in flaws(survey)


def test_clip_settings_decide_what_is_usable(tmp_path):
    for i, num_frames in enumerate([4, 9, 40]):
        write_clip(tmp_path / f'{i}.mp4', num_frames)
    # The shortest span of six frames is 8.
    survey = look(tmp_path, num_frames=6)
    assert survey.needed == 9
    assert survey.usable.tolist() == [False, True, True]
    assert ('under 9 frames', '0.mp4 (4)') in flaws(survey)
    with pytest.raises(InputError, match='max_dist=7'):
        look(tmp_path, num_frames=6, max_dist=7)


def test_folders_whose_pictures_are_all_damaged(tmp_path):
    (tmp_path / 'a').mkdir()
    for i in range(5):
        (tmp_path / 'a' / f'{i}.png').write_bytes(b'not a picture')
    message = r'none of 1 videos can be used.*a \(first frame'
    with pytest.raises(InputError, match=message):
        look(tmp_path)


def test_frames_from_the_key_frame_before_are_counted(tmp_path):
    for i in range(2):
        # x264 sets no key frames of its own in a still picture.
        write_clip(tmp_path / f'{i}.mp4', 200)
    survey = look(tmp_path, num_frames=1)
    reading = measure_reading(survey, 32)
    # Frame i takes i + 1 frames from frame 0, and i % 4 + 1 from key frames.
    assert abs(reading.passed - 100.5) < 30
    assert reading.would_pass == pytest.approx(2.5, abs=0.5)
    ((what, text),) = advise(survey, reading, 32)
    assert what == 'advice'
    assert f'{reading.passed:.0f} frames are decoded for a clip' in text


def test_reading_is_timed(tmp_path, monkeypatch):
    write_clip(tmp_path / 'a.mp4', 20)
    read = VideoFile.read

    def slow_read(*args):
        time.sleep(0.1)
        return read(*args)

    monkeypatch.setattr(VideoFile, 'read', slow_read)
    assert 4 < measure_reading(look(tmp_path), 32).rate < 10


def test_a_contact_sheet_shows_frames_from_start_to_end(tmp_path):
    for i, name in enumerate(['clip10', 'clip9']):
        write_frames(tmp_path / name, 11 + 10 * i)
    image = contact_sheet(look(tmp_path))
    assert image.shape == (2 * 128 + 2, 6 * 128 + 5 * 2, 3)
    # Frame i is filled with 8 i; natural order: clip9 first.
    assert image[64::130, 64::130, 0].tolist() == [
        [8 * i for i in (0, 4, 8, 12, 16, 20)],
        [8 * i for i in (0, 2, 4, 6, 8, 10)],
    ]


def waves(period, num_frames=300, seed=0):
    """Blocks that brighten and darken, [T, 3, 64, 64], uint8.

    Frames that lie L apart differ by |sin(pi L / period)| of the most.
    """
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, (4, 4))
    t = np.arange(num_frames)[:, None, None]
    blocks = 127 + 100 * np.sin(2 * np.pi * t / period + phases)
    frames = blocks.repeat(16, axis=1).repeat(16, axis=2).astype(np.uint8)
    return frames[:, None].repeat(3, axis=1)


@pytest.mark.parametrize(
    ('period', 'expected'),
    [(8, 16), (20, 16), (48, 32), (90, 64), (180, 128), (400, 256)],
)
def test_motion_period_is_not_above_that_of_waves(tmp_path, period, expected):
    for i in range(3):
        write_video(tmp_path / f'{i}.mp4', waves(period, seed=i), 25)
    variables = config(look(tmp_path))
    assert variables['motion_period'] == expected
    assert variables['max_num_frames'] == 300


def test_noise_and_a_still_video_do_not_disturb(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3):
        noise = rng.normal(0, 20, (300, 1, 64, 64))
        video = np.clip(waves(180, seed=i) + noise, 0, 255).astype(np.uint8)
        write_video(tmp_path / f'{i}.mp4', video, 25)
    write_clip(tmp_path / 'still.mp4', 300)
    assert config(look(tmp_path))['motion_period'] == 128


def test_slower_shapes_have_a_longer_motion_period(tmp_path, run_script):
    """Periods are from 24 to 40 frames, then four times as long."""
    shapes = ROOT / 'tools/dataset_converters/moving_shapes.py'
    run_script(
        *(shapes, tmp_path / 'fast', '--num-videos', 5),
        *('--num-frames', 64, '--resolution', 32),
    )
    for path in (tmp_path / 'fast').iterdir():
        with av.open(str(path)) as file:
            images = [f.to_ndarray(format='rgb24') for f in file.decode()]
        frames = np.stack(images).transpose(0, 3, 1, 2)
        write_video(tmp_path / 'slow' / path.name, frames.repeat(4, 0), 25)
    assert config(look(tmp_path / 'fast'))['motion_period'] == 16
    assert config(look(tmp_path / 'slow'))['motion_period'] in (64, 128)


def test_no_motion_period_where_nothing_moves(tmp_path):
    for i in range(3):
        write_clip(tmp_path / f'{i}.mp4', 40, grey=60 * i)
    survey = look(tmp_path)
    motion = measure_motion(survey)
    assert motion.half_lag is None
    line = config_lines(survey, motion)[-1]
    assert line.startswith('# motion_period: too little moves')


def test_motion_period_is_not_above_max_num_frames(tmp_path):
    write_video(tmp_path / 'a.mp4', waves(500, num_frames=50), 25)
    variables = config(look(tmp_path))
    assert variables['max_num_frames'] == 50
    assert variables['motion_period'] == 32


def test_histograms_show_what_is_there(tmp_path):
    for i, num_frames in enumerate([2, 12, 12, 40]):
        write_clip(
            tmp_path / f'{i}.mp4', num_frames, 64, 48 + 16 * i, fps=5 + i
        )
    write_video(tmp_path / '4.mp4', waves(20, num_frames=50), 25)
    survey = look(tmp_path)
    figure = histograms(survey, measure_motion(survey))

    def counts(axes, values):
        """How many are in the bars that hold some values."""
        return [
            sum(
                bar.get_height()
                for bar in axes.patches
                if 0 <= value - bar.get_x() <= bar.get_width()
            )
            for value in values
        ]

    lengths, sizes, rates, change = figure.axes
    assert counts(lengths, [2, 12, 40, 50, 30]) == [1, 2, 1, 1, 0]
    assert sum(bar.get_height() for bar in sizes.patches) == 10
    assert counts(rates, [5, 6, 7, 8, 25, 15]) == [1, 1, 1, 1, 1, 0]
    # Curves of the four usable videos, of which one has waves.
    still, *_, moving = sorted(
        (curve.get_data() for curve in change.lines), key=lambda c: max(c[1])
    )
    assert len(change.lines) == 4
    assert max(still[1]) < 1
    truth = abs(np.sin(np.pi * moving[0] / 20))
    np.testing.assert_allclose(moving[1] / max(moving[1]), truth, atol=0.12)
