"""The web demo: a real server, real requests, and a real browser."""

import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch

from projects.web_demo.web_demo import studio as studio_module
from projects.web_demo.web_demo.studio import Studio
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.inference import Latents, VideoGANInferencer, find_model
from stylegan_v_mm.registry import MODELS
from stylegan_v_mm.video.decoding import decode_frames
from stylegan_v_mm.video.index import index_video

httpx = pytest.importorskip('httpx')
if find_spec('gradio') is None:  # takes seconds to import
    pytest.skip('requirements/tests.txt has gradio', allow_module_level=True)
SESSIONS = count()
ROOT = Path(__file__).parents[2]
APP = ROOT / 'projects/web_demo/app.py'
CONFIG = """
model = dict(
    type='StyleGANV',
    generator=dict(
        type='StyleGANVGenerator', resolution=32, c_dim=3, z_dim=16,
        w_dim=16, motion_z_dim=16, motion_v_dim=32, time_enc_dim=16,
        channel_max=16, motion_z_distance=16,
    ),
    discriminator=dict(
        type='StyleGANVDiscriminator', resolution=32, c_dim=3,
        num_frames=3, max_num_frames=64, channel_max=16,
    ),
    r1_gamma=1,
)
"""
SETTINGS = dict(
    content_seed=3,
    motion_seed=4,
    truncation=0.7,
    label=1,
    **{f'direction_{i}': 0 for i in range(1, 7)},
    num_frames=20,
    fps=10,
    slow_motion=2,
    start=5.5,
    loop=False,
)


def make_work_dir(folder, config=CONFIG):
    """Make a small generator with random weights."""
    folder.mkdir()
    (folder / 'small.py').write_text(config)
    variables = {}
    exec(config, variables)
    torch.manual_seed(0)
    gan = MODELS.build(variables['model'])
    for name, param in gan.generator_ema.named_parameters():
        if name.endswith('bias'):
            param.data += 0.3 * torch.randn_like(param)
    torch.save({'state_dict': gan.state_dict()}, folder / 'iter_1.pth')
    return folder


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    return make_work_dir(tmp_path_factory.mktemp('web') / 'model')


@pytest.fixture(scope='module')
def gan(work_dir):
    return VideoGANInferencer(work_dir, device='cpu')


class Site(NamedTuple):
    """A running server."""

    url: str
    temporary: Path
    log: Path

    def join(self, endpoint, settings, session):
        """Ask for something as the page does; return the response."""
        config = httpx.get(f'{self.url}/config').json()
        (number,) = (
            part['id']
            for part in config['dependencies']
            if part['api_name'] == endpoint
        )
        # json.dumps writes what no JSON has, such as NaN, too.
        body = dict(
            data=list(settings.values()),
            fn_index=number,
            session_hash=session,
        )
        return httpx.post(
            f'{self.url}/gradio_api/queue/join',
            content=json.dumps(body),
            headers={'Content-Type': 'application/json'},
        )

    def ask(self, endpoint, settings):
        """Ask for something as the page does; return how it ended."""
        session = f'session{next(SESSIONS)}'
        response = self.join(endpoint, settings, session)
        if response.status_code != 200:
            return response.json()
        url = f'{self.url}/gradio_api/queue/data?session_hash={session}'
        with httpx.stream('GET', url, timeout=60) as stream:
            for line in stream.iter_lines():
                if '"process_completed"' in line:
                    return json.loads(line.removeprefix('data: '))['output']
        raise AssertionError('the server said nothing')


