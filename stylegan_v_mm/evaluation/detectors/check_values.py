"""Known numbers for checking downloaded detectors.

Each is a distance between black and white, published or computed with another
implementation.
"""

from typing import NamedTuple

import torch
from mmengine.device import get_device

from .eager import I3D
from .lpips import load_lpips


class CheckValue(NamedTuple):
    """A known number, and the number computed here.

    Attributes:
        name (str): Description of the number.
        found (float): Computed on this machine from the file in the user's
            cache.
        known (float): The correct number.
    """

    name: str
    found: float
    known: float

    @property
    def is_right(self) -> bool:
        """Whether the numbers agree to four digits."""
        return abs(self.found - self.known) <= 2e-4 * self.known

    def __str__(self) -> str:
        return f'{self.name}: {self.found:.5f} (known: {self.known:.6g})'


@torch.no_grad()
def check_values(name: str) -> list[CheckValue]:
    """Compute the known numbers of a detector, in seconds.

    Args:
        name (str): One of :data:`~.files.SOURCES`.

    Returns:
        list: The numbers.

    Raises:
        InputError: The file is missing or damaged.
    """
    device = get_device()
    if name == 'i3d':
        detector = I3D().to(device)
        black, white = (
            detector.features(
                torch.full((1, 30, 3, 224, 224), value, dtype=torch.uint8)
            )
            for value in (0, 255)
        )
        # The known value was computed by TensorFlow's network.
        return [
            CheckValue(
                'I3D, squared distance of 30 black frames from white ones',
                (black - white).square().sum().item(),
                151.39244,
            )
        ]
    white = torch.ones(1, 3, 64, 64, device=device)
    return [
        CheckValue(
            f'LPIPS ({network}), distance of a black image from a white one',
            load_lpips(network).to(device)(-white, white).item(),
            known,
        )
        for network, known in (('alex', 0.81401), ('vgg', 0.4538))
    ]
