"""Two discriminators: one judges each frame alone, one the whole clip.

The MoCoGAN+SG2 baseline of Skorokhodov et al., "StyleGAN-V" (CVPR 2022),
section 4: MoCoGAN (Tulyakov et al., CVPR 2018) with StyleGAN2's networks.
Parameter names are those of the published code.
"""

import functools
import itertools
import math

import torch
from torch import Tensor, nn

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.models.noise import own_rows
from stylegan_v_mm.registry import MODELS


class Noise(nn.Module):
    """Add normal noise, both in training and in eval mode.

    Args:
        sigma (float): Its standard deviation.
    """

    def __init__(self, sigma: float):
        super().__init__()
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        """Add noise to ``x`` [N, ...] for the N clips of this process."""
        noise = own_rows(torch.randn, x.shape, x.device)
        return x.add(noise, alpha=self.sigma)


class VideoDiscriminator(nn.Module):
    """3-D convolutions over a clip, with a logit for each receptive field.

    Each layer removes 3 frames and halves width and height, like the published
    ones from 64 px on. Smaller frames have fewer layers, so that at least 4x4
    is left for the last one.

    Args:
        resolution (int): Width and height of a frame, a power of two from 16
            to 1024.
        channels (int): Feature maps after the first layer, doubled in each of
            the next ones. Defaults to 64.
        num_t_paddings (int): Number of layers, from the first, that are padded
            in time, for shorter clips; 6 pads all. Defaults to 0.

    Raises:
        InputError: A value is out of range.
    """

    def __init__(
        self, resolution: int, channels: int = 64, num_t_paddings: int = 0
    ):
        super().__init__()
        if channels < 1 or not 0 <= num_t_paddings <= 6:
            raise InputError(
                f'video_channels={channels} must be at least 1 and '
                f'num_t_paddings={num_t_paddings} from 0 to 6'
            )
        padded = [num_t_paddings > i for i in range(6)]
        num_halvings = min(4, int(math.log2(resolution)) - 2)
        widths = [3, *(channels * 2**i for i in range(num_halvings))]
        conv3d = functools.partial(nn.Conv3d, bias=False)
        convs = [
            conv3d(*pair, 4, (1, 2, 2), (2 * padded[i], 1, 1))
            for i, pair in enumerate(itertools.pairwise(widths))
        ]
        width = widths[-1]
        if resolution == 256:  # published for this resolution only
            convs += [
                conv3d(width, width, 3, 1, (1 + padded[i], 1, 1))
                for i in (4, 5)
            ]
        convs.append(conv3d(width, 1, 4, 1, (2 * padded[5], 0, 0)))

        layers = []
        for i, conv in enumerate(convs[:-1]):
            layers += [Noise(0.1), conv]
            if i > 0:
                norm = nn.BatchNorm3d(conv.out_channels)
                nn.init.normal_(norm.weight, 1, 0.02)
                layers.append(norm)
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        for conv in convs:
            nn.init.normal_(conv.weight, 0, 0.02)
        self.main = nn.Sequential(*layers, convs[-1])
        #: Shorter clips leave nothing for the last layer.
        self.min_num_frames = 1 + sum(
            conv.kernel_size[0] - 1 - 2 * conv.padding[0] for conv in convs
        )

    def check_length(self, num_frames: int) -> None:
        """Check that clips are long enough.

        Raises:
            InputError: They are too short.
        """
        if num_frames < self.min_num_frames:
            raise InputError(
                f'num_frames={num_frames}: the video discriminator takes '
                f'clips of at least {self.min_num_frames} frames, or shorter '
                'ones with discriminator.num_t_paddings=1 or more'
            )

    def forward(self, videos: Tensor) -> Tensor:
        """Compute logits for real and fake clips.

        Args:
            videos (Tensor): [N, T, 3, H, W], about [-1, 1].

        Returns:
            Tensor: Logits [N, patches], positive for real.

        Raises:
            InputError: The clips are too short.
        """
        self.check_length(videos.shape[1])
        return self.main(videos.transpose(1, 2)).flatten(1)


@MODELS.register_module()
class MoCoGANDiscriminator(nn.Module):
    """Image and video discriminator: videos and label ``c`` -> both logits.

    Only the image discriminator sees the label.

    Args:
        image_discr (dict): Config of a ``StyleGANVDiscriminator`` of single
            frames.
        num_frames (int): Frames in a clip. Defaults to 16.
        video_channels (int): ``channels`` of :class:`VideoDiscriminator`.
            Defaults to 64.
        num_t_paddings (int): See :class:`VideoDiscriminator`. Defaults to 0.
        resolution (int, optional): Width and height of the frames. This and
            the next two are for the image discriminator, unless its own
            config sets them. They default to None, which leaves them to that
            config.
        c_dim (int, optional): Number of classes; 0 for none.
        num_fp16_res (int, optional): How many of the highest resolutions
            compute in half precision.

    Raises:
        InputError: A value is out of range, or clips are too short.
    """

    def __init__(
        self,
        image_discr: dict,
        num_frames: int = 16,
        video_channels: int = 64,
        num_t_paddings: int = 0,
        resolution: int | None = None,
        c_dim: int | None = None,
        num_fp16_res: int | None = None,
    ):
        super().__init__()
        given = dict(
            resolution=resolution, c_dim=c_dim, num_fp16_res=num_fp16_res
        )
        self.image_discr = MODELS.build(
            image_discr,
            default_args={k: v for k, v in given.items() if v is not None},
        )
        self.resolution = self.image_discr.resolution
        self.c_dim = self.image_discr.c_dim
        self.video_discr = VideoDiscriminator(
            self.resolution, video_channels, num_t_paddings
        )
        self.video_discr.check_length(num_frames)

    def forward(
        self, videos: Tensor, c: Tensor | None, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute logits for real and fake clips.

        Args:
            videos (Tensor): [N, T, 3, H, W], about [-1, 1].
            c (Tensor, optional): One-hot labels [N, c_dim].
            t (Tensor): Times of the frames [N, T]; not used.

        Returns:
            tuple: Logits of the frames [N * T], clip-major, and of the
            patches of each clip [N, patches]; positive for real.

        Raises:
            InputError: The clips are too short or of another size.
        """
        if c is not None:
            c = c.repeat_interleave(videos.shape[1], 0)
        frames = videos.flatten(0, 1)[:, None]  # N * T, 1, 3, H, W
        image_logits = self.image_discr(frames, c, t.reshape(-1, 1))
        return image_logits, self.video_discr(videos)
