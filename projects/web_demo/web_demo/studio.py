"""Answering requests: check settings, render within limits, write files."""

import reprlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.inference import Latents, VideoGANInferencer, save_video
from stylegan_v_mm.inference.directions import move, sefa_directions
from stylegan_v_mm.inference.writing import grids, pictures
from stylegan_v_mm.models.latents import decompose

#: Most pixels of a request, over all frames and videos: 1024 frames at 256 px.
MAX_PIXELS = 2**26
#: Results of each kind that are kept on disk, for all visitors together.
MAX_RESULTS = 100
#: Directions of contents that get a slider.
NUM_DIRECTIONS = 6


class Range(NamedTuple):
    """The range of a control.

    Attributes:
        label: Name of the control in the page.
        least: The smallest number.
        most: The largest number.
        step: Step of its slider; 1 allows only whole numbers.
    """

    label: str
    least: float
    most: float
    step: float = 1

    def check(self, value: object) -> None:
        """Check that a value is in the range.

        Raises:
            InputError: It is not such a number.
        """
        whole = self.step == 1
        if (
            type(value) not in (int, float)
            or not self.least <= value <= self.most
            or (whole and value != int(value))
        ):
            given = 'nothing' if value is None else reprlib.repr(value)
            raise InputError(
                f'{self.label}: give a {"whole " if whole else ""}number from '
                f'{self.least} to {self.most}, not {given}'
            )


class Result(NamedTuple):
    """Files that answer a request, and a sentence about them."""

    video: str
    latents: str
    about: str


