"""Labels of videos, from folders, ``dataset.json`` or a csv file."""

import csv
import json
import os
import re
import reprlib
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from ..errors import InputError
from .sources.finding import read_side_file
from .sources.listing import natural_key

#: Integer labels must be less than this.
MAX_CLASSES = 2**16
# Optional header of a csv file.
_HEADER = ['video', 'label']


def load_labels(
    data_root: str | os.PathLike, names: Sequence[str], labels: str | None
) -> tuple[np.ndarray, list[str]]:
    """Load the label of each video.

    Args:
        data_root: Where the videos are.
        names: [V], names of the videos relative to it.
        labels: One of

            * None: no labels, ``c_dim`` 0;
            * ``'folder'``: the class is the first folder of the name;
            * a ``.json`` file, relative to the data root or any path:
              ``{"labels": [[name, label], ...]}``. A name is that of a video
              or of a frame (then all frames of a video must agree), a label
              an integer (made one-hot) or a list of numbers (used as it is);
            * a ``.csv`` file with lines ``video,label``, where all labels are
              integers or all are names of classes; the first line may be this
              header.

            The names may omit the suffix of a video file. Entries of other
            videos are ignored.

    Returns:
        The labels [V, c_dim], float32, and the names of the classes in the
        order of the one-hot vector ([] where classes have no names).

    Raises:
        InputError: If a label is missing, contradicts another or has another
            width.
    """
    if labels is None:
        return np.zeros((len(names), 0), np.float32), []
    if labels == 'folder':
        classes = []
        for name in names:
            folder, slash, _ = name.partition('/')
            classes.append(folder)
            if not slash:
                raise InputError(
                    f'{data_root}: labels="folder" needs one folder per '
                    f'class, but {name} is in none'
                )
        return _one_hot_of_classes(classes)

    text = read_side_file(data_root, labels)
    if text is None:
        raise InputError(
            f'{labels}: no such label file, neither in {data_root} nor as a '
            'path'
        )
    if labels.endswith('.json'):
        entries = _parse_json(labels, text)
    elif labels.endswith('.csv'):
        entries = _parse_csv(labels, text)
    else:
        raise InputError(
            f'labels={labels!r}: give "folder", a .json or a .csv file'
        )
    found = _assign(labels, names, entries)
    if all(isinstance(label, str) for label in found):
        return _one_hot_of_classes(found)
    return _to_array(labels, names, found, entries), []


def _one_hot_of_classes(
    class_of_video: list[str],
) -> tuple[np.ndarray, list[str]]:
    classes = sorted(set(class_of_video), key=natural_key)
    number = {name: i for i, name in enumerate(classes)}
    inds = [number[name] for name in class_of_video]
    return np.eye(len(classes), dtype=np.float32)[inds], classes


def _parse_json(file: str, text: str) -> list[tuple]:
    try:
        entries = json.loads(text)['labels']
        return [(str(name), label) for name, label in entries]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(
            f'{file}: expected {{"labels": [[name, label], ...]}}'
        ) from None


def _parse_csv(file: str, text: str) -> list[tuple]:
    try:
        rows = [row for row in csv.reader(text.splitlines()) if row]
    except csv.Error as error:
        raise InputError(f'{file}: {error}') from None
    if rows and [cell.strip().lower() for cell in rows[0]] == _HEADER:
        del rows[0]
    for row in rows:
        if len(row) != 2:
            raise InputError(
                f'{file}: expected lines "video,label", got {",".join(row)!r}'
            )
    entries = [(name.strip(), label.strip()) for name, label in rows]
    numbers = [
        re.fullmatch('-?[0-9]{1,18}', label) is not None
        for _, label in entries
    ]
    if all(numbers):
        return [(name, int(label)) for name, label in entries]
    if not any(numbers):
        return entries
    # A mixture is an error: as names, the integers would be numbered anew.
    name, label = entries[numbers.index(False)]
    if all(numbers[1:]):
        raise InputError(
            f'{file}: the first line {reprlib.repr(f"{name},{label}")} is not '
            f'a known header: change it to "{",".join(_HEADER)}", or remove it'
        )
    raise InputError(
        f'{file}: labels must be all integers or all names of classes, '
        f'{name} has {reprlib.repr(label)}'
    )


def _assign(file: str, names: Sequence[str], entries: list[tuple]) -> list:
    """Return the label of each video, on which all its entries must agree."""
    video_of = {}
    for name in names:
        video_of[name] = name
        video_of.setdefault(str(PurePosixPath(name).with_suffix('')), name)
    found: dict[str, tuple] = {}
    for entry, label in entries:
        folder = str(PurePosixPath(entry).parent)
        video = video_of.get(entry, video_of.get(folder))
        if video is not None and found.setdefault(video, label) != label:
            raise InputError(
                f'{file}: {entry} has label {label}, another entry of the '
                f'same video has {found[video]}'
            )
    for name in names:
        if name not in found:
            raise InputError(f'{file}: no label for {name}')
    return [found[name] for name in names]


def _to_array(
    file: str, names: Sequence[str], found: list, entries: list[tuple]
) -> np.ndarray:
    if all(type(label) is int for label in found):
        # Classes of the whole file, so that a subset of the videos has labels
        # of the same width.
        classes = [label for _, label in entries if type(label) is int]
        for name, label in zip(names, found):
            if label < 0:
                raise InputError(
                    f'{file}: {name} has negative label {reprlib.repr(label)}'
                )
        if max(classes) >= MAX_CLASSES:
            raise InputError(
                f'{file}: a label is {reprlib.repr(max(classes))}: number the '
                f'classes from 0 on; there can be at most {MAX_CLASSES}'
            )
        one_hot = np.zeros((len(found), max(classes) + 1), np.float32)
        one_hot[np.arange(len(found)), found] = 1
        return one_hot
    for name, label in zip(names, found):
        if not isinstance(label, list):
            raise InputError(
                f'{file}: labels must be all integers or all lists of '
                f'numbers, {name} has {label!r}'
            )
        if len(label) != len(found[0]):
            raise InputError(
                f'{file}: labels differ in width: {name} has {len(label)}, '
                f'{names[0]} has {len(found[0])} numbers'
            )
    try:
        array = np.array(found, np.float32)
    except (TypeError, ValueError, OverflowError):
        array = np.array(np.nan)
    if array.ndim != 2 or not np.isfinite(array).all():
        raise InputError(f'{file}: labels must be lists of finite numbers')
    return array
