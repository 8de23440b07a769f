"""All checks of an install, one after another."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch

from ..errors import InputError
from .fidelity import compare_file
from .finding import Finding
from .machine import check_codecs, check_devices
from .networks import check_cuda_networks, check_cuda_ops, check_networks
from .packages import check_install_kind, check_versions


def findings(root: Path) -> Iterable[Finding]:
    """Run all checks; a check that breaks is a finding, too.

    Args:
        root (Path): Our repository, with the constraints and the references.

    Yields:
        Finding: What the checks find, in their order.
    """
    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        'versions': partial(check_versions, root),
        'install': check_install_kind,
        'devices': check_devices,
        'codecs': check_codecs,
        'networks': check_networks,
        'fidelity': partial(check_fidelity, root),
        'detectors': check_detectors,
    }
    if torch.cuda.is_available():
        checks |= {
            'CUDA ops': check_cuda_ops,
            'CUDA networks': check_cuda_networks,
        }
    for name, check in checks.items():
        try:
            yield from check()
        except Exception as error:
            yield Finding(
                name,
                'fail',
                f'{type(error).__name__}: {error}',
                'see docs/install.md; else please report this line',
            )


def check_fidelity(root: Path) -> Iterable[Finding]:
    """Compare the networks with the numbers of the published model."""
    folder = root / 'tests/data'
    files = [
        *folder.glob('tiny_forward.npz'),
        *folder.glob('tiny_train.npz'),
    ]
    if not files:
        text = 'not checked: the reference files are in the repository only'
        yield Finding('fidelity', 'ok', text)
        return
    results = [(file, *each) for file in files for each in compare_file(file)]
    failed = [
        f'{file.name} {name}: {error:.3g}, at most {tolerance:.3g}'
        for file, name, error, tolerance in results
        if not error <= tolerance  # also where it is no number
    ]
    if not failed:
        text = f'{len(results)} arrays agree with the published model'
        yield Finding('fidelity', 'ok', text)
    else:
        yield Finding(
            'fidelity',
            'fail',
            '; '.join(failed),
            'compare the versions above with requirements/constraints.txt, '
            'and run pytest tests',
        )


def check_detectors() -> Iterable[Finding]:
    """Check the weights that metrics need, by known numbers."""
    # Not at the top: these need packages that may be broken.
    from ..evaluation.detectors.check_values import check_values
    from ..evaluation.detectors.files import SOURCES, detector_path

    for name in SOURCES:
        command = f'python tools/get_detectors.py {name}'
        if not detector_path(name).exists():
            yield Finding(
                name,
                'warn',
                'not there: metrics that need it cannot run',
                command,
            )
            continue
        try:
            values = check_values(name)
        except InputError as error:
            yield Finding(name, 'fail', str(error), command)
            continue
        well = all(value.is_right for value in values)
        yield Finding(
            name,
            'ok' if well else 'fail',
            '; '.join(map(str, values)),
            '' if well else 'this machine computes other numbers',
        )
