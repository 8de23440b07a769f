"""Who may import whom, and what importing leaves as it was."""

import ast
import ctypes
import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_model import make_work_dir

PACKAGE = Path(__file__).parents[1] / 'stylegan_v_mm'
# What each module may import of ours. A folder stands for all in it; a module
# named here goes by its own line rather than its folder's.
ALLOWED = {
    '': {'version'},
    'version': set(),
    'errors': set(),
    'registry': set(),
    'allocation': set(),
    'workers': {'errors'},
    'tool': {'allocation', 'errors'},
    'config_checks': {'errors', 'registry'},
    'config': {'config_checks', 'errors'},
    'files': {'errors'},
    'zoo': set(),
    '__main__': {'errors', 'tool'},
    'checkpoint': {'errors', 'files', 'zoo'},
    'transfer': {'checkpoint', 'errors'},
    'unpickle': {'errors'},
    'frame_sampling': {'errors'},
    'pixels': set(),
    'animations': {'errors'},
    'video_io': {'errors'},
    'models.ops': {'errors'},
    'models.losses': set(),
    'models.noise': {'errors'},
    'models.layers': {'errors', 'models.ops'},
    'models.motion': {'errors', 'models.noise', 'models.ops', 'models.layers'},
    'models.generator': {
        'errors',
        'registry',
        'models.noise',
        'models.ops',
        'models.layers',
        'models.motion',
    },
    'models.discriminator': {
        'errors',
        'registry',
        'models.ops',
        'models.layers',
    },
    'models.augment': {'errors', 'registry', 'models.noise', 'models.ops'},
    'models.stylegan_v': {
        'errors',
        'registry',
        'pixels',
        'models.losses',
        'models.noise',
    },
    # An __init__ gathers what its room offers.
    'models': {'models'},
    'datasets': {
        'errors',
        'files',
        'registry',
        'frame_sampling',
        'video_io',
        'datasets',
    },
    'evaluation.frechet': {'errors'},
    'evaluation.measures': {'errors'},
    'evaluation.results': {'errors', 'version'},
    'evaluation.package_index': {'errors'},
    'evaluation': {
        'checkpoint',
        'errors',
        'files',
        'registry',
        'unpickle',
        'workers',
        'evaluation',
    },
    'engine': {
        'animations',
        'errors',
        'registry',
        'checkpoint',
        'transfer',
        'video_io',
        'workers',
        'engine',
    },
    'inference': {
        'animations',
        'errors',
        'files',
        'pixels',
        'models.noise',
        'registry',
        'config',
        'checkpoint',
        'video_io',
        'zoo',
        'inference',
    },
}
# Top-level names that the package must start without: the repository's own
# folders, and mmagic's heavy parts.
FORBIDDEN = {
    'tools',
    'configs',
    'projects',
    'tests',
    'mmagic.models',
    'mmagic.evaluation',
    'mmagic.apis',
    'mmagic.datasets',
    'diffusers',
    'transformers',
}


def within(module, room):
    return module == room or module.startswith(f'{room}.')


def imports_of(path, package):
    """List what a file imports, anywhere in it, as absolute names."""
    module = path.relative_to(package.parent).with_suffix('').parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # module[:-1] is where `from .` starts, also in an __init__.
            base = module[: len(module) - node.level] if node.level else ()
            base = '.'.join([*base, *filter(None, [node.module])])
            for alias in node.names:
                # `from .models import ops` names a module, `from .errors
                # import InputError` names what is in it.
                longer = f'{base}.{alias.name}'
                inside = Path(package.parent, *longer.split('.'))
                if inside.is_dir() or inside.with_suffix('.py').exists():
                    yield longer
                else:
                    yield base


def violations(package):
    """List the imports that break the rules, as 'module -> import'."""
    found = []
    for path in sorted(package.rglob('*.py')):
        parts = path.relative_to(package).with_suffix('').parts
        if parts[-1] == '__init__':
            parts = parts[:-1]
        module = '.'.join(parts)
        rule = max(
            (room for room in ALLOWED if within(module, room)),
            key=len,
            default=None,
        )
        for name in imports_of(path, package):
            if any(within(name, room) for room in FORBIDDEN):
                found.append(f'{module} -> {name}')
            elif within(name, package.name):
                name = name.removeprefix(package.name).removeprefix('.')
                allowed = ALLOWED.get(rule, ())
                if not any(within(name, room) for room in allowed):
                    found.append(f'{module} -> {name}')
    return found


def test_the_package_keeps_to_its_rooms():
    assert violations(PACKAGE) == []


