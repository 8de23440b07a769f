"""Train recipes in turns, measure them, and put the figures side by side."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from stylegan_v_mm.checkpoints.saving import numbered_checkpoints
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import atomic_write
from stylegan_v_mm.reports.curves import read_lines

from .ideas import RECIPES, Recipe
from .turns import TurnHook

TOOLS = Path(__file__).parents[3] / 'tools'
#: Iterations between two checkpoints whose motion is measured.
INTERVAL = 200


@dataclass(frozen=True)
class Run:
    """A recipe with a seed.

    Attributes:
        name (str): Of the recipe.
        seed (int): Of the run.
        out (Path): Folder of the comparison.
    """

    name: str
    seed: int
    out: Path

    @property
    def recipe(self) -> Recipe:
        """The recipe itself."""
        return RECIPES[self.name]

    @property
    def folder(self) -> Path:
        """Its work dir."""
        return self.out / f'{self.name}_{self.seed}'

    @property
    def turns(self) -> list[int]:
        """Iterations at the ends of the turns that are done.

        0 for a turn that trained on images.
        """
        path = self.folder / 'turns.json'
        return json.loads(path.read_text()) if path.exists() else []

    def results(self, kind: str) -> dict[int, dict]:
        """Read what was measured: iteration -> metrics.

        Args:
            kind (str): 'test' or 'motion'.
        """
        path = self.folder / kind / 'metrics.jsonl'
        lines = read_lines(path) if path.exists() else []
        return {line['iter']: line for line in lines}


@dataclass(frozen=True)
class Comparison:
    """Recipes x seeds, each run on one core.

    All runs take their first turn, then all their second, and so on, so that
    an hour in which the machine is slow hurts all alike. What is done is not
    done again, so an interrupted comparison goes on where it was.

    Attributes:
        config (str): That of the published recipe.
        runs (list): See :class:`Run`.
        num_turns (int): How many turns a run takes.
        seconds (float): Training time of a turn.
        jobs (int): Runs at a time.
        num_videos (int): Clips of a measurement.
    """

    config: str
    runs: list[Run]
    num_turns: int
    seconds: float
    jobs: int
    num_videos: int

    @property
    def config_of_turns(self) -> Path:
        """The config, with the hook that ends turns."""
        return self.runs[0].out / 'turns.py'

    def train(self) -> None:
        """Train all runs.

        Raises:
            InputError: A run has failed; names its log.
        """
        with atomic_write(self.config_of_turns) as temporary:
            temporary.write_text(
                f'_base_ = [{str(Path(self.config).resolve())!r}]\n'
                f'custom_imports = dict(imports=[{TurnHook.__module__!r}])\n'
            )
        todo = [
            (run, turn)
            for turn in range(self.num_turns)
            for run in self.runs
            if turn >= len(run.turns)
        ]
        with tqdm(total=len(todo), unit='turn', desc='train') as bar:
            for turn in range(self.num_turns):
                runs = [run for run, when in todo if when == turn]
                self._at_once(lambda run: self._take_turn(run), runs, bar)

    def _take_turn(self, run: Run) -> None:
        """Train a run for one turn more."""
        turns = run.turns
        folder, options = run.folder, run.recipe.options
        on_images = run.recipe.first is not None and not turns
        so_far = len(turns)
        command = ['train.py', str(self.config_of_turns), '--resume']
        if on_images:
            folder, options = folder / 'images', run.recipe.first or {}
        elif run.recipe.first is not None:
            so_far -= 1
            if not numbered_checkpoints(folder):
                first = numbered_checkpoints(folder / 'images')[0]
                command[2:] = ['--transfer-from', str(first)]
        options = options | {
            'randomness.seed': run.seed,
            'total_kimg': 10**6,
            'preview_interval': 10**9,
            'checkpoint_interval': INTERVAL,
            'default_hooks.checkpoint.max_keep_ckpts': -1,
            'default_hooks.turn.type': 'TurnHook',
            'default_hooks.turn.seconds': self.seconds * (so_far + 1),
        }
        self._call(run, [*command, '--work-dir', str(folder)], options)
        end = 0 if on_images else _number(numbered_checkpoints(folder)[0])
        with atomic_write(run.folder / 'turns.json') as temporary:
            temporary.write_text(json.dumps([*turns, end]))

    def measure(self) -> None:
        """Measure ends of turns by the config, and motion all the way.

        Raises:
            InputError: A measurement has failed; names its log.
        """
        with tqdm(total=len(self.runs), unit='run', desc='measure') as bar:
            self._at_once(self._measure_run, self.runs, bar)

    def _measure_run(self, run: Run) -> None:
        files = {_number(x): x for x in numbered_checkpoints(run.folder)}
        evenly = [number for number in files if number % INTERVAL == 0]
        for kind, numbers, options in (
            ('test', run.turns, {}),
            ('motion', evenly, {'test_evaluator': ['= motion_16f']}),
        ):
            missing = sorted({*numbers} - {0, *run.results(kind)})
            if not missing:
                continue
            command = ['test.py', str(run.folder)]
            command += [str(files[number]) for number in missing]
            command += ['--work-dir', str(run.folder / kind)]
            options = options | {'num_test_videos': self.num_videos}
            self._call(run, command, options)

    def _at_once(
        self, function: Callable[[Run], None], runs: Sequence[Run], bar: tqdm
    ) -> None:
        """Call a function for all runs, some at a time; stop at a failure."""
        with ThreadPoolExecutor(self.jobs) as pool:
            calls = [pool.submit(function, run) for run in runs]
            try:
                for call in calls:
                    call.result()
                    bar.update()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    @staticmethod
    def _call(run: Run, command: list[str], options: dict) -> None:
        """Call a tool on one core; its output goes to a log of the run."""
        words = [
            f'{key}={value}' if isinstance(value, str) else f'{key}={value!r}'
            for key, value in options.items()
        ]
        log = run.folder.with_suffix('.log')
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open('a') as file:
            done = subprocess.run(
                [
                    sys.executable,
                    TOOLS / command[0],
                    *command[1:],
                    '--cfg-options',
                    *(word.replace(' ', '') for word in words),
                ],
                env={**os.environ, 'OMP_NUM_THREADS': '1'},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        if done.returncode != 0:
            raise InputError(
                f'{run.name} with seed {run.seed} has failed: its last lines '
                f'in {log} say why; the same command goes on from there'
            )


def _number(path: Path) -> int:
    """Return the iteration of a checkpoint."""
    return int(path.stem.removeprefix('iter_'))
