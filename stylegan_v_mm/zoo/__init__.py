"""Trained models that are found by their names.

Beside this file, ``index.json`` lists them, and each has a config, weights
and a card, ``NAME.md``. Weights that are too large for the package are
downloaded once.
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

#: Where the index lies, and the files that it names.
FOLDER = Path(__file__).parent


class ZooModel(NamedTuple):
    """A trained model, as the index lists it.

    Attributes:
        config (str): Path of its config.
        weights (str): Path of its checkpoint, or
            ``https://...#sha256=CHECKSUM``.
        sha256 (str): The checksum of the checkpoint, hexadecimal.
        about (str): What it makes, in a line.
    """

    config: str
    weights: str
    sha256: str
    about: str


def zoo_models() -> dict[str, ZooModel]:
    """Return all models by name."""
    index = json.loads((FOLDER / 'index.json').read_text('utf-8'))
    models = {}
    for name, entry in index.items():
        weights, sha256 = entry['weights'], entry['sha256']
        if '://' in weights:
            weights = f'{weights}#sha256={sha256}'
        else:
            weights = str(FOLDER / weights)
        config = str(FOLDER / entry['config'])
        models[name] = ZooModel(config, weights, sha256, entry['about'])
    return models


def zoo_model(name: str) -> ZooModel | None:
    """Find a model by its name.

    Args:
        name (str): The name; a path that exists wins over it.

    Returns:
        ZooModel, optional: None if no model has this name.
    """
    return None if os.path.exists(name) else zoo_models().get(name)
