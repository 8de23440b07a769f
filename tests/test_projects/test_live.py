"""The live tab: streams over real sockets, and in a real browser."""

import json
import re
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from small_model import make_work_dir

from projects.web_demo.web_demo.studio import Studio
from stylegan_v_mm.inference import VideoGANInferencer
from stylegan_v_mm.video.decoding import decode_frames
from stylegan_v_mm.video.index import index_video

if find_spec('fastapi') is None or find_spec('websockets') is None:
    pytest.skip('requirements/tests.txt has gradio', allow_module_level=True)

import uvicorn
from fastapi import FastAPI
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from projects.web_demo.web_demo import live as live_module
from projects.web_demo.web_demo.live import Live, add_live
from projects.web_demo.web_demo.server import listen


@pytest.fixture(scope='module')
def gan(tmp_path_factory):
    folder = make_work_dir(tmp_path_factory.mktemp('live') / 'model', 3)
    return VideoGANInferencer(folder, device='cpu')


@pytest.fixture(scope='module')
def live(gan, tmp_path_factory):
    return Live(Studio(gan, tmp_path_factory.mktemp('results')))


@pytest.fixture(scope='module')
def address(live):
    """A server in a thread of this process."""
    app = FastAPI()
    add_live(app, live)
    server = uvicorn.Server(uvicorn.Config(app, log_level='warning'))
    with listen('127.0.0.1', 0) as listener:
        host = '{}:{}'.format(*listener.getsockname()[:2])
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield host
        server.should_exit = True
        thread.join()


class Page:
    """What the page does, without a browser."""

    def __init__(self, address):
        self.socket = connect(
            f'ws://{address}/live/stream', origin=f'http://{address}'
        )
        self.about = json.loads(self.socket.recv(10))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def tell(self, **message):
        self.socket.send(json.dumps(message))

    def next(self, timeout=10):
        """Return the next message: text, or (kind, change, content)."""
        data = self.socket.recv(timeout)
        if isinstance(data, str):
            return json.loads(data)
        return (*struct.unpack('<BI', data[:5]), data[5:])

    def frames(self, count, seen=True):
        """Return the next frames as (change, picture)."""
        frames = []
        while len(frames) < count:
            kind, change, content = self.next()
            assert kind == 0
            image = cv2.imdecode(np.frombuffer(content, np.uint8), 1)
            frames.append((change, image[..., ::-1].astype(int)))
            if seen:
                self.tell(seen=True)
        return frames


def expected(gan, seed, t, **options):
    latents = gan.latents([seed], None, [0], **options)
    t = torch.tensor([t], dtype=torch.float64)
    (frames,) = gan.sampler.stream(latents, t)
    return frames[0, 0].permute(1, 2, 0).numpy().astype(int)


def test_frames_are_those_of_the_controls(address, gan):
    with Page(address) as page:
        names = [control['name'] for control in page.about['controls']]
        assert names[:5] == [
            *('content_seed', 'motion_seed', 'truncation', 'label', 'speed'),
        ]
        page.tell(settings=dict(pixels=1), change=1)
        frames = page.frames(12)
        changes = [change for change, _ in frames]
        assert changes == sorted(changes)
        # Frames that were on their way, and not more, are of before.
        assert changes.count(0) <= live_module.MAX_UNSEEN + 1
        for t, (change, frame) in enumerate(frames):
            if change == 1:
                assert np.array_equal(frame, expected(gan, 0, t))
        page.tell(settings=dict(content_seed=7, truncation=0.5), change=2)
        frames = page.frames(8)
        change, frame = frames[-1]
        assert change == 2
        ours = expected(gan, 7, 12 + 7, truncation_psi=0.5)
        assert np.array_equal(frame, ours)
        page.tell(settings=dict(speed=0.5), change=3)
        page.frames(8)
        a, b = (frame for _, frame in page.frames(2))
        times = np.arange(20, 40, 0.5)
        ours = [expected(gan, 7, t, truncation_psi=0.5) for t in times]
        (place,) = (
            i
            for i, (x, y) in enumerate(pairwise(ours))
            if np.array_equal(x, a) and np.array_equal(y, b)
        )
        assert place > 0


def test_small_frames_are_enlarged(address, gan):
    with Page(address) as page:
        ((_, frame),) = page.frames(1)
    assert frame.shape == (256, 256, 3)
    small = cv2.resize(
        frame.astype(np.uint8), (32, 32), interpolation=cv2.INTER_AREA
    )
    assert abs(small - expected(gan, 0, 0)).mean() < 4


def test_who_does_not_look_gets_no_more(address):
    """So nothing is rendered for a page that is hidden or slow."""
    with Page(address) as page:
        page.frames(live_module.MAX_UNSEEN, seen=False)
        with pytest.raises(TimeoutError):
            page.next(timeout=0.5)
        page.tell(seen=True)
        page.frames(1, seen=False)


def test_pausing_stops_time(address, gan):
    with Page(address) as page:
        page.tell(settings=dict(pixels=1), paused=True, change=1)
        count = 0
        with suppress(TimeoutError):
            while count < 50:
                page.next(timeout=0.5)
                page.tell(seen=True)
                count += 1
        assert count < 10
        page.tell(paused=False)
        ((_, frame),) = page.frames(1)
        assert np.array_equal(frame, expected(gan, 0, count))


