"""GIFs and WebPs, timed as players read them."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.video.animations import frame_duration, write_animation

# Milliseconds that each format can say and browsers obey.
ALLOWED = {
    'gif': 10 * np.arange(2, 2**16),
    'webp': np.arange(11, 2**24),
}
RATES = [60, 15, 50, 49, 40, 30, 29.97, 25, 24, 12, 10, 7, 4, 1, 0.5, 0.03]
RATES += [100, 1000, 1e6, 95, 0.0016, 0.001, 1e-6]


def images(count=5):
    rng = np.random.default_rng(0)
    for frame in rng.integers(0, 256, (count, 8, 12, 3), np.uint8):
        yield Image.fromarray(frame)


def durations(content):
    with Image.open(io.BytesIO(content)) as image:
        for i in range(image.n_frames):
            image.seek(i)
            image.load()
            yield image.info['duration']


@pytest.mark.parametrize('format', ALLOWED)
@pytest.mark.parametrize('fps', RATES)
def test_the_nearest_rate_that_viewers_play(format, fps, warnings_logged):
    frame_duration.cache_clear()
    allowed = ALLOWED[format]
    nearest = allowed[np.argmin(abs(1000 / allowed - fps))]
    file = io.BytesIO()
    write_animation(images(), file, format, fps)
    assert list(durations(file.getvalue())) == [nearest] * 5
    said = f'{1000 / nearest:.4g} frames a second instead of {fps:.4g}'
    if abs(1000 / nearest - fps) > 1e-3 * fps:
        (line,) = warnings_logged
        assert said in line
    else:
        assert warnings_logged == []
    write_animation(images(), io.BytesIO(), format, fps)
    assert len(warnings_logged) <= 1  # once is enough


@pytest.mark.parametrize(('fps', 'hundredths'), [(60, 2), (15, 7), (25, 4)])
def test_ffmpeg_plays_a_gif_at_that_rate(tmp_path, fps, hundredths):
    write_animation(images(), tmp_path / 'a.gif', 'gif', fps)
    with av.open(str(tmp_path / 'a.gif')) as container:
        stream = container.streams.video[0]
        times = [
            float(frame.pts * stream.time_base)
            for frame in container.decode(stream)
        ]
    np.testing.assert_allclose(times, np.arange(5) * hundredths / 100)


def test_a_webp_keeps_all_pixels():
    file = io.BytesIO()
    write_animation(images(), file, 'webp', 20)
    with Image.open(file) as read:
        assert read.info['loop'] == 0
        for i, image in enumerate(images()):
            read.seek(i)
            assert np.array_equal(read.convert('RGB'), image)


def test_a_still_video_that_a_gif_cannot_time():
    """Equal frames become one, and its time has to fit, too."""
    still = Image.new('RGB', (8, 8))
    file = io.BytesIO()
    write_animation(iter([still] * 3), file, 'gif', 0.01)
    assert list(durations(file.getvalue())) == [300_000]
    with pytest.raises(InputError, match=r'gif.*0\.01 frames.*\.mp4'):
        write_animation(iter([still] * 99), io.BytesIO(), 'gif', 0.01)
