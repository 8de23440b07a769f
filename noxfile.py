"""Run the tests with other versions of Python, PyTorch and mmcv.

pip install nox
nox --list                        list the lanes
nox -s quick-3.12                 run one of them
nox -s newest -- tests            run it with other arguments for pytest

Each lane has its own environment in .nox, runs the tests that depend on the
versions, and writes its row of the table in docs/compatibility.md.
"""

import datetime
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import nox

nox.needs_version = '>=2024.4'
nox.options.default_venv_backend = 'venv'
nox.options.sessions = ['quick', 'newest', 'oldest']

ROOT = Path(__file__).parent
TABLE = ROOT / 'docs/compatibility.md'
# The tests that depend on the versions; they take minutes.
TESTED = (
    'tests/test_checkpoints/test_loading_weights.py',
    'tests/test_video/test_video_files.py',
    'tests/test_datasets/test_transforms.py',
    'tests/test_inference/test_latents.py',
    *(
        f'tests/test_models/test_{name}.py'
        for name in ('augment', 'generator', 'motion', 'ops')
    ),
)
TOOLS = ('pytest', 'pytest-timeout', 'pytest-xdist', 'hypothesis', 'scipy')
VERSIONS = """
import json, platform
from importlib.metadata import distributions
found = {d.metadata['Name'].lower(): d.version for d in distributions()}
mmcv = next(name for name in ('mmcv', 'mmcv-lite') if name in found)
print(json.dumps([
    platform.python_version(), found['torch'], f'{mmcv} {found[mmcv]}',
    found['numpy'],
]))
"""


@nox.session(python=['3.10', '3.11', '3.12'])
def quick(session: nox.Session) -> None:
    """Test the pinned versions, with mmcv-lite."""
    test_lane(session, 'torch', freed=())


@nox.session(python='3.12')
def newest(session: nox.Session) -> None:
    """Test the newest PyTorch and numpy, with mmcv-lite."""
    test_lane(session, 'torch', freed=('torch', 'numpy'))


@nox.session(python='3.10')
def oldest(session: nox.Session) -> None:
    """Test the oldest supported PyTorch, with mmcv-lite."""
    test_lane(session, 'torch==2.6.*', freed=('torch',))


@nox.session(venv_backend='none')
def full(session: nox.Session) -> None:
    """Run all tests with compiled mmcv and mmagic, in .venv."""
    report = ROOT / '.nox/full.xml'
    session.run(
        *('make', 'test'),
        f'ARGS=--junitxml={report} {" ".join(session.posargs)}',
        success_codes=[0, 2],
    )
    record(session, report, '.venv/bin/python')


def test_lane(
    session: nox.Session, torch: str, freed: tuple[str, ...]
) -> None:
    """Install a quick environment, test it and record the outcome.

    Args:
        session: The lane.
        torch: Requirement on PyTorch.
        freed: Packages that requirements/constraints.txt does not constrain.
    """
    folder = Path(session.create_tmp())
    pins = (ROOT / 'requirements/constraints.txt').read_text().splitlines()
    constraints = folder / 'constraints.txt'
    constraints.write_text(
        '\n'.join(pin for pin in pins if re.split('[=<]', pin)[0] not in freed)
    )
    held = ('-c', str(constraints))
    session.install(
        *held,
        *('setuptools>=77', 'wheel', torch, '-r', 'requirements/runtime.txt'),
        *TOOLS,
    )
    session.install(*held, 'mmcv-lite')
    session.install(*held, '--no-deps', 'mmagic')
    session.install('--no-deps', '--no-build-isolation', '-e', '.')
    report = folder / 'report.xml'
    session.run(
        *('python', '-m', 'pytest', '-m', 'not slow and not gpu'),
        *('-n', '2', '--dist', 'worksteal', f'--junitxml={report}'),
        *(session.posargs or TESTED),
        env={'OMP_NUM_THREADS': '1'},
        success_codes=[0, 1],
    )
    record(session, report, 'python')


def record(session: nox.Session, report: Path, python: str) -> None:
    """Write the lane's row of the table; fail if tests failed.

    Args:
        session: The lane.
        report: JUnit's XML, as pytest writes it.
        python: The interpreter that ran the tests.
    """
    versions = session.run(python, '-c', VERSIONS, silent=True, external=True)
    if versions is None:  # nox --install-only
        return
    suites = list(ElementTree.parse(report).iter('testsuite'))
    total, skipped, failures, errors = (
        sum(int(suite.get(kind, 0)) for suite in suites)
        for kind in ('tests', 'skipped', 'failures', 'errors')
    )
    failed = failures + errors
    passed = total - skipped - failed
    day = datetime.date.today().isoformat()
    cells = (session.name, day, *json.loads(versions), passed, skipped, failed)
    row = f'| {" | ".join(map(str, cells))} |\n'
    text = TABLE.read_text()
    text, known = re.subn(
        rf'^\| {re.escape(session.name)} \|.*\n', row, text, flags=re.M
    )
    if not known:
        text = re.sub(
            r'((?:^\|.*\n)+)', rf'\1{row}', text, count=1, flags=re.M
        )
    TABLE.write_text(text)
    if failed:
        session.error(f'{failed} tests failed')
