"""What a user's pip gets: the sdist, the wheel made of it, requirements."""

import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.config.utils import _get_cfg_metainfo
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import stylegan_v_mm

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ('runtime', 'mminstall', 'optional', 'tests')


def files_below(folder):
    """Give the paths of the files git would keep, relative to the root."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in folder.rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }


def read_requirements(name):
    lines = (ROOT / f'requirements/{name}.txt').read_text().splitlines()
    return [Requirement(line) for line in lines if not line.startswith('#')]


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """Build an sdist of a copy, unpack it, build a wheel of that.

    A ``torch`` that cannot be imported shadows the real one.
    """
    folder = tmp_path_factory.mktemp('packaging')
    source = folder / 'source'
    kept_out = shutil.ignore_patterns(
        '.*', 'work_dirs', 'build', 'dist', 'data', '*.egg-info', '__pycache__'
    )
    shutil.copytree(ROOT, source, ignore=kept_out)
    for name in ('torch', 'mmengine', 'mmcv'):
        (folder / f'{name}.py').write_text('raise SystemExit("imported")\n')

    def run(*words, cwd):
        result = subprocess.run(
            [sys.executable, *words],
            cwd=cwd,
            env={**os.environ, 'PYTHONPATH': str(folder)},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert result.returncode == 0, result.stdout + result.stderr

    run('setup.py', '-q', 'sdist', cwd=source)
    (sdist,) = (source / 'dist').glob('*.tar.gz')
    run(
        *('-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation'),
        *('-w', str(folder), str(sdist)),
        cwd=folder,
    )
    (wheel,) = folder.glob('*.whl')
    return wheel


@pytest.fixture
def wheel_files(built):
    with zipfile.ZipFile(built) as file:
        return {name for name in file.namelist() if not name.endswith('/')}


def test_wheel_carries_configs_and_tools_for_mim(wheel_files):
    wanted = files_below(ROOT / 'configs') | files_below(ROOT / 'tools')
    wanted.add('model-index.yml')
    assert 'tools/dist_train.sh' in wanted
    carried = {
        name.removeprefix('stylegan_v_mm/.mim/')
        for name in wheel_files
        if name.startswith('stylegan_v_mm/.mim/')
    }
    assert carried == wanted


def test_wheel_carries_the_package_and_nothing_else(wheel_files):
    package = {
        name
        for name in wheel_files
        if not name.startswith('stylegan_v_mm/.mim/')
        and '.dist-info/' not in name
    }
    assert package == files_below(ROOT / 'stylegan_v_mm')
    assert 'stylegan_v_mm/models/generator.py' in package


def test_mmengine_finds_the_configs_of_an_install(built, tmp_path):
    pip = [sys.executable, '-m', 'pip', 'install', '-q', '--no-deps']
    subprocess.run([*pip, '-t', str(tmp_path), str(built)], check=True)
    package = tmp_path / 'stylegan_v_mm'
    for path in (ROOT / 'configs/stylegan_v').glob('*.py'):
        found = _get_cfg_metainfo(str(package), f'stylegan_v/{path.name}')
        installed = package / '.mim' / found['Config']
        assert installed.read_text() == path.read_text()
    # Inherited files are there, too.
    assert Config.fromfile(installed).default_scope == 'stylegan_v_mm'


def test_an_install_runs_its_tools_in_an_empty_folder(built, tmp_path):
    """What the shipped model takes comes with the wheel."""
    site, here = tmp_path / 'site', tmp_path / 'here'
    with zipfile.ZipFile(built) as file:
        file.extractall(site)
    here.mkdir()
    # The lines of this copy are not those that `make coverage` counts.
    env = {k: v for k, v in os.environ.items() if 'COVERAGE' not in k}

    def run(*words):
        return subprocess.run(
            [sys.executable, '-m', 'stylegan_v_mm', *words],
            cwd=here,
            env={**env, 'PYTHONPATH': str(site)},
            capture_output=True,
            text=True,
        )

    listed = run()
    assert listed.returncode == 0, listed.stderr
    assert '\ngenerate  ' in listed.stdout
    result = run('generate', 'rc_track_64', '--num-frames=2', '--out=x.mp4')
    assert result.returncode == 0, result.stderr
    zoo = site / 'stylegan_v_mm/zoo'
    assert f'with {zoo}/rc_track_64.safetensors' in result.stdout
    assert [path.name for path in here.iterdir()] == ['x.mp4']
    assert (here / 'x.mp4').stat().st_size > 0


def test_wheel_metadata(built):
    with zipfile.ZipFile(built) as file:
        (name,) = (n for n in file.namelist() if n.endswith('/METADATA'))
        metadata = Parser().parsestr(file.read(name).decode())
        names = file.namelist()
    assert metadata['Version'] == stylegan_v_mm.__version__
    assert metadata['License-Expression'] == 'Apache-2.0'
    assert any(n.endswith('.dist-info/licenses/LICENSE') for n in names)
    declared = metadata.get_all('Requires-Dist')
    for requirement in read_requirements('runtime'):
        assert str(requirement) in declared
    assert sorted(metadata.get_all('Provides-Extra')) == [
        'mim',
        'optional',
        'tests',
    ]


def test_editable_build_leaves_the_package_clean():
    assert not (ROOT / 'stylegan_v_mm/.mim').exists()


@pytest.mark.parametrize('name', REQUIREMENTS)
def test_requirements_agree_with_the_constraints(name):
    pins = {
        canonicalize_name(pin.name): pin.specifier
        for pin in read_requirements('constraints')
    }
    for requirement in read_requirements(name):
        pin = pins.get(canonicalize_name(requirement.name), [])
        for clause in pin:
            if clause.operator == '==':
                assert requirement.specifier.contains(clause.version), (
                    f'{requirement} excludes {clause}'
                )


def test_documented_pins_are_the_pins():
    text = (ROOT / 'docs/install.md').read_text()
    for pin in read_requirements('constraints'):
        (clause,) = pin.specifier
        if pin.name not in ('codespell', 'mypy', 'ruff'):
            assert clause.version in text, f'{pin} is not in docs/install.md'
