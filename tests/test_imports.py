"""Who may import whom, and what importing leaves as it was."""

import ast
import ctypes
import json
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from small_model import make_work_dir

PACKAGE = Path(__file__).parents[1] / 'stylegan_v_mm'
# The package, from what stands alone to what needs most: a module imports from
# layers below its own and from its own package, never upwards or in circles.
LAYERS = [
    {'errors', 'version', 'zoo'},
    {'files'},
    {'pages'},
    {'registry', 'cli', 'video'},
    {'config', 'datasets', 'models'},
    {'checkpoints'},
    {'engine', 'evaluation', 'inference'},
    {'reports', 'self_check'},
    {'', '__main__'},
]
# Within models: networks come from the registry, so stylegan_v and sampler
# import none.
NETWORKS = [
    {'models.clip_layers'},
    {'models.convolution', 'models.losses', 'models.noise', 'models.shared'},
    {'models.ops'},
    {'models.counting', 'models.gradients'},
    {'models.batch', 'models.image_ops', 'models.latents'},
    {'models.fakes', 'models.graphs', 'models.sampler'},
    {'models.objectives', 'models.steps'},
    {'models.augment', 'models.layers', 'models.stylegan_v'},
    {'models.discriminator', 'models.motion'},
    {'models.generator'},
    {'models'},
]
# Functions alone: of other packages they see the two lowest layers.
PURE = {
    *('models.clip_layers', 'models.layers', 'models.losses'),
    *('models.motion', 'models.noise'),
    *('models.ops', 'evaluation.frechet', 'evaluation.measures'),
    *('evaluation.results', 'evaluation.detectors.package_index'),
}
# What knows a model by its methods, and imports none.
STRANGERS = {'engine', 'evaluation'}
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


def level(module, layers):
    """Return the number of the layer that holds a module."""
    return next(i for i, layer in enumerate(layers) if module in layer)


def may_import(module, name):
    """Whether a module of the package may import another one."""
    ours, theirs = module.split('.')[0], name.split('.')[0]
    if ours != theirs:
        if theirs == 'models' and ours in STRANGERS:
            return False
        reach = 2 if module in PURE else level(ours, LAYERS)
        return level(theirs, LAYERS) < reach
    return ours != 'models' or level(name, NETWORKS) < level(module, NETWORKS)


def modules(package):
    """Yield the dotted name, within the package, and the path of each file."""
    for path in sorted(package.rglob('*.py')):
        parts = path.relative_to(package).with_suffix('').parts
        yield '.'.join(part for part in parts if part != '__init__'), path


def violations(package):
    """List the imports that break the rules, as 'module -> import'."""
    found, graph = [], {}
    for module, path in modules(package):
        for name in imports_of(path, package):
            if any(within(name, outside) for outside in FORBIDDEN):
                found.append(f'{module} -> {name}')
            elif within(name, package.name):
                name = name.removeprefix(package.name).removeprefix('.')
                graph.setdefault(module, set()).add(name)
                if not may_import(module, name):
                    found.append(f'{module} -> {name}')
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append('circle: ' + ' -> '.join(error.args[1]))
    return found


def test_the_package_keeps_to_its_rooms():
    assert violations(PACKAGE) == []


def test_every_module_has_a_layer():
    for module, _ in modules(PACKAGE):
        level(module.split('.')[0], LAYERS)
        if within(module, 'models'):
            level(module, NETWORKS)


def test_files_are_short():
    """A file does one job; a network may be longer, to be read as a whole."""
    longer = {'models/generator.py'}
    for path in PACKAGE.rglob('*.py'):
        name = path.relative_to(PACKAGE).as_posix()
        lines = path.read_text('utf-8').count('\n')
        assert lines <= (600 if name in longer else 450), name


@pytest.mark.parametrize(
    ('module', 'line', 'found'),
    [
        ('errors', 'from .registry import MODELS', 'errors -> registry'),
        ('errors', 'from . import registry', 'errors -> registry'),
        ('errors', 'import stylegan_v_mm.registry', 'errors -> registry'),
        ('video/reader', 'from ..cli import x', 'video.reader -> cli'),
        (
            'models/ops',
            'def f():\n    from ..engine.hooks import x',
            'models.ops -> engine.hooks',
        ),
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
            'evaluation/metrics/base',
            'from ...models import StyleGANV',
            'evaluation.metrics.base -> models',
        ),
        (
            'evaluation/frechet',
            'from ..registry import METRICS',
            'evaluation.frechet -> registry',
        ),
        (
            'datasets/video_dataset',
            'from ..models.ops import x',
            'datasets.video_dataset -> models.ops',
        ),
        (
            'evaluation/metrics/base',
            'from ...inference import find_model',
            'evaluation.metrics.base -> inference',
        ),
        ('models/ops', 'from tools import x', 'models.ops -> tools'),
        (
            'engine/loops',
            'import mmagic.models',
            'engine.loops -> mmagic.models',
        ),
        (
            'engine/loops',
            'from mmagic.models import x',
            'engine.loops -> mmagic.models',
        ),
    ],
)
def test_a_planted_import_is_found(tmp_path, module, line, found):
    package = copy_of_names(tmp_path)
    (package / f'{module}.py').write_text(line)
    assert violations(package) == [found]


def test_a_planted_circle_is_found(tmp_path):
    package = copy_of_names(tmp_path)
    (package / 'video/index.py').write_text('from .reader import x')
    (package / 'video/reader.py').write_text('from .index import x')
    (found,) = violations(package)
    assert found.startswith('circle: ')


def copy_of_names(folder):
    """Make empty files with the names of the package's."""
    package = folder / PACKAGE.name
    for _, path in modules(PACKAGE):
        copy = package / path.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()
    return package


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
