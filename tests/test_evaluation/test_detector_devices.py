"""Detectors on a device, of which none is needed: clips come from the CPU."""

import pytest
import torch
from fake_device import FakeDevice, needs_fake_device
from torch import nn

from stylegan_v_mm.evaluation.detectors.eager import FIDInception
from stylegan_v_mm.evaluation.detectors.inception import FIDInceptionV3
from stylegan_v_mm.evaluation.detectors.lpips import LPIPS
from stylegan_v_mm.registry import MODELS

pytestmark = needs_fake_device


def inception():
    detector = FIDInception.__new__(FIDInception)
    nn.Module.__init__(detector)
    detector.inception = FIDInceptionV3().eval()
    return detector


@pytest.mark.parametrize(
    ('make', 'shape'),
    [
        (lambda: MODELS.build(dict(type='RandomI3D')), (2, 16, 3, 256, 256)),
        (inception, (2, 1, 3, 256, 256)),
    ],
    ids=['I3D', 'Inception'],
)
def test_features_are_those_of_clips_of_the_cpu(make, shape):
    detector = make()
    clips = torch.zeros(shape, dtype=torch.uint8)
    expected = len(clips), detector.num_features
    with FakeDevice() as device:
        detector.to('gpu')
        copies = len(device.copies)
        features = detector.features(clips)
        assert (features.device.type, features.shape) == ('gpu', expected)
        assert device.copies[copies].startswith('evaluation/detectors/eager')
        assert device.reads == []
        if hasattr(detector, 'probabilities'):
            assert detector.probabilities(clips).shape == (2, 1008)


def test_lpips_compares_images_on_the_device():
    with FakeDevice() as device, torch.device('gpu'):
        images = torch.zeros(2, 3, 256, 256)
        assert LPIPS()(images, images).device.type == 'gpu'
        assert device.reads == []
