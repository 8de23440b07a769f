"""What is kept of raw footage."""

import numpy as np
import pytest
from planted import interlaced

from stylegan_v_mm.datasets.conversion.preparation import (
    Lengths,
    Shot,
    deinterlace,
    plan_shots,
)
from stylegan_v_mm.datasets.survey.findings import Finding

LENGTHS = Lengths(least=10, most=100, fps=None)


def plan(*findings, num_frames=100, fps=20, lengths=LENGTHS):
    found = [
        Finding(kind, 'a.mp4', start, end, 'why', *more)
        for kind, start, end, *more in findings
    ]
    return plan_shots(num_frames, fps, found, lengths)


def spans(shots):
    return [(x.frames[0], x.frames[-1] + 1) for x in shots]


def test_clean_footage_is_kept_whole():
    shots, dropped, fps = plan()
    assert shots == [Shot(tuple(range(100)))]
    assert (dropped, fps) == ([], 20)


def test_cuts_divide_and_flaws_are_dropped():
    shots, dropped, _ = plan(
        ('cut', 30, 31), ('standstill', 50, 70), ('copy', 95, 100)
    )
    assert spans(shots) == [(0, 30), (30, 50), (70, 95)]
    assert [(x.start, x.end) for x in dropped] == [(50, 70), (95, 100)]
    assert [x.reason.partition(':')[0] for x in dropped] == [
        'standstill',
        'copy',
    ]


def test_short_rests_are_dropped_and_long_shots_divided():
    shots, dropped, _ = plan(('cut', 5, 6), num_frames=305)
    assert spans(shots) == [(5, 105), (105, 205), (205, 305)]
    (rest,) = dropped
    assert (rest.start, rest.end) == (0, 5)
    assert rest.reason == '5 frames, fewer than 10'


def test_speed_is_made_even():
    repeats = tuple(range(1, 100, 2))
    found = 'repeated frames', 0, 100, None, repeats
    (shot,), _, fps = plan(found)
    assert shot.frames == tuple(range(0, 100, 2))
    assert fps == 10
    (shot,), _, fps = plan(found, lengths=Lengths(10, 100, 5))
    assert shot.frames == tuple(range(0, 100, 4))
    assert fps == 5
    # A rate is not raised.
    (shot,), _, fps = plan(lengths=Lengths(10, 100, 50))
    assert (len(shot.frames), fps) == (100, 20)
    (shot,), _, fps = plan(lengths=Lengths(10, 100, 15))
    assert len(shot.frames) == 75
    assert set(np.diff(shot.frames)) == {1, 2}


def test_borders_and_captions_are_cropped():
    border = 'black border', 0, 100, (0, 0.1, 1, 0.9)
    below = 'caption', 0, 100, (0.1, 0.8, 0.5, 0.85)
    (shot,), _, _ = plan(border, below)
    assert shot.box == pytest.approx((0, 0.1, 1, 0.8))
    # A logo in a corner: off comes what costs least.
    corner = 'caption', 0, 100, (0.02, 0.02, 0.2, 0.1)
    (shot,), _, _ = plan(corner)
    assert shot.box == (0, 0.1, 1, 1)
    # One in the middle cannot be cut off.
    shots, dropped, _ = plan(('caption', 20, 60, (0.4, 0.4, 0.6, 0.6)))
    assert spans(shots) == [(0, 20), (60, 100)]
    assert dropped[0].reason.startswith('caption')


def test_fields_are_joined():
    """A bright square that moves has straight edges again."""
    frames = np.zeros((24, 64, 64, 3), np.uint8)
    for i, frame in enumerate(frames):
        frame[16:48, 2 * i : 2 * i + 12] = 255
    woven = interlaced(frames, None)

    def combing(video):
        lines = video[:, 16:48, :, 0].astype(int)
        return np.abs(np.diff(lines, axis=1)).mean()

    joined = np.stack([*deinterlace(iter(woven))])
    assert joined.shape == frames.shape
    assert combing(woven[4:-4]) > 5
    assert combing(joined[4:-4]) < 1