def test_every_module_has_a_rule():
    for path in PACKAGE.rglob('*.py'):
        parts = path.relative_to(PACKAGE).with_suffix('').parts
        module = '.'.join(part for part in parts if part != '__init__')
        if '.' not in module or module.startswith('models.'):
            assert module in ALLOWED, f'say in ALLOWED what {module} may use'


@pytest.mark.parametrize(
    ('module', 'line', 'found'),
    [
        ('errors', 'from .registry import MODELS', 'errors -> registry'),
        ('errors', 'from . import registry', 'errors -> registry'),
        ('errors', 'import stylegan_v_mm.registry', 'errors -> registry'),
        (
            'models/ops',
            'def f():\n    from .layers import x',
            'models.ops -> models.layers',
        ),
        (
            'models/discriminator',
            'from . import motion',
            'models.discriminator -> models.motion',
        ),
        (
            'models/stylegan_v',
            'from .generator import G',
            'models.stylegan_v -> models.generator',
        ),
        (
            'datasets/video_dataset',
            'from ..models.ops import x',
            'datasets.video_dataset -> models.ops',
        ),
        (
            'evaluation/metrics',
            'from ..models import StyleGANV',
            'evaluation.metrics -> models',
        ),
        (
            'evaluation/frechet',
            'from ..registry import METRICS',
            'evaluation.frechet -> registry',
        ),
        ('models/ops', 'from tools import x', 'models.ops -> tools'),
        (
            'engine/hooks',
            'import mmagic.models',
            'engine.hooks -> mmagic.models',
        ),
        (
            'engine/hooks',
            'from mmagic.models import x',
            'engine.hooks -> mmagic.models',
        ),
    ],
)
def test_a_planted_import_is_found(tmp_path, module, line, found):
    package = tmp_path / PACKAGE.name
    (package / module).parent.mkdir(parents=True)
    for path in PACKAGE.rglob('*.py'):
        copy = package / path.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()
    (package / f'{module}.py').write_text(line)
    assert violations(package) == [found]


# Prints what a process is like after each step: to import all of the package,
# to import others, to sample with the model of a work dir.
HOST = """
import ctypes, importlib, json, logging, os, pkgutil, signal, sys, warnings
import torch

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        'arena', 'ordblks', 'smblks', 'blocks_of_their_own', 'hblkhd',
        'usmblks', 'fsmblks', 'uordblks', 'fordblks', 'keepcost')]

def large_blocks_are_given_back():
    # glibc maps them one by one, and unmaps them when they are free.
    info = ctypes.CDLL(None).mallinfo2
    info.restype = Info
    before = info().blocks_of_their_own
    block = torch.empty(2**26)
    return info().blocks_of_their_own == before + 1

for step in sys.argv[1:]:
    if step == 'ours':
        import stylegan_v_mm
        for module in pkgutil.walk_packages(
            stylegan_v_mm.__path__, 'stylegan_v_mm.'
        ):
            importlib.import_module(module.name)
    elif step == 'others':
        import av, cv2, mmcv, mmengine.optim, mmengine.runner, PIL.Image
    else:
        stylegan_v_mm.inference.VideoGANInferencer(step, device='cpu').sample()
    import mmengine.registry as root
    print(json.dumps(dict(
        transformers=str(type(sys.modules.get('transformers', 'none'))),
        optimizers=sorted(root.OPTIMIZERS.module_dict),
        large_blocks_are_given_back=large_blocks_are_given_back(),
        signals=[str(signal.getsignal(n)) for n in (2, 15, 17)],
        logs=[logging.raiseExceptions, logging.root.level],
        environment=dict(os.environ),
        path=sys.path,
        threads=torch.get_num_threads(),
        rounding=[torch.get_float32_matmul_precision(),
                  torch.backends.cudnn.allow_tf32,
                  torch.backends.cudnn.benchmark],
        warnings=len(warnings.filters),
    )))
"""


def host(*steps):
    result = subprocess.run(
        [sys.executable, '-c', HOST, *map(str, steps)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    lines = [x for x in result.stdout.splitlines() if x.startswith('{')]
    return [json.loads(line) for line in lines]


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), 'mallinfo2'),
    reason='asks glibc 2.33 or later about its memory',
)
def test_importing_leaves_a_process_as_it_was(tmp_path):
    work_dir = make_work_dir(tmp_path / 'work')
    before, after, used = host('others', 'ours', work_dir)
    assert before['large_blocks_are_given_back']
    assert after == before
    assert used['large_blocks_are_given_back']
    # What mmengine registers does not depend on who imports it first.
    assert host('ours', 'others')[-1] == before