@pytest.fixture(scope='module')
def site(work_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp('site')
    site = Site('', folder / 'tmp', folder / 'log.txt')
    site.temporary.mkdir()
    with site.log.open('w') as log:
        server = subprocess.Popen(
            [sys.executable, APP, work_dir, '--port=0', '--max-frames=96'],
            cwd=ROOT,
            env={
                **os.environ,
                'OMP_NUM_THREADS': '1',
                'TMPDIR': str(site.temporary),
            },
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            url = server.stdout.readline().strip()
            assert url.startswith('http://127.0.0.1:'), site.log.read_text()
            yield site._replace(url=url)
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                status = server.wait(60)
            finally:
                server.kill()
                server.stdout.close()
    assert status == 0
    assert list(site.temporary.iterdir()) == []


@pytest.fixture(scope='module')
def half_a_request(site):
    """A connection whose client sends no more."""
    host, port = site.url.removeprefix('http://').split(':')
    with socket.create_connection((host, int(port)), timeout=60) as slow:
        slow.sendall(
            b'POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\n'
            b'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{'
        )
        yield slow


def frames_of(path):
    index = index_video(path)
    return decode_frames(index, np.arange(index.num_frames)).astype(float)


# What programs get


# It is given up after ten seconds, in which other tests can run.
@pytest.mark.usefixtures('half_a_request')
def test_a_video_is_that_of_its_seeds(site, gan, tmp_path):
    client_module = pytest.importorskip('gradio_client')
    client = client_module.Client(
        site.url, verbose=False, download_files=tmp_path
    )
    video, mp4, latents = client.predict(**SETTINGS, api_name='/video')
    path = mp4['value']
    assert Path(path).name == 'content_3_motion_4.mp4'
    assert (
        Path(path).read_bytes() == Path(video['value']['video']).read_bytes()
    )
    index = index_video(path)
    assert (index.num_frames, index.fps) == (20, 10)
    expected = gan.sample(
        seeds=[3],
        motion_seeds=[4],
        labels=1,
        truncation_psi=0.7,
        num_frames=20,
        slow_motion=2,
        time_offset=5.5,
    )[0]
    # x264 keeps half of the colours' resolution.
    expected = expected.permute(0, 2, 3, 1).numpy().astype(float)
    assert abs(frames_of(path) - expected).mean() < 4
    loaded = Latents.load(latents['value'], gan.sampler.generator)
    (again,) = gan.stream(loaded, gan.times(20, 5.5, 2))
    assert torch.equal(
        again[0].permute(0, 2, 3, 1), torch.from_numpy(expected).byte()
    )


def value_of(output):
    assert 'error' not in output, output
    return output['data'][0]['value']['video']['path']


def test_rows_share_a_motion_and_columns_a_content(site, gan):
    settings = {'rows': 2} | SETTINGS | {'num_frames': 8}
    grid = frames_of(value_of(site.ask('grid', settings)))
    assert grid.shape == (8, 66, 66, 3)
    for row, column in np.ndindex(2, 2):
        expected = gan.sample(
            seeds=[3 + column],
            motion_seeds=[4 + row],
            labels=1,
            truncation_psi=0.7,
            num_frames=8,
            slow_motion=2,
            time_offset=5.5,
        )[0]
        cell = grid[:, 34 * row :, 34 * column :][:, :32, :32]
        difference = cell - expected.permute(0, 2, 3, 1).numpy()
        assert abs(difference).mean() < 5


def test_a_loop_closes(site):
    settings = SETTINGS | dict(num_frames=40, slow_motion=2.5, loop=True)
    frames = frames_of(value_of(site.ask('video', settings)))
    steps = abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    assert abs(frames[0] - frames[-1]).mean() <= steps.max()
    other = frames_of(value_of(site.ask('video', settings | {'loop': False})))
    assert abs(other[0] - other[-1]).mean() > steps.max()


def picture_at(site, **settings):
    settings = {'moment': 0, 'start': 0} | SETTINGS | settings
    for name in ('num_frames', 'fps', 'slow_motion', 'loop'):
        del settings[name]
    output = site.ask('moment', settings)
    assert 'error' not in output, output
    response = httpx.get(output['data'][0]['url'])
    assert response.headers['content-type'] == 'image/png'
    picture = cv2.imdecode(np.frombuffer(response.content, np.uint8), 1)
    return picture[:, :, ::-1].astype(float)


def test_any_moment_is_the_frame_of_that_time(site, gan):
    expected = gan.sample(
        seeds=[3],
        motion_seeds=[4],
        labels=1,
        truncation_psi=0.7,
        num_frames=1,
        time_offset=5.5 + 20.3,
    )[0, 0]
    picture = picture_at(site, moment=20.3)
    assert (picture == expected.permute(1, 2, 0).numpy()).all()


def test_a_direction_changes_what_is_seen(site):
    before = picture_at(site)
    one, three = (picture_at(site, direction_1=x) for x in (1, 3))
    changes = [abs(after - before).mean() for after in (one, three)]
    assert 0 < changes[0] < changes[1]
    assert not np.array_equal(one, picture_at(site, direction_2=1))


# What is refused


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('num_frames', 10**9, 'Length: give a whole number from 1 to 96'),
        ('num_frames', 2.5, 'Length: give a whole number'),
        ('num_frames', 0, 'Length'),
        ('num_frames', '20', 'Length'),
        ('num_frames', True, 'Length'),
        ('num_frames', None, 'Length: .* not nothing'),
        ('content_seed', -1, 'Content seed: give a whole number from 0'),
        ('content_seed', 10**4000, 'Content seed'),
        ('motion_seed', 2**31, 'Motion seed'),
        ('motion_seed', [1], 'Motion seed'),
        ('motion_seed', '<b>', 'Motion seed: .*&lt;b&gt;'),
        ('truncation', 1.5, 'Truncation: give a number from 0 to 1, not 1.5'),
        ('fps', 0, 'Frame rate'),
        ('fps', float('nan'), 'Frame rate'),
        ('slow_motion', float('inf'), 'Slow motion'),
        ('slow_motion', 1e-9, 'Slow motion'),
        ('start', 2e6, 'Start: give a number from 0 to 1000000'),
        ('direction_6', 4, 'Direction 6'),
        ('label', 3, '3 is not in the list'),
        ('rows', 1000, 'Rows and columns: give a whole number from 2 to 4'),
    ],
)
def test_bad_values_are_refused(site, name, value, message):
    settings, endpoint = SETTINGS | {name: value}, 'video'
    if name == 'rows':
        settings, endpoint = {'rows': value} | SETTINGS, 'grid'
    output = site.ask(endpoint, settings)
    assert re.search(message, output['error']), output
    assert len(output['error']) < 200
    if name != 'label':
        assert output['title'] == 'That does not work'


