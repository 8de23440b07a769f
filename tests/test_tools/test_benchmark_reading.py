"""The baseline of the data benchmark reads what ours does."""

import re
import time
from pathlib import Path

import numpy as np
import pytest

from stylegan_v_mm.datasets.sources.finding import find_videos
from stylegan_v_mm.datasets.sources.video_files import VideoFile
from stylegan_v_mm.video.encoding import write_video

TOOLS = Path(__file__).parents[2] / 'tools/analysis_tools'


@pytest.fixture
def reading(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    from benchmarks import reading

    monkeypatch.setattr(reading, 'NUM_VIDEOS', 2)
    monkeypatch.setattr(reading, 'VIDEO_LEN', 20)
    return reading


def test_both_read_the_same_frames(reading, tmp_path):
    rng = np.random.default_rng(0)
    video = list(reading.drawn_videos(32))[1]
    assert video.shape == (20, 32, 32, 3)
    for number, (name, write) in enumerate(reading.FORMATS.items()):
        root = tmp_path / str(number)
        write(video, root / 'a')
        if name.startswith('zip'):
            root = reading.pack(root)
        (source,) = find_videos(root)
        assert len(source) == 20
        if isinstance(source, VideoFile):
            naive = reading.NaiveVideo(source).read
            gop = min(int(re.search(r'every (\d+)', name)[1]), 20)
            keys = source.index.key_inds
            assert max(np.diff(keys, append=20)) <= gop
        else:
            bare = reading.BarePictures(source)

            def naive(inds, bare=bare):
                return np.stack(bare.read(inds))[..., ::-1]

        for _ in range(4):
            inds = rng.integers(20, size=3)
            np.testing.assert_array_equal(naive(inds), source.read(inds))
            for i, image in zip(inds, source.read(inds)):
                errors = np.abs(video.astype(int) - image).mean((1, 2, 3))
                assert errors.argmin() == i


def test_times_are_those_of_each_way(reading, monkeypatch):
    def slow(self, frame_inds):
        time.sleep(0.02)

    monkeypatch.setattr(reading.NaiveVideo, 'read', slow)
    timings = reading.measure_reading(repeats=2, resolution=16, clips=4)
    assert len(timings) == 2 * len(reading.FORMATS)
    for work, way, seconds, clips in timings:
        assert clips == 4
        assert len(seconds) == 2
        is_slow = way == 'naive' and 'key frame' in work
        assert (min(seconds) > 4 * 0.02) == is_slow
    head, first, *_ = reading.table(timings)
    assert head == ['', 'clips/s', 'clips/s, naive', 'ratio']
    assert 40 < float(first[2]) <= 50
    assert float(first[3]) == pytest.approx(
        float(first[1]) / float(first[2]), rel=0.01
    )


def test_real_videos_run_to_and_fro(reading, tmp_path):
    frames = np.zeros((15, 3, 24, 48), np.uint8)
    frames += np.arange(0, 150, 10, np.uint8)[:, None, None, None]
    write_video(tmp_path / 'a.mp4', frames, 25)
    for video in reading.real_videos(tmp_path, 16):
        assert video.shape == (20, 16, 16, 3)
        numbers = [*range(15), 14, 13, 12, 11, 10]
        np.testing.assert_array_equal(
            np.round(video.mean(axis=(1, 2, 3)) / 10), numbers
        )
