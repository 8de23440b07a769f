"""mmengine's data set wrappers, changed to keep the seed of a clip."""

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from mmengine.dataset import dataset_wrapper as mmengine
from mmengine.registry import DefaultScope

from ..errors import InputError
from ..registry import DATASETS
from .clip_sampler import ClipKey
from .video_dataset import VideoDataset


class _Wrapper:
    """Attributes of the videos in a wrapper, concatenated.

    mmengine's own wrappers turn a ``ClipKey`` into a plain index, so that a
    resumed run would see other clips. Attributes that a wrapped data set
    lacks are also missing here.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # If mmengine has no default scope, type names in a config are ours.
        scope = None if DefaultScope.get_current_instance() else DATASETS.scope
        with DefaultScope.overwrite_default_scope(scope):
            super().__init__(*args, **kwargs)

    def _get_ori_dataset_idx(self, idx: int) -> Any:
        found = super()._get_ori_dataset_idx(int(idx))  # type: ignore[misc]
        if not isinstance(idx, ClipKey):
            return found
        if isinstance(found, tuple):
            return found[0], ClipKey(found[1], idx.seed)
        return ClipKey(found, idx.seed)

    def full_init(self) -> None:
        """Read the data sets; clips to be generated imitate all of them."""
        super().full_init()  # type: ignore[misc]
        if hasattr(self, 'labels') and hasattr(self, 'video_lens'):
            for dataset in self._inner:
                _imitate(dataset, self)

    @property
    def _inner(self) -> list:
        """The wrapped data sets."""
        return getattr(self, 'datasets', None) or [self.dataset]  # type: ignore

    @cached_property
    def _indices(self) -> np.ndarray:
        """For each item, its data set and its index in there, [V, 2]."""
        found = map(self._get_ori_dataset_idx, range(len(self)))  # type: ignore
        return np.array([x if isinstance(x, tuple) else (0, x) for x in found])

    def _gather(self, name: str) -> np.ndarray:
        """Concatenate an attribute of the wrapped data sets."""
        parts = [getattr(dataset, name) for dataset in self._inner]
        if len({part.shape[1:] for part in parts}) > 1:
            raise InputError(
                f'{type(self).__name__}: the {name} of {self.data_root} '
                'differ in width: '
                + ', '.join(str(part.shape[1]) for part in parts)
            )
        which, item = self._indices.T
        rows = np.empty((len(item), *parts[0].shape[1:]), parts[0].dtype)
        for i, part in enumerate(parts):
            rows[which == i] = part[item[which == i]]
        return rows

    @cached_property
    def labels(self) -> np.ndarray:
        """Label of each item [V, c_dim], float32."""
        return self._gather('labels')

    @cached_property
    def video_lens(self) -> np.ndarray:
        """Length of each video [V], int64."""
        return self._gather('video_lens')

    @property
    def fingerprint(self) -> str:
        """See ``VideoDataset``."""
        digest = hashlib.sha256(self._indices.tobytes())
        for dataset in self._inner:
            digest.update(dataset.fingerprint.encode())
        return digest.hexdigest()

    @cached_property
    def clip_list(self) -> dict[str, Any]:
        """See ``VideoDataset``."""
        digest = hashlib.sha256(self._indices.tobytes())
        for dataset in self._inner:
            digest.update(dataset.clip_list['digest'].encode())
        number = len(self._indices)
        return {'number': number, 'digest': digest.hexdigest()}

    @property
    def data_root(self) -> str:
        """Data roots of the videos, joined by commas."""
        return ', '.join(dataset.data_root for dataset in self._inner)

    @property
    def frame_size(self) -> Callable[[], tuple[int, int]]:
        """Frame size of the smallest data set, see ``VideoDataset``."""
        sizes = [dataset.frame_size for dataset in self._inner]
        return lambda: min((size() for size in sizes), key=min)

    @property
    def read(self) -> Callable[[int, Sequence[int]], dict]:
        """See ``VideoDataset``."""
        parts = [dataset.read for dataset in self._inner]

        def read(index: int, inds: Sequence[int]) -> dict:
            i, j = self._indices[index].tolist()
            return parts[i](j, inds)

        return read

    def get_cat_ids(self, index: int) -> list[int]:
        """See ``VideoDataset``."""
        i, j = self._indices[index].tolist()
        return self._inner[i].get_cat_ids(j)


def _imitate(dataset: Any, whole: _Wrapper) -> None:
    if isinstance(dataset, _Wrapper):
        for each in dataset._inner:
            _imitate(each, whole)
    elif isinstance(dataset, VideoDataset):
        dataset.imitated = whole.video_lens, whole.labels


@DATASETS.register_module()
class ConcatDataset(_Wrapper, mmengine.ConcatDataset):
    """Several data sets, one after another; see mmengine's."""


@DATASETS.register_module()
class RepeatDataset(_Wrapper, mmengine.RepeatDataset):
    """A data set, repeated several times; see mmengine's."""


@DATASETS.register_module()
class ClassBalancedDataset(_Wrapper, mmengine.ClassBalancedDataset):
    """A data set that repeats rare classes; see mmengine's."""
