"""The live tab: an endless video, streamed as it is generated."""

import asyncio
import json
import struct
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import torch
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from starlette.responses import HTMLResponse

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.inference import Latents, save_video

from .studio import Range, Studio

#: Viewers at a time; more are told to come back later.
MAX_VIEWERS = 32
#: Frames that are on their way to a viewer at a time: what is turned shows
#: after these.
MAX_UNSEEN = 4
#: Seconds that can be stepped back and saved.
MEMORY = 10
#: Smaller frames are enlarged for the screen.
LEAST_SIZE = 256
PAGE = Path(__file__).with_name('live.html')
# How messages to the page begin: their kind, and how many changes of the
# settings a frame shows.
HEADER = struct.Struct('<BI')
FRAME, RECORDING = 0, 1


class Viewer:
    """What one viewer sees.

    Args:
        live (Live): Renders.
    """

    def __init__(self, live: 'Live'):
        self.live = live
        self.settings = dict(live.defaults)
        self.change = 0
        self.time = 0.0
        self.paused = False
        #: Settings and times of the last frames.
        self.shown: deque = deque(maxlen=round(MEMORY * live.fps))
        self.unseen = 0
        self._ready = asyncio.Event()
        self._latents: tuple[dict, Latents] | None = None

    def told(self, message: dict) -> bool:
        """Take a message of the page; return whether it wants a recording.

        Raises:
            InputError: A setting is not there or out of range.
        """
        settings = message.get('settings', {})
        for name, value in settings.items():
            if name not in self.live.ranges:
                raise InputError(f'there is no control {name!r:.40}')
            self.live.ranges[name].check(value)
        change = int(message.get('change', self.change))
        if not 0 <= change < 2**32:
            raise InputError(f'change: there is no number {change}')
        self.settings, self.change = self.settings | settings, change
        self.paused = bool(message.get('paused', self.paused))
        if message.get('seen'):
            self.unseen = max(0, self.unseen - 1)
        self._ready.set()
        return bool(message.get('record'))

    async def watch(self, send: Callable) -> None:
        """Render and send frames until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            while self.paused or self.unseen >= MAX_UNSEEN:
                self._ready.clear()
                await self._ready.wait()
                due = loop.time()
            settings, change, time = self.settings, self.change, self.time
            frame = await self.live.render(self.latents(settings), time)
            picture = encode(frame, bool(settings['pixels']))
            self.shown.append((settings, time))
            self.time = (time + settings['speed']) % self.live.longest
            self.unseen += 1
            await send(HEADER.pack(FRAME, change) + picture)
            # Not faster than the video plays.
            due = max(due + 1 / self.live.fps, loop.time() - 1)
            await asyncio.sleep(max(0, due - loop.time()))

    def latents(self, settings: dict) -> Latents:
        """Return the latents of settings, which seldom change."""
        if self._latents is None or self._latents[0] != settings:
            self._latents = settings, self.live.studio.latents(settings)
        return self._latents[1]

    async def record(self) -> bytes:
        """Render the last seconds again, as a file."""
        shown = list(self.shown)
        frames = [
            await self.live.render(self.latents(settings), time)
            for settings, time in shown
        ]
        if not frames:
            raise InputError('there is nothing to save yet')
        folder = self.live.studio.new_folder('recordings')
        path = folder / 'live.mp4'
        video = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
        await asyncio.to_thread(save_video, [video], path, self.live.fps)
        return path.read_bytes()


class Live:
    """Streams for many viewers; their frames are rendered in turn.

    Args:
        studio (Studio): Knows the model and its controls.
    """

    def __init__(self, studio: Studio):
        self.studio = studio
        self.fps = min(max(studio.gan.fps, 1), 60)
        names = ['content_seed', 'motion_seed', 'truncation']
        names += ['label'] * bool(studio.num_classes)
        self.ranges = {
            **{name: studio.ranges[name] for name in names},
            'speed': Range('Speed', 0.1, 4, 0.1),
            **{name: studio.ranges[name] for name in studio.directions},
            'pixels': Range('Pixels', 0, 1),
        }
        #: Values at the start.
        self.defaults = dict.fromkeys(studio.directions, 0) | dict(
            content_seed=0, motion_seed=0, truncation=1, label=-1, speed=1,
            pixels=0,
        )  # fmt: skip
        #: Frames after which a stream begins anew.
        self.longest = studio.ranges['start'].most
        self.viewers: set[Viewer] = set()
        # One thread, first come, first served: everybody gets a frame in turn.
        self._thread = ThreadPoolExecutor(1)

    async def render(self, latents: Latents, time: float) -> np.ndarray:
        """Render a frame, [H, W, 3], uint8, when it is its turn."""

        def render() -> np.ndarray:
            t = torch.tensor([time], dtype=torch.float64)
            (frames,) = self.studio.gan.sampler.stream(latents, t)
            return frames[0, 0].permute(1, 2, 0).numpy()

        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, render)

    def about(self) -> dict:
        """Describe the controls to the page."""
        controls = [
            dict(
                name=name,
                label=limits.label,
                least=limits.least,
                most=limits.most,
                step=limits.step,
                value=self.defaults[name],
            )
            for name, limits in self.ranges.items()
            if name != 'pixels'
        ]
        return dict(controls=controls, fps=self.fps, memory=MEMORY)

    async def serve(self, socket: WebSocket) -> None:
        """Serve a viewer until the page is closed."""
        host = socket.headers.get('host')
        if urlsplit(socket.headers.get('origin', '')).netloc != host:
            await socket.close(1008)  # a page of somebody else
            return
        await socket.accept()
        if len(self.viewers) >= MAX_VIEWERS:
            problem = 'Too many are watching: come back later'
            await socket.send_text(json.dumps(dict(problem=problem)))
            await socket.close(1013)
            return
        viewer = Viewer(self)
        self.viewers.add(viewer)
        await socket.send_text(json.dumps(self.about()))
        watching = asyncio.create_task(viewer.watch(socket.send_bytes))
        recording: asyncio.Task | None = None
        try:
            while True:
                message = await socket.receive_text()
                try:
                    wanted = viewer.told(json.loads(message))
                except (
                    InputError,
                    ValueError,
                    TypeError,
                    AttributeError,
                ) as error:
                    problem = dict(problem=str(error)[:200])
                    await socket.send_text(json.dumps(problem))
                    continue
                if wanted and (recording is None or recording.done()):
                    recording = asyncio.create_task(_record(viewer, socket))
        except WebSocketDisconnect:
            pass
        finally:
            self.viewers.discard(viewer)
            watching.cancel()
            if recording is not None:
                recording.cancel()


async def _record(viewer: Viewer, socket: WebSocket) -> None:
    """Send a viewer the last seconds as a file."""
    try:
        await socket.send_bytes(
            HEADER.pack(RECORDING, 0) + await viewer.record()
        )
    except InputError as error:
        await socket.send_text(json.dumps(dict(problem=str(error))))


def encode(frame: np.ndarray, pixels: bool) -> bytes:
    """Encode a frame [H, W, 3] for the page.

    Args:
        frame: RGB, uint8.
        pixels: Whether to send it as it is; else, small frames are enlarged
            sharply (Lanczos).
    """
    picture = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    if pixels:
        return cv2.imencode('.png', picture)[1].tobytes()
    scale = -(-LEAST_SIZE // len(picture))
    if scale > 1:
        size = (scale * picture.shape[1], scale * picture.shape[0])
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_LANCZOS4)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 90]
    return cv2.imencode('.jpg', picture, quality)[1].tobytes()


def add_live(app: FastAPI, live: Live) -> None:
    """Add the page and its stream to an application."""
    page = PAGE.read_text('utf-8')

    @app.get('/live', response_class=HTMLResponse)
    def show() -> str:
        return page

    @app.websocket('/live/stream')
    async def stream(socket: WebSocket) -> None:
        await live.serve(socket)