def test_what_no_page_sends_tells_nothing(site):
    assert site.ask('video', {'only': 1}) == {'error': None}


def test_closed_doors(site):
    post = httpx.post
    api = f'{site.url}/gradio_api'
    body = {'data': list(SETTINGS.values())}
    # Around the queue; files; other sites; more than a few numbers.
    assert post(f'{api}/run/video', json=body).status_code == 404
    files = {'files': b'x'}
    assert post(f'{api}/upload', files=files).status_code == 403
    assert httpx.get(f'{api}/proxy=http://a.hf.space').status_code == 403
    body['data'].append('x' * 70_000)
    assert post(f'{api}/queue/join', json=body).status_code == 413
    chunks = iter([b'{}'])
    assert post(f'{api}/queue/join', content=chunks).status_code == 413
    path = ROOT / 'setup.py'
    assert httpx.get(f'{api}/file={path}').status_code == 403


def test_the_queue_is_bounded(site):
    slow = {'rows': 3} | SETTINGS | {'num_frames': 96}
    quick = SETTINGS | {'num_frames': 1}
    with ThreadPoolExecutor(16) as pool:
        first = pool.submit(site.ask, 'grid', slow)
        time.sleep(0.3)
        others = [pool.submit(site.ask, 'video', quick) for _ in range(14)]
        outputs = [other.result() for other in others]
        assert 'error' not in first.result()
    refused = [o for o in outputs if 'full' in o.get('detail', '')]
    answered = [o for o in outputs if 'data' in o]
    assert len(refused) + len(answered) == 14
    assert 1 <= len(refused) <= 14 - 8 + 1