def test_the_last_seconds_are_saved(address, gan, tmp_path):
    with Page(address) as page:
        page.frames(6)
        page.tell(settings=dict(content_seed=4), change=1)
        frames = page.frames(10)
        page.tell(paused=True)
        with suppress(TimeoutError):
            while len(frames) < 50:
                frames.append(page.next(timeout=0.5))
                page.tell(seen=True)
        page.tell(record=True)
        message = page.next()
        assert message[0] == 1
    path = tmp_path / 'live.mp4'
    path.write_bytes(message[2])
    index = index_video(path)
    assert index.num_frames == 6 + len(frames)
    assert index.fps == gan.fps
    video = decode_frames(index, np.arange(index.num_frames)).astype(int)
    assert abs(video[0] - expected(gan, 0, 0)).mean() < 6
    last = index.num_frames - 1
    assert abs(video[last] - expected(gan, 4, last)).mean() < 6


@pytest.mark.parametrize(
    ('message', 'problem'),
    [
        ({'settings': {'truncation': 2}}, 'Truncation: give a number from 0'),
        ({'settings': {'content_seed': None}}, 'not nothing'),
        ({'settings': {'nonsense': 1}}, "no control 'nonsense'"),
        ({'change': -1}, 'there is no number -1'),
        ([], ''),
        ('}', ''),
    ],
)
def test_bad_messages_are_refused(address, message, problem):
    with Page(address) as page:
        page.tell(paused=True)
        text = message if isinstance(message, str) else json.dumps(message)
        page.socket.send(text)
        while isinstance(answer := page.next(), tuple):
            pass
        assert problem in answer['problem']
        page.tell(paused=False, seen=True)
        page.frames(1)


def test_pages_of_others_are_refused(address):
    for origin in ('http://elsewhere.example', None):
        with pytest.raises((InvalidStatus, ConnectionClosed)):
            connect(f'ws://{address}/live/stream', origin=origin).recv(5)


def test_twenty_viewers_take_turns(address, live):
    """And when they have gone, nothing is rendered for them."""
    pages = [Page(address) for _ in range(20)]
    assert len(live.viewers) == 20

    def look(page):
        count, end = 0, time.monotonic() + 3
        while time.monotonic() < end:
            page.frames(1)
            count += 1
        return count

    with ThreadPoolExecutor(20) as pool:
        counts = list(pool.map(look, pages))
    assert min(counts) > max(counts) / 3
    for page in pages:
        page.socket.close()
    for _ in range(100):
        if not live.viewers:
            break
        time.sleep(0.05)
    assert not live.viewers


def test_too_many_viewers(address, live, monkeypatch):
    monkeypatch.setattr(live_module, 'MAX_VIEWERS', 1)
    with Page(address), Page(address) as second:
        assert 'Too many' in second.about['problem']


def test_the_live_page_in_a_browser(address, browser):
    page = browser.new_page(viewport=dict(width=1280, height=900))
    page.goto(f'http://{address}/live')
    state = page.locator('#state')
    page.wait_for_function(
        '() => /[1-9]\\d* of 20|[1-9]\\d* of 25/.test('
        "document.querySelector('#state').textContent)"
    )
    picture = "() => document.querySelector('#screen').toDataURL()"
    before = page.evaluate(picture)
    page.wait_for_function(f'before => ({picture})() !== before', arg=before)
    page.get_by_label('Content seed').fill('5')
    page.wait_for_function(
        "() => document.querySelector('#state').textContent.includes('ms')"
    )
    assert re.search(r'shown after \d+ ms', state.inner_text())
    page.get_by_role('button', name='Pause').click()
    page.wait_for_timeout(400)
    newest = page.evaluate(picture)
    page.get_by_role('button', name='Step back').click()
    page.wait_for_function(
        '() => /0\\.\\d+ s ago/.test('
        "document.querySelector('#state').textContent)"
    )
    page.wait_for_timeout(100)
    assert page.evaluate(picture) != newest
    page.get_by_role('button', name='Step forward').click()
    page.wait_for_timeout(100)
    assert page.evaluate(picture) == newest
    with page.expect_download() as download:
        page.get_by_role('button', name='Save the last').click()
    assert download.value.suggested_filename == 'live.mp4'
    page.get_by_role('button', name='Go on').click()
    page.wait_for_function(f'before => ({picture})() !== before', arg=newest)
    page.get_by_label('Pixels').check()
    page.wait_for_function(
        "() => document.querySelector('#screen').width === 32"
    )
    page.close()
    # On a phone, the video comes first and is as wide as the screen.
    phone = browser.new_page(viewport=dict(width=390, height=844))
    phone.goto(f'http://{address}/live')
    phone.locator('#controls input').first.wait_for()
    screen = phone.locator('#screen').bounding_box()
    controls = phone.locator('#controls').bounding_box()
    assert screen['y'] < 20
    assert screen['width'] > 350
    assert controls['y'] > screen['y'] + screen['height']
    assert phone.evaluate('document.body.scrollWidth') <= 390
    phone.close()
