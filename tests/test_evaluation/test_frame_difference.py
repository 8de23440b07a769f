"""How much moves: closed forms, frozen videos, several batches."""

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation import FrameDifference
from stylegan_v_mm.evaluation.frame_difference import frame_difference
from stylegan_v_mm.video_io import write_video


def rising(step, num_frames=24):
    """Every frame is brighter than the last one by ``step`` grey levels."""
    levels = 10 + step * np.arange(num_frames)
    video = np.broadcast_to(levels[:, None, None, None], (num_frames, 3, 8, 8))
    return torch.from_numpy(video.astype(np.uint8))


def test_differences_by_brute_force():
    video = torch.randint(0, 256, (7, 3, 4, 5), dtype=torch.uint8)
    pairs = [
        np.abs(video[i + 3].numpy().astype(int) - video[i].numpy()).mean()
        for i in range(4)
    ]
    assert frame_difference(video, 3) == pytest.approx(np.mean(pairs))
    assert frame_difference(rising(2), 8) == 16
    assert frame_difference(rising(0), 8) == 0


@pytest.fixture
def metric(tmp_path):
    # Brighter by 1, 2 and 3 a frame; one that is too short to count.
    for step in (1, 2, 3):
        write_video(tmp_path / f'{step}.mp4', rising(step), 25, crf=1)
    write_video(tmp_path / 'short.mp4', rising(9, 6), 25)
    return dict(
        type='stylegan_v_mm.FrameDifference',
        lag=4,
        num_frames=16,
        num_real=10,
        resolution=8,
        real_data=dict(data_root=str(tmp_path)),
    )


@pytest.mark.parametrize('batch_size', [1, 2, 4])
def test_means_of_generated_and_real_clips(metric, batch_size):
    evaluator = Evaluator([metric])
    for _ in range(2):  # nothing is left over from an earlier evaluation
        clips = [dict(video=rising(step, 20)) for step in (0, 1, 1, 4)]
        for i in range(0, 4, batch_size):
            evaluator.process(clips[i : i + batch_size])
        values = evaluator.evaluate(4)
        assert values['FrameDiff4'] == pytest.approx(4 * 1.5)
        # Encoding rounds colours by up to a level or two.
        assert values['FrameDiff4-real'] == pytest.approx(4 * 2, rel=0.1)


def test_bad_values(metric):
    evaluator = Evaluator([metric])
    with pytest.raises(InputError, match=r'dataset\.num_frames=16'):
        evaluator.process([dict(video=rising(1, 12))])
    del metric['type']
    with pytest.raises(InputError, match=r'lag=16.*num_frames=16 above lag'):
        FrameDifference(**dict(metric, lag=16))