class Studio:
    """Render the requests of visitors.

    Settings map the names in ``ranges``, and 'loop', to values.

    Args:
        gan (VideoGANInferencer): The generator.
        folder (Path): Folder for results, of which the oldest are deleted.
        max_frames (int): Most frames of a video. Defaults to 256.
        time_limit (float): Most seconds of work per request. Defaults to 60.
    """

    def __init__(
        self,
        gan: VideoGANInferencer,
        folder: Path,
        max_frames: int = 256,
        time_limit: float = 60,
    ):
        self.gan = gan
        self.folder = folder
        self.time_limit = time_limit
        network = gan.sampler.generator
        self.resolution = network.resolution
        self.num_classes = network.c_dim
        encoder = network.motion_encoder
        # The states of an LSTM must be computed from time 0 on.
        recurrent = encoder is not None and encoder.recurrent
        self.can_loop = not recurrent
        count = min(NUM_DIRECTIONS, network.w_dim)
        directions = sefa_directions(gan.sampler, count)
        #: Directions [w_dim] by the names of their controls.
        self.directions = {
            f'direction_{i}': direction
            for i, direction in enumerate(directions, 1)
        }
        #: Ranges of the page's controls by their names.
        self.ranges = {
            'content_seed': Range('Content seed', 0, 2**31 - 1),
            'motion_seed': Range('Motion seed', 0, 2**31 - 1),
            'truncation': Range('Truncation', 0, 1, 0.05),
            'label': Range('Class', -1, self.num_classes - 1),
            **{
                name: Range(name.replace('_', ' ').capitalize(), -3, 3, 0.1)
                for name in self.directions
            },
            'num_frames': Range('Length', 1, max_frames),
            'fps': Range('Frame rate', 1, 60, 0.5),
            'slow_motion': Range('Slow motion', 1, 16, 0.5),
            'start': Range('Start', 0, 1000 if recurrent else 10**6, 0.1),
            'moment': Range('Moment', 0, max_frames, 0.1),
            'rows': Range('Rows and columns', 2, 4),
        }

    def check(self, settings: dict) -> None:
        """Check settings.

        Raises:
            InputError: One is of the wrong kind or out of range.
        """
        for name, value in settings.items():
            if name in self.ranges:
                self.ranges[name].check(value)
        if settings.get('loop') and not self.can_loop:
            raise InputError('Loop: LSTM motion codes cannot loop')

    def moment(self, settings: dict) -> str:
        """Render the frame at time 'start' + 'moment'.

        Args:
            settings (dict): Settings, which are checked here.

        Returns:
            str: Path of a png file.

        Raises:
            InputError: A setting is out of range.
        """
        self.check(settings)
        t = self.gan.times(1, settings['start'] + settings['moment'])
        (frames,) = self.gan.stream(self.latents(settings), t)
        (picture,) = pictures(frames)
        path = self.new_folder('moments') / f'{file_name(settings)}.png'
        picture.save(path)
        return str(path)

    def video(
        self, settings: dict, progress: Callable[[float], None]
    ) -> Result:
        """Render a video.

        With the setting 'rows', it is a grid with this many rows and columns:
        rows share a motion, columns a content, and seeds count up.

        Args:
            settings (dict): Settings, which are checked here.
            progress (callable): Called with the finished share, in [0, 1].

        Returns:
            Result: The video, and the latents of all videos in it.

        Raises:
            InputError: A setting is out of range, the request has too many
                pixels, or it takes too long.
        """
        begin = time.monotonic()
        self.check(settings)
        num_frames = int(settings['num_frames'])
        rows = int(settings.get('rows', 1))
        most = MAX_PIXELS // (rows * self.resolution) ** 2
        if num_frames > most:
            raise InputError(
                f'Length: {num_frames} frames are too much for {rows**2} '
                f'videos of {self.resolution} px, take {most} or fewer'
            )
        loop_codes = None
        if settings['loop']:
            loop_codes = self.gan.loop_codes(
                num_frames / settings['slow_motion']
            )
        t = self.gan.times(
            num_frames, settings['start'], settings['slow_motion'], loop_codes
        )
        latents = decompose(self.latents(settings, rows, loop_codes))
        chunk = max(1, min(32, 2**20 // self.resolution**2))
        pieces = grids(self.gan.stream(latents, t, chunk), rows)
        path = self.new_folder('videos') / f'{file_name(settings)}.mp4'
        save_video(
            self._in_time(pieces, num_frames, begin, progress),
            path,
            settings['fps'],
        )
        latents.save(path.with_suffix('.safetensors'))
        return Result(
            str(path),
            str(path.with_suffix('.safetensors')),
            f'{num_frames} frames, {num_frames / settings["fps"]:.1f} s, made '
            f'in {time.monotonic() - begin:.1f} s',
        )

    def latents(
        self, settings: dict, count: int = 1, loop_codes: int | None = None
    ) -> Latents:
        """Return the latents of videos whose seeds count up.

        Args:
            settings (dict): Settings of content and motion.
            count (int): How many videos. Defaults to 1.
            loop_codes (int, optional): See ``VideoGANInferencer.latents``.
        """
        label = int(settings['label'])
        latents = self.gan.latents(
            [int(settings['content_seed']) + i for i in range(count)],
            None if label == -1 else label,
            [int(settings['motion_seed']) + i for i in range(count)],
            settings['truncation'],
            loop_codes=loop_codes,
        )
        for name, direction in self.directions.items():
            latents.ws = move(latents.ws, direction, settings[name])
        return latents

    def _in_time(
        self,
        pieces: Iterable[Tensor],
        num_frames: int,
        begin: float,
        progress: Callable[[float], None],
    ) -> Iterator[Tensor]:
        """Pass frames on until the time limit."""
        done = 0
        for frames in pieces:
            yield frames
            done += len(frames)
            progress(done / num_frames)
            seconds = time.monotonic() - begin
            if done < num_frames and seconds > self.time_limit:
                raise InputError(
                    f'Length: stopped after {done} of {num_frames} frames, as '
                    f'{self.time_limit:g} s are over; take fewer'
                )

    def new_folder(self, kind: str) -> Path:
        """Make a folder for a result, and delete the oldest of its kind."""
        parent = self.folder / kind
        parent.mkdir(exist_ok=True)
        folders = sorted(parent.iterdir(), key=lambda f: f.stat().st_mtime)
        for folder in folders[: max(0, len(folders) - MAX_RESULTS + 1)]:
            shutil.rmtree(folder)
        return Path(tempfile.mkdtemp(dir=parent))


def file_name(settings: dict) -> str:
    """Name a result so that a folder of downloads makes sense."""
    content, motion = settings['content_seed'], settings['motion_seed']
    return f'content_{content:.0f}_motion_{motion:.0f}'
