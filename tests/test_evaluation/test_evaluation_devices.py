"""Evaluation on a device, of which none is needed: clips come from the CPU."""

import pytest
import torch
from drawn_videos import write_clip
from fake_device import FakeDevice, needs_fake_device
from torch import nn

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation import mmagic_frames, motion_report
from stylegan_v_mm.evaluation.detectors import check_values, torchscript
from stylegan_v_mm.evaluation.detectors.eager import VGG16, FIDInception
from stylegan_v_mm.evaluation.detectors.inception import FIDInceptionV3
from stylegan_v_mm.evaluation.detectors.lpips import LPIPS
from stylegan_v_mm.evaluation.metrics import base
from stylegan_v_mm.registry import METRICS, MODELS

pytestmark = needs_fake_device


def inception():
    detector = FIDInception.__new__(FIDInception)
    nn.Module.__init__(detector)
    detector.inception = FIDInceptionV3().eval()
    return detector


def vgg16():
    detector = VGG16.__new__(VGG16)
    nn.Module.__init__(detector)
    detector.maps = LPIPS().maps.eval()
    return detector


@pytest.mark.parametrize(
    ('make', 'shape'),
    [
        (lambda: MODELS.build(dict(type='RandomI3D')), (2, 16, 3, 256, 256)),
        (inception, (2, 1, 3, 256, 256)),
        (vgg16, (2, 1, 3, 256, 256)),
    ],
    ids=['I3D', 'Inception', 'VGG16'],
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


class Recorder(nn.Module):
    """A TorchScript's place: note what it is called with."""

    def __init__(self, num_features):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, num_features))

    def forward(self, x, **flags):
        self.seen = x.device.type, x.dtype
        return self.scale.expand(len(x), -1)


@pytest.mark.parametrize(
    ('kind', 'dtype'),
    [('I3DTorchScript', torch.uint8), ('VideoTorchScript', torch.float32)],
)
def test_torchscripts_are_called_on_the_device(monkeypatch, kind, dtype):
    detector = MODELS.get(kind).__new__(MODELS.get(kind))
    nn.Module.__init__(detector)
    detector.script = Recorder(400)
    detector.name = 'Own'
    if kind == 'VideoTorchScript':
        detector.num_features, detector.resolution = 400, 112
        detector.min_num_frames = detector.max_num_frames = 16
        for name in ('mean', 'std'):
            detector.register_buffer(name, torch.ones(3, 1, 1, 1))
    monkeypatch.setattr(torchscript, 'get_device', lambda: 'gpu')
    clips = torch.zeros(2, 16, 3, 64, 64, dtype=torch.uint8)
    with FakeDevice():
        if kind == 'VideoTorchScript':
            # Before anything is generated, on the device where it will run.
            detector._try('own.pt')
            assert detector.script.seen == ('gpu', dtype)
        else:
            detector.to('gpu')
        assert detector.features(clips).device.type == 'gpu'
        assert detector.script.seen == ('gpu', dtype)


@pytest.fixture(scope='module')
def settings(tmp_path_factory):
    """What all metrics are told: 16 frames of each of three real videos."""
    root = tmp_path_factory.mktemp('real')
    for i in range(3):
        write_clip(root / f'{i}.mp4', 16)
    return dict(
        num_frames=16,
        num_real=3,
        resolution=32,
        real_data=dict(data_root=str(root)),
    )


@pytest.fixture
def generated():
    return [
        {'video': torch.zeros(16, 3, 32, 32, dtype=torch.uint8)}
        for _ in range(2)
    ]


def test_a_metrics_detector_is_on_the_device(monkeypatch, settings, generated):
    monkeypatch.setattr(base, 'get_device', lambda: 'gpu')
    monkeypatch.setattr(base, '_detectors', {})
    with FakeDevice() as device:
        metric = METRICS.build(
            dict(
                type='FrechetVideoDistance',
                **settings,
                detector=dict(type='RandomI3D'),
            )
        )
        # No value is known, so none is finite.
        with pytest.raises(InputError, match='features are not finite'):
            metric.process({}, generated)
        assert next(metric.detector.parameters()).device.type == 'gpu'
        # The clips, and their features back.
        assert device.copies[-1].startswith('evaluation/detectors/eager')
        assert device.reads[-1].startswith('evaluation/frechet')


def test_sums_of_motion_meet_on_the_device(monkeypatch, settings, generated):
    monkeypatch.setattr(motion_report, 'get_device', lambda: 'gpu')
    metric = METRICS.build(
        dict(
            type='MotionReport',
            **settings,
        )
    )
    metric.process({}, generated)
    with FakeDevice() as device:
        metric.evaluate(2)
        assert device.copies == [device.copies[0]]
        assert device.copies[0].startswith('evaluation/motion_report')


def test_mmagics_metrics_get_frames_of_the_device(
    monkeypatch, settings, generated
):
    seen = []

    @METRICS.register_module(force=True)
    class Watching:
        prefix = name = 'Watching'
        real_key = None

        def __init__(self, **_):
            pass

        def prepare(self, model, loader):
            (batch, *_) = loader
            data = model.data_preprocessor(batch, False)
            seen.append(data['data_samples'].gt_img.device.type)

        def process(self, _, samples):
            seen.extend(x['fake_img'].device.type for x in samples)

    monkeypatch.setattr(mmagic_frames, 'get_device', lambda: 'gpu')
    metric = METRICS.build(
        dict(
            type='MMagicFrames',
            metric=dict(type='Watching'),
            **settings,
        )
    )
    with FakeDevice():
        metric.process({}, generated)
    assert seen == ['gpu'] * (1 + 32)


@pytest.mark.parametrize('name', ['i3d', 'lpips'])
def test_known_numbers_are_computed_on_the_device(monkeypatch, name):
    random = MODELS.build(dict(type='RandomI3D'))
    monkeypatch.setattr(check_values, 'I3D', lambda: random)
    monkeypatch.setattr(check_values, 'load_lpips', lambda network: LPIPS())
    monkeypatch.setattr(check_values, 'get_device', lambda: 'gpu')
    with FakeDevice() as device:
        found = check_values.check_values(name)
        assert len(device.reads) == len(found) > 0
