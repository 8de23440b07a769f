"""What a training step learns from: real clips, and the noise of fake ones."""

from typing import NamedTuple

from torch import Tensor

from ..errors import InputError


class Batch(NamedTuple):
    """N real clips of T frames, and what two batches of fake ones are made of.

    Of the fake batches, which lie side by side in dimension 1, the first is
    for the generator's step and the second for the discriminator's.

    Attributes:
        video (Tensor): Real clips, uint8 [N, T, 3, H, W].
        t (Tensor): Times of their frames [N, T], in frames.
        c (Tensor): Their labels [N, c_dim].
        gen_t (Tensor): Times of the fake clips [N, 2, T], in frames.
        gen_c (Tensor): Their labels [N, 2, c_dim].
        gen_z (Tensor): Content noise [N, 2, z_dim].
        motion_z (Tensor, optional): Motion noise [N, 2, L, motion_z_dim], for
            a generator with motion.
        first_code (Tensor, optional): Which code ``motion_z[:, :, 0]`` is,
            int64 [N, 2]; 0 if None. See ``MotionEncoder.forward``.
        mixing_z (Tensor, optional): Content noise of the other styles
            [N, 2, z_dim], for style mixing.
        crossover (Tensor, optional): Layer from which on the other styles
            count, int64 [N, 2], for style mixing.
        noise_seeds (Tensor, optional): Seeds of the noise of layers, int64
            [N, 2] on the CPU, for a generator with noise.
    """

    video: Tensor
    t: Tensor
    c: Tensor
    gen_t: Tensor
    gen_c: Tensor
    gen_z: Tensor
    motion_z: Tensor | None = None
    first_code: Tensor | None = None
    mixing_z: Tensor | None = None
    crossover: Tensor | None = None
    noise_seeds: Tensor | None = None

    def select(self, clips: slice) -> 'Batch':
        """Select clips by a slice."""
        return Batch(*(None if x is None else x[clips] for x in self))

    def split(self, count: int) -> list['Batch']:
        """Cut the batch into parts of equal size.

        Args:
            count (int): How many.

        Raises:
            InputError: N is no multiple of ``count``.
        """
        size = part_size(len(self.t), count)
        starts = range(0, size * count, size)
        return [self.select(slice(i, i + size)) for i in starts]


def part_size(num_clips: int, count: int) -> int:
    """Compute how many clips go through the networks at a time.

    Args:
        num_clips (int): Clips of a batch, of one process.
        count (int): Parts of the batch.

    Raises:
        InputError: It cannot be divided equally.
    """
    size, rest = divmod(num_clips, count)
    if rest or not size:
        raise InputError(
            f'a batch of {num_clips} clips a process is no multiple of '
            f'model.accumulative_counts={count}'
        )
    return size


def take_tensors(data: dict) -> dict[str, Tensor]:
    """Take the fields of a :class:`Batch` from what a data loader gives.

    Args:
        data (dict): A collated batch. Other keys are left out, whatever their
            values.

    Returns:
        dict: The fields that are there.

    Raises:
        InputError: One of them is not a tensor.
    """
    taken = {key: data[key] for key in Batch._fields if key in data}
    for key, value in taken.items():
        if not isinstance(value, Tensor):
            raise InputError(
                f'{key!r} of a batch is a {type(value).__name__}, not a '
                'tensor: all clips need the same number of frames and size, '
                'and train_dataloader.collate_fn=dict('
                "type='stylegan_v_mm.collate_clips')"
            )
    return taken