def test_a_request_must_arrive_in_time(site, half_a_request):
    """Half a request takes no place for ever, and the others are served."""
    assert 'error' not in site.ask('video', SETTINGS | {'num_frames': 1})
    assert half_a_request.recv(100).startswith(b'HTTP/1.1 408')


def test_refusals_do_not_fill_the_log(site):
    before = site.log.read_text()
    assert 'error' in site.ask('video', SETTINGS | {'fps': 0})
    assert site.log.read_text() == before


# Limits, without a server


@pytest.fixture
def studio(gan, tmp_path):
    return Studio(gan, tmp_path)


def test_old_results_are_deleted(studio, tmp_path, monkeypatch):
    monkeypatch.setattr(studio_module, 'MAX_RESULTS', 3)
    settings = SETTINGS | {'moment': 0}
    results = [
        Path(studio.moment(settings | {'content_seed': seed}))
        for seed in range(5)
    ]
    assert [path.exists() for path in results] == [False] * 2 + [True] * 3
    assert len(list(tmp_path.glob('moments/*'))) == 3
    # Frames do not push out videos.
    video = studio.video(SETTINGS, lambda share: None)
    for _ in range(5):
        studio.moment(settings)
    assert Path(video.video).exists()


def test_long_work_is_stopped(studio, tmp_path):
    studio.time_limit = 0
    shares = []
    with pytest.raises(InputError, match='stopped after 32 of 40 frames'):
        studio.video(SETTINGS | {'num_frames': 40}, shares.append)
    assert shares == [0.8]
    assert not [path for path in tmp_path.rglob('*') if path.is_file()]


def test_too_many_pixels_are_refused(studio, monkeypatch):
    monkeypatch.setattr(studio_module, 'MAX_PIXELS', 20 * 64**2)
    grid = {'rows': 2} | SETTINGS
    studio.video(grid, lambda share: None)
    with pytest.raises(InputError, match=r'21 frames .* take 20 or fewer'):
        studio.video(grid | {'num_frames': 21}, lambda share: None)


def test_lstm_codes_neither_loop_nor_start_late(tmp_path):
    lstm = "motion_type='lstm', fourier=False,"
    config = CONFIG.replace('motion_z_distance', f'{lstm} motion_z_distance')
    work_dir = make_work_dir(tmp_path / 'lstm', config)
    studio = Studio(VideoGANInferencer(work_dir, device='cpu'), tmp_path)
    settings = SETTINGS | {'num_frames': 2}
    assert Path(studio.video(settings, lambda share: None).video).exists()
    for name, value in (('loop', True), ('start', 1001)):
        with pytest.raises(InputError, match=f'(?i){name}'):
            studio.video(settings | {name: value}, lambda share: None)


# Starting


def test_a_taken_port(run_script, monkeypatch, work_dir):
    monkeypatch.syspath_prepend(str(APP.parent))
    for name in ('GRADIO_TEMP_DIR', 'GRADIO_ANALYTICS_ENABLED'):
        monkeypatch.setenv(name, '')
    handler = signal.getsignal(signal.SIGTERM)
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        result = run_script(APP, work_dir, f'--port={port}')
    signal.signal(signal.SIGTERM, handler)
    assert result.returncode == 2
    assert result.stderr.startswith(f'error: --host 127.0.0.1 --port {port}')


def test_without_a_model_it_is_the_one_of_the_package(monkeypatch):
    monkeypatch.syspath_prepend(str(APP.parent))
    monkeypatch.setattr('sys.argv', [str(APP)])
    args = runpy.run_path(str(APP))['parse_args']()
    model = find_model(args.model, args.checkpoint)
    assert model.checkpoint.endswith('zoo/rc_track_64.safetensors')


