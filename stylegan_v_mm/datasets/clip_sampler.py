"""The order of training clips, independent of the number of processes."""

from collections.abc import Iterator, Sized

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from ..registry import DATA_SAMPLERS


class ClipKey(int):
    """The index of a video, with a seed for all that is drawn for a clip.

    It is an integer, so that any data set can use it as an index.

    Attributes:
        index (int): Index of the video.
        seed (tuple): Seed for ``numpy.random.default_rng``: the seed of the
            run and the clip's position in the stream.
    """

    index: int
    seed: tuple[int, int]

    def __new__(cls, index: int, seed: tuple[int, int]) -> 'ClipKey':
        """Make a key."""
        key = super().__new__(cls, index)
        key.index, key.seed = int(index), seed
        return key

    def __getnewargs__(self) -> tuple[int, tuple[int, int]]:  # type: ignore
        """Return the arguments with which data workers unpickle a key."""
        return self.index, self.seed


@DATA_SAMPLERS.register_module()
class ClipSampler(Sampler):
    """An endless stream of clips, in which a run can start anywhere.

    Position n of the stream is video n mod V of shuffle n // V, where V is
    the number of videos. Of P processes, process r takes the positions r,
    r + P, r + 2 P, ... Together, P batches of B clips are the next B * P clips
    of the stream, for any P.

    Args:
        dataset (Sized): Anything with a length.
        shuffle (bool): Whether to shuffle the videos again for each pass.
            Defaults to True.
        seed (int, optional): Seed of the shuffles and of all that is drawn
            for the clips. Defaults to None, a random seed.
    """

    def __init__(
        self, dataset: Sized, shuffle: bool = True, seed: int | None = None
    ) -> None:
        self.num_videos = len(dataset)
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        #: Position in the stream of the first clip of all processes.
        self.start = 0

    def __iter__(self) -> Iterator[ClipKey]:
        rank, world_size = get_dist_info()
        position = self.start + rank
        order, shuffled = np.arange(self.num_videos), -1
        while True:
            epoch, index = divmod(position, self.num_videos)
            if self.shuffle and epoch != shuffled:
                rng = np.random.default_rng([self.seed, epoch])
                order, shuffled = rng.permutation(self.num_videos), epoch
            yield ClipKey(int(order[index]), (self.seed, position))
            position += world_size

    def __len__(self) -> int:
        """Return the number of videos, which mmengine's log needs."""
        return self.num_videos
