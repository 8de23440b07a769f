"""Where the reference vectors of the published model are.

Toy ones lie in ``tests/data``. The larger ones are not part of the
repository: environment variable STYLEGAN_V_GOLDEN, or the folder
``../shared/golden`` beside the repository.
"""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TINY = Path(__file__).parent / 'data'
GOLDEN = Path(
    os.environ.get('STYLEGAN_V_GOLDEN', ROOT.parent / 'shared/golden')
)


def golden_file(name):
    """Give the path of a larger reference file, or skip the test."""
    path = GOLDEN / name
    if not path.is_file():
        pytest.skip(f'{path} is not there: set STYLEGAN_V_GOLDEN')
    return path
