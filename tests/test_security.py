"""No code of ours loads, runs or fetches what it must not, read from source.

SECURITY.md promises it: weights are read by ``weights_only``, as safetensors,
or by ``stylegan_v_mm.checkpoints.pickles``; nothing from a file becomes code
or a command; downloads go through ``stylegan_v_mm.checkpoints.downloads``.
"""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Functions that have no place here, however they are imported.
FORBIDDEN = {
    '__import__', 'cloudpickle.load', 'cloudpickle.loads', 'compile',
    'dill.load', 'dill.loads', 'eval', 'exec', 'joblib.load', 'marshal.load',
    'marshal.loads', 'os.popen', 'os.system', 'pandas.read_pickle',
    'pickle.Unpickler', 'pickle.load', 'pickle.loads', 'shelve.open',
    'shutil.unpack_archive', 'subprocess.getoutput',
    'subprocess.getstatusoutput', 'tempfile.mktemp', 'torch.hub.load',
    'torch.hub.download_url_to_file', 'torch.hub.load_state_dict_from_url',
    'torch.jit.load', 'torch.export.load', 'torch.package.PackageImporter',
    'urllib.request.urlopen', 'urllib.request.urlretrieve', 'requests.get',
    'ssl._create_unverified_context', 'yaml.full_load', 'yaml.load',
    'yaml.load_all', 'yaml.unsafe_load', 'yaml.unsafe_load_all',
    'mmengine.load', 'mmengine.fileio.load',
}  # fmt: skip
# The same for methods, of whatever they are.
METHODS = {'extractall', 'load_state_dict_from_url'}
# Arguments that have no place in any call.
ARGUMENTS = {
    'allow_pickle': True, 'shell': True, 'trust_remote_code': True,
    'verify': False, 'weights_only': False,
}  # fmt: skip
# What must be said in a call.
REQUIRED = {'torch.load': ('weights_only', True)}

# File, what is found, and why it may be.
ALLOWED = {
    ('stylegan_v_mm/datasets/shards.py', 'extractall'): (
        "tarfile's filter 'data' refuses paths out of the folder, links out "
        'of it, and devices; tests/test_datasets/test_shards.py tries one'
    ),
    ('stylegan_v_mm/evaluation/detectors/torchscript.py', 'torch.jit.load'): (
        'the published detectors are TorchScript; SECURITY.md says what that '
        'means, and the checksum can be demanded'
    ),
    ('stylegan_v_mm/inference/export.py', 'torch.export.load'): (
        'it compares what this process has just written itself'
    ),
}

SHELL = re.compile(
    r'(^|[;&|\s])(eval\s|wget\s[^|]*http:|curl\s[^|]*http:'
    r'|curl\s.*(-k\b|--insecure)|wget\s.*--no-check-certificate'
    r'|(curl|wget)\b.*\|\s*(ba)?sh\b)'
)


def names_of(tree):
    """What each name in a file stands for: ``np`` -> ``numpy``."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.split('.')[0]
                names[alias.asname or name] = name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f'{node.module}.{alias.name}'
                names[alias.asname or alias.name] = full
    return names


def full_name(node, names):
    """Dotted name of a function, '' for anything else."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ''
    return '.'.join([names.get(node.id, node.id), *reversed(parts)])


