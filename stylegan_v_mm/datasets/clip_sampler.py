"""The order of training clips: the same however many processes share it."""

from collections.abc import Iterator, Sized

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from ..registry import DATA_SAMPLERS


class ClipKey(int):
    """The index of a video that also seeds what is drawn for a clip of it.

    Any data set can take it for the integer that it is.

    Attributes:
        index (int): Which video.
        seed (tuple): For ``numpy.random.default_rng``: the seed of the run
            and the clip's position in it.
    """

    index: int
    seed: tuple[int, int]

    def __new__(cls, index: int, seed: tuple[int, int]) -> 'ClipKey':
        """Make a key."""
        key = super().__new__(cls, index)
        key.index, key.seed = int(index), seed
        return key

    def __getnewargs__(self) -> tuple[int, tuple[int, int]]:  # type: ignore
        """Let keys be pickled, on their way to data workers."""
        return self.index, self.seed


@DATA_SAMPLERS.register_module()
class ClipSampler(Sampler):
    """An endless stream of clips, in which a run can start anywhere.

    Position n of the stream is video n mod V of the shuffle number n // V,
    V being the number of videos. Of P processes, process r takes the
    positions r, r + P, r + 2 P, ...: together, P batches of B clips are the
    B * P next clips of the stream, for any P.

    Args:
        dataset (Sized): Anything with a length.
        shuffle (bool): Whether to shuffle the videos anew each time round.
            Defaults to True.
        seed (int, optional): Fixes the shuffles and all that is drawn for
            the clips. Defaults to None, a random one.
    """

    def __init__(
        self, dataset: Sized, shuffle: bool = True, seed: int | None = None
    ) -> None:
        self.num_videos = len(dataset)
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        #: Position in the stream of the first clip, of any process.
        self.start = 0

    def __iter__(self) -> Iterator[ClipKey]:
        rank, world_size = get_dist_info()
        position = self.start + rank
        order, shuffled = np.arange(self.num_videos), -1
        while True:
            number, place = divmod(position, self.num_videos)
            if self.shuffle and number != shuffled:
                rng = np.random.default_rng([self.seed, number])
                order, shuffled = rng.permutation(self.num_videos), number
            yield ClipKey(int(order[place]), (self.seed, position))
            position += world_size

    def __len__(self) -> int:
        """Count the videos; mmengine's log asks."""
        return self.num_videos