# A browser


class Loads(HTMLParser):
    """Lists what a page makes the browser load."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        names = {'script': 'src', 'link': 'href', 'img': 'src'}
        address = dict(attrs).get(names.get(tag))
        if address:
            self.found.append(address)


def test_the_page_names_no_other_site(site):
    response = httpx.get(site.url)
    found = Loads(response.text).found
    assert any(address.endswith('.js') for address in found)
    assert not [address for address in found if '//' in address]
    policy = response.headers['content-security-policy']
    assert 'http' not in policy


READ_FRAMES = """async times => {
    const video = document.querySelector('video');
    const context = document.createElement('canvas').getContext('2d');
    const frames = [];
    video.pause();
    for (const time of times) {
        const seeked = new Promise(
            done => video.addEventListener('seeked', done, {once: true}));
        video.currentTime = time;
        await seeked;
        context.drawImage(video, 0, 0);
        frames.push(Array.from(context.getImageData(0, 0, 32, 32).data));
    }
    return frames;
}"""
IS_READY = """() => {
    const video = document.querySelector('video');
    return video && video.readyState >= 2 && video.src != window.before;
}"""


def make_video(page, **seeds):
    """Click; return some frames as the browser shows them."""
    for what, seed in seeds.items():
        page.get_by_label(f'{what.capitalize()} seed').fill(str(seed))
    page.evaluate(
        "() => {window.before = document.querySelector('video')?.src}"
    )
    page.get_by_role('button', name='Make the video').click()
    page.wait_for_function(IS_READY)
    times = [(i + 0.5) / 25 for i in range(0, 64, 8)]
    frames = np.array(page.evaluate(READ_FRAMES, times), float)
    return frames.reshape(len(times), 32, 32, 4)[..., :3]


def test_in_a_browser(site, browser):
    page = browser.new_page(viewport=dict(width=1280, height=900))
    requests = []
    page.on('request', lambda request: requests.append(request.url))
    page.goto(site.url)
    # It opens on the live video.
    inner = page.frame_locator('iframe.live')
    inner.get_by_text('frames a second').wait_for()
    page.get_by_role('tab', name='Make', exact=True).click()

    frames = make_video(page, content=0, motion=0)
    video = page.locator('video')
    assert video.evaluate('v => v.readyState') >= 2
    assert video.evaluate('v => v.duration') == pytest.approx(64 / 25, 0.01)
    video.evaluate('v => {v.currentTime = 0; return v.play()}')
    page.wait_for_function(
        "() => document.querySelector('video').currentTime > 0.2"
    )

    def colour_difference(other):
        return abs(frames[0].mean((0, 1)) - other[0].mean((0, 1))).max()

    moved = make_video(page, motion=1)
    other = make_video(page, motion=0, content=1)
    steps = abs(np.diff(frames, axis=0)).mean()
    assert abs(moved - frames)[1:].mean() > steps
    assert colour_difference(moved) < colour_difference(other) / 5

    # The scrubber.
    page.get_by_role('tab', name='Any moment').click()
    picture = page.locator('.frame img')
    first = picture.get_attribute('src')
    page.get_by_label('number input for Moment').fill('12.5')
    page.wait_for_function(
        "src => document.querySelector('.frame img').src != src", arg=first
    )
    page.get_by_role('tab', name='Video').click()

    # Bad values: a message, and nothing more.
    for bad, message in (
        ('-1', 'Content seed: give a whole number from 0'),
        ('', 'not nothing'),
    ):
        page.get_by_label('Content seed').fill(bad)
        page.get_by_role('button', name='Make the video').click()
        page.get_by_text(message).wait_for()
    assert 'Traceback' not in page.content()

    ours = (site.url, 'blob:', 'data:')
    assert [url for url in requests if not url.startswith(ours)] == []
    page.close()
