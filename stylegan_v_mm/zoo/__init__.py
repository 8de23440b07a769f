"""Trained models that are found by name.

``index.json`` beside this file lists them. Each has a config, weights and a
card, ``NAME.md``. Weights that are too large for the package are downloaded
once.
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

#: Folder of the index and of the files that it names.
FOLDER = Path(__file__).parent


class ZooModel(NamedTuple):
    """A trained model, as the index lists it.

    Attributes:
        config (str): Path of its config.
        weights (str): Path of its checkpoint, or
            ``https://...#sha256=CHECKSUM``.
        sha256 (str): The checksum of the checkpoint, hexadecimal.
        about (str): What it generates, in one line.
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
        name (str): The name. If it is an existing path, it is not looked up.

    Returns:
        ZooModel, optional: The model; None if none has this name.
    """
    return None if os.path.exists(name) else zoo_models().get(name)