def found_in(source):
    """List (line, what) of all that has no place in a Python file."""
    tree = ast.parse(source)
    names = names_of(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(
            node.ctx, ast.Load
        ):
            # Not only where it is called: it could be passed on.
            name = full_name(node, names).removeprefix('builtins.')
            if name in FORBIDDEN:
                yield node.lineno, name
            elif isinstance(node, ast.Attribute) and node.attr in METHODS:
                yield node.lineno, node.attr
        if isinstance(node, ast.Call):
            given = {
                argument.arg: argument.value.value
                for argument in node.keywords
                if isinstance(argument.value, ast.Constant)
            }
            for name, value in ARGUMENTS.items():
                if name in given and given[name] is value:
                    yield node.lineno, f'{name}={value}'
            name = full_name(node.func, names)
            if name in REQUIRED:
                argument, value = REQUIRED[name]
                if given.get(argument) is not value:
                    yield node.lineno, f'{name} without {argument}={value}'


def found_in_shell(source):
    """The same for a shell script, a Makefile or a workflow."""
    for number, line in enumerate(source.splitlines(), 1):
        if not line.lstrip().startswith('#') and (match := SHELL.search(line)):
            yield number, match[0].strip()


def tracked(root, *patterns):
    """List what git knows or would take, but for tests: nobody runs these."""
    found = subprocess.run(
        ['git', 'ls-files', '-co', '--exclude-standard', *patterns],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    return [
        name
        for name in found.stdout.splitlines()
        if not name.startswith('tests/') and (root / name).is_file()
    ]


def check(root):
    """Look at all Python files; return what is allowed and what is wrong."""
    used, wrong = set(), []
    for name in tracked(root, '*.py'):
        source = (root / name).read_text()
        for line, what in found_in(source):
            if (name, what) in ALLOWED:
                used.add((name, what))
            else:
                text = source.splitlines()[line - 1].strip()
                wrong.append(f'{name}:{line}: {what}: {text}')
    return used, wrong


def test_nothing_forbidden_is_in_the_code():
    files = tracked(ROOT, '*.py')
    assert 'stylegan_v_mm/checkpoints/loading.py' in files
    assert 'projects/web_demo/app.py' in files
    used, wrong = check(ROOT)
    assert not wrong, '\n'.join(wrong)
    # What is not needed any more goes from the list.
    assert used == set(ALLOWED)


def test_a_call_planted_in_a_repository_is_found(tmp_path):
    subprocess.run(['git', 'init', '-q', tmp_path], check=True)
    planted = tmp_path / 'tools/planted.py'
    planted.parent.mkdir()
    planted.write_text('import os\n\n\ndef go(x):\n    return x\n')
    assert check(tmp_path) == (set(), [])
    planted.write_text('import os\n\n\ndef go(x):\n    os.system(x)\n')
    wrong = ['tools/planted.py:5: os.system: os.system(x)']
    assert check(tmp_path) == (set(), wrong)


def test_nothing_forbidden_is_in_scripts():
    files = tracked(ROOT, '*.sh', 'Makefile', '.ci/*', '.github/workflows/*')
    assert 'tools/dist_train.sh' in files
    wrong = [
        f'{name}:{line}: {what}'
        for name in files
        for line, what in found_in_shell((ROOT / name).read_text())
    ]
    assert not wrong, '\n'.join(wrong)


PLANTED = {
    'import pickle\npickle.load(f)': 'pickle.load',
    'import pickle as p\np.loads(b)': 'pickle.loads',
    'from pickle import loads\nloads(b)': 'pickle.loads',
    'from pickle import loads as read\nmap(read, x)': 'pickle.loads',
    'import pickle\nclass U(pickle.Unpickler): pass': 'pickle.Unpickler',
    'import torch\ntorch.load(f)': 'torch.load without weights_only=True',
    'from torch import load\nload(f, weights_only=x)': (
        'torch.load without weights_only=True'
    ),
    'f(weights_only=False)': 'weights_only=False',
    'import numpy as np\nnp.load(f, allow_pickle=True)': 'allow_pickle=True',
    'x = eval("1")': 'eval',
    'exec(s)': 'exec',
    'import builtins\nbuiltins.exec(s)': 'exec',
    'compile(s, "a", "exec")': 'compile',
    '__import__("os")': '__import__',
    'import subprocess\nsubprocess.run(s, shell=True)': 'shell=True',
    'import os\nos.system(s)': 'os.system',
    'from os import popen\npopen(s)': 'os.popen',
    'import yaml\nyaml.load(f)': 'yaml.load',
    'import yaml\nyaml.load(f, Loader=yaml.Loader)': 'yaml.load',
    'import yaml\nyaml.unsafe_load(f)': 'yaml.unsafe_load',
    'import tarfile\ntarfile.open(f).extractall(d)': 'extractall',
    'import zipfile\nwith zipfile.ZipFile(f) as z: z.extractall()': (
        'extractall'
    ),
    'import shutil\nshutil.unpack_archive(f)': 'shutil.unpack_archive',
    'from urllib.request import urlretrieve as get\nget(u)': (
        'urllib.request.urlretrieve'
    ),
    'import urllib.request\nurllib.request.urlopen(u)': (
        'urllib.request.urlopen'
    ),
    'import torch\ntorch.hub.load_state_dict_from_url(u)': (
        'torch.hub.load_state_dict_from_url'
    ),
    'session.get(u, verify=False)': 'verify=False',
    'import tempfile\ntempfile.mktemp()': 'tempfile.mktemp',
    'import torch\ntorch.jit.load(f)': 'torch.jit.load',
    'M.from_pretrained(n, trust_remote_code=True)': 'trust_remote_code=True',
}


@pytest.mark.parametrize('source', PLANTED)
def test_what_is_planted_is_found(source, tmp_path):
    planted = tmp_path / 'planted.py'
    planted.write_text(f'"""Looks harmless."""\n{source}\n')
    found = [what for _, what in found_in(planted.read_text())]
    assert PLANTED[source] in found


@pytest.mark.parametrize(
    'source',
    [
        'import torch\ntorch.load(f, weights_only=True)',
        'model.eval()',
        'import yaml\nyaml.safe_load(f)',
        'import re\nre.compile("a")',
        'import torch\ntorch.compile(model)',
        'import json\njson.load(f)',
        'import numpy as np\nnp.load(f, allow_pickle=False)',
        'import subprocess\nsubprocess.run([a, b])',
        '"""pickle.load is not used here: eval(1)"""',
    ],
)
def test_what_is_harmless_is_not(source):
    assert list(found_in(source)) == []


@pytest.mark.parametrize(
    'line',
    [
        'eval "$1"', 'curl http://a/b', 'wget -q http://a/b',
        'curl -k https://a/b', 'wget --no-check-certificate https://a',
        'curl https://a/b | sh', '\twget -O- https://a | bash',
    ],
)  # fmt: skip
def test_what_is_planted_in_a_script_is_found(line):
    assert list(found_in_shell(f'#!/bin/bash\n{line}\n'))
    assert not list(found_in_shell(f'# {line}\n'))
