"""StyleGANV: generator and discriminator train each other.

Skorokhodov et al., "StyleGAN-V" (CVPR 2022), on top of the training of
StyleGAN2-ADA (Karras et al. 2020).
"""

import copy
from typing import Any, NoReturn

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapperDict
from torch import Tensor

from ..errors import InputError, check_at_least, check_choice
from ..registry import MODELS
from .batch import take_tensors
from .counting import Counting
from .fakes import Fakes, count_codes, make_batch
from .gradients import DTYPES
from .graphs import LossGraphs
from .losses import GAN_LOSSES
from .objectives import Objectives
from .sampler import Sampler
from .shared import network_config
from .steps import Stepping

# With pinned memory, batches are sent while the GPU works.
_SEND = dict(type='BaseDataPreprocessor', non_blocking=True)


@MODELS.register_module()
class StyleGANV(Counting, Stepping, Objectives, BaseModel):
    """The GAN: generator, its moving average, and discriminator.

    An iteration is a generator step, a discriminator step and, every
    ``d_reg_interval`` iterations, a discriminator step on the R1 penalty
    alone ("lazy regularisation", Karras et al. 2020, section 3.1). Path
    length regularisation likewise follows the generator's step. The config
    corrects Adam's learning rates and betas for that.

    A discriminator may return a tuple of sets of logits, such as those of
    frames and of clips: each loss is averaged over each set, and the averages
    are added. R1, the log and the augmentation use the first set.

    Random states are equal in all processes: each process draws the noise of
    all and keeps its share, so that an iteration does not depend on the number
    of processes. Gradients, logs, ``w_avg``, ``pl_mean`` and the signs that
    steer the augmentation are averaged over the processes. The groups of the
    minibatch deviation are local, as published.

    Args:
        generator (dict): Config of the generator.
        discriminator (dict): Config of the discriminator.
        r1_gamma (float): Weight of the R1 penalty.
        resolution (int, optional): Width and height of a frame. This setting
            and the next five go to each network that accepts them and whose
            own config does not set them. They default to None, which leaves
            them to the networks.
        num_classes (int, optional): ``c_dim`` of the networks; 0 for none.
        num_frames (int, optional): Frames a training clip.
        max_num_frames (int, optional): Longest video in the data, in frames;
            the generator's ``max_period_len``. 1024 if None.
        motion_period (float, optional): Frames from one motion code to the
            next (``motion_z_distance``), and the shortest period of the time
            encoding (``min_period_len``).
        num_fp16_res (int, optional): How many of the highest resolutions
            compute in half precision.
        d_reg_interval (int): Iterations from one R1 step to the next.
            Defaults to 16.
        r2_gamma (float): Weight of the same penalty on fake clips, which
            follows R1 in its step. Defaults to 0, none, as published.
        penalty_sigma (float, optional): Standard deviation of noise, of
            pixels in [-1, 1], that estimates the norms of R1 and R2 by how
            much it changes the logit (Lin et al. 2025, "Seaweed-APT"):
            without second derivatives. Defaults to None: gradients.
        gan_loss (str): 'logistic', 'hinge', 'wasserstein' or 'relativistic'.
            The last one compares each fake clip with a real one, which then
            have the same label and times. Defaults to 'logistic', as
            published.
        pl_weight (float): Weight of the path length penalty; StyleGAN2 has
            2. Defaults to 0, none, as published.
        g_reg_interval (int): Iterations from one path length step to the
            next. Defaults to 4.
        style_mixing_prob (float): Probability that the styles of a clip are
            those of a second content from a random layer on; StyleGAN2 has
            0.9. Defaults to 0, as published.
        ema_kimg (float): Half-life of the generator's moving average, in
            thousands of clips. Defaults to 20.
        ema_rampup (float, optional): Limit of the half-life, as a share of
            the frames seen so far. Defaults to None, no limit.
        accumulative_counts (int): Parts of a batch that go through the
            networks one after another. Defaults to 1.
        reuse_fakes (bool): Whether the discriminator learns from the clips
            of the generator's step instead of new ones, which saves a pass
            through the generator. Defaults to False, as published.
        augment (dict, optional): Config of a ``VideoAugment`` of all clips
            that the discriminator sees. Defaults to None, no augmentation.
        gradient_dtype (str): What processes send each other gradients in,
            'float32' or 'bfloat16', half the bytes. Defaults to 'float32'.
        cuda_graph (bool): Whether losses are computed as CUDA graphs, on one
            GPU; see :class:`LossGraphs`. It has not run on a GPU yet.
            Defaults to False.
        data_preprocessor (dict, optional): mmengine's, to move data.

    Raises:
        InputError: The two networks do not fit each other, or a value is out
            of range.
    """

    def __init__(
        self,
        generator: dict,
        discriminator: dict,
        r1_gamma: float,
        resolution: int | None = None,
        num_classes: int | None = None,
        num_frames: int | None = None,
        max_num_frames: int | None = None,
        motion_period: float | None = None,
        num_fp16_res: int | None = None,
        d_reg_interval: int = 16,
        r2_gamma: float = 0,
        penalty_sigma: float | None = None,
        gan_loss: str = 'logistic',
        pl_weight: float = 0,
        g_reg_interval: int = 4,
        style_mixing_prob: float = 0,
        ema_kimg: float = 20,
        ema_rampup: float | None = None,
        accumulative_counts: int = 1,
        reuse_fakes: bool = False,
        augment: dict | None = None,
        gradient_dtype: str = 'float32',
        cuda_graph: bool = False,
        data_preprocessor: dict | None = None,
    ):
        super().__init__(data_preprocessor or _SEND)
        model = dict(
            generator=generator,
            discriminator=discriminator,
            resolution=resolution,
            num_classes=num_classes,
            num_frames=num_frames,
            max_num_frames=max_num_frames,
            motion_period=motion_period,
            num_fp16_res=num_fp16_res,
        )
        self.generator = MODELS.build(network_config(model, 'generator'))
        self.discriminator = MODELS.build(
            network_config(model, 'discriminator')
        )
        for name in ('resolution', 'c_dim'):
            ours = getattr(self.generator, name)
            theirs = getattr(self.discriminator, name)
            if ours != theirs:
                raise InputError(
                    f'model.generator.{name}={ours} and '
                    f'model.discriminator.{name}={theirs} must be equal'
                )
        check_at_least(
            0,
            'model',
            r1_gamma=r1_gamma,
            r2_gamma=r2_gamma,
            pl_weight=pl_weight,
            style_mixing_prob=style_mixing_prob,
            ema_kimg=ema_kimg,
            ema_rampup=ema_rampup,
        )
        check_at_least(
            1,
            'model',
            d_reg_interval=d_reg_interval,
            g_reg_interval=g_reg_interval,
            accumulative_counts=accumulative_counts,
        )
        if penalty_sigma is not None and penalty_sigma <= 0:
            raise InputError(
                f'model.penalty_sigma={penalty_sigma} must be positive'
            )
        if style_mixing_prob > 1:
            raise InputError(
                f'model.style_mixing_prob={style_mixing_prob} must be at '
                'most 1'
            )
        check_choice('model', GAN_LOSSES, gan_loss=gan_loss)
        check_choice('model', DTYPES, gradient_dtype=gradient_dtype)
        if cuda_graph and accumulative_counts > 1:
            raise InputError(
                'model.cuda_graph=True needs accumulative_counts=1: a graph '
                'writes gradients, it does not add them up'
            )
        self.augment = None if augment is None else MODELS.build(augment)
        # Not mmengine's ExponentialMovingAverage, which copies the weights at
        # its first update and has no ramp-up.
        self.generator_ema = copy.deepcopy(self.generator)
        self.generator_ema.requires_grad_(False).eval()
        self.r1_gamma = r1_gamma
        self.d_reg_interval = d_reg_interval
        self.r2_gamma = r2_gamma
        self.penalty_sigma = penalty_sigma
        self.gan_loss = GAN_LOSSES[gan_loss]
        self.pl_weight = pl_weight
        self.g_reg_interval = g_reg_interval
        self.style_mixing_prob = style_mixing_prob
        self.ema_kimg = ema_kimg
        self.ema_rampup = ema_rampup
        self.accumulative_counts = accumulative_counts
        self.reuse_fakes = reuse_fakes
        self.gradient_dtype = DTYPES[gradient_dtype]
        self.graphs = LossGraphs() if cuda_graph else None
        self.max_num_frames = max_num_frames or 1024
        #: Clips of the generator's step, with ``reuse_fakes``.
        self.kept_fakes: list[Fakes] = []
        self.register_buffer('pl_mean', torch.zeros([]))  # of path lengths
        #: Iterations so far, and real frames in all processes.
        self.iteration = self.frames_seen = 0

    @property
    def c_dim(self) -> int:
        """Width of the class labels; 0 for an unconditional model."""
        return self.generator.c_dim

    def train(self, mode: bool = True) -> 'StyleGANV':
        """Set the training mode; the moving average stays in eval mode."""
        super().train(mode)
        self.generator_ema.eval()
        return self

    def train_step(
        self, data: dict, optim_wrapper: OptimWrapperDict
    ) -> dict[str, Tensor | float]:
        """Run one iteration.

        Args:
            data (dict): From a data loader: the fields of :class:`Batch` up
                to ``gen_c``. Noise is drawn unless ``gen_z`` is there, too;
                other keys are ignored.
            optim_wrapper (OptimWrapperDict): ``generator`` and
                ``discriminator``.

        Returns:
            dict: What to log, scalars.
        """
        data = take_tensors(data)
        if self.gan_loss.is_relativistic:
            for key in ('t', 'c'):
                data[f'gen_{key}'] = data[key][:, None].repeat(1, 2, 1)
        # While the times are on the CPU:
        num_codes = count_codes(self.generator, data)
        if hasattr(self.discriminator, 'check_times'):
            self.discriminator.check_times(data['t'])
            self.discriminator.check_times(data['gen_t'])
        batch = make_batch(
            self.generator,
            self.data_preprocessor(data, True),
            style_mixing_prob=self.style_mixing_prob,
            num_codes=num_codes,
            video_len=self.max_num_frames,
        )
        parts = batch.split(self.accumulative_counts)
        num_clips, num_frames = batch.t.shape
        num_clips *= get_world_size()
        steps = [('generator', self.generator_loss)]
        if self.pl_weight > 0 and self.iteration % self.g_reg_interval == 0:
            steps.append(('generator', self.path_length_loss))
        steps.append(('discriminator', self.discriminator_loss))
        if self.iteration % self.d_reg_interval == 0:
            steps.append(('discriminator', self.r1_loss))
        self.kept_fakes.clear()
        logs: dict[str, Any] = {}
        bad = torch.zeros((), device=batch.t.device)
        for name, loss in steps:
            logs |= self.step(name, loss, parts, optim_wrapper)
            bad = bad + logs['bad_gradients']
        logs['bad_gradients'] = bad
        values = torch.stack(list(logs.values()))
        all_reduce(values, 'mean')
        logs = dict(zip(logs, values))
        all_reduce(self.generator.mapping.w_avg, 'mean')
        self.update_ema(num_clips)
        if self.augment is not None:
            self.augment.adapt(self.iteration, num_clips)
            logs['augment_p'] = self.augment.p.clone()
        self.iteration += 1
        self.frames_seen += num_clips * num_frames
        logs['kimg'] = self.frames_seen / 1000
        return logs

    def ema_beta(self, num_clips: int) -> float:
        """Return the share of the average that so many clips leave of it."""
        half_life = self.ema_kimg * 1000
        if self.ema_rampup is not None:
            half_life = min(half_life, self.frames_seen * self.ema_rampup)
        return 0.5 ** (num_clips / max(half_life, 1e-8))

    @torch.no_grad()
    def update_ema(self, num_clips: int) -> None:
        """Update the average generator after a step on so many clips."""
        torch._foreach_lerp_(
            list(self.generator_ema.parameters()),
            list(self.generator.parameters()),
            1 - self.ema_beta(num_clips),
        )
        pairs = zip(self.generator_ema.buffers(), self.generator.buffers())
        for average, current in pairs:
            average.copy_(current)

    def sampler(self) -> Sampler:
        """Make a sampler of the average generator as it is now."""
        return Sampler(self.generator_ema)

    def test_step(self, data: dict) -> list[dict]:
        """Render the clips of seeds, for mmengine's loops.

        Args:
            data (dict): Batch of a ``SeedDataset``: ``seed`` [N], ``t``
                [N, T], ``c`` [N, c_dim].

        Returns:
            list: A dict for each seed: ``video`` uint8 [T, 3, H, W], ``seed``.
        """
        seeds = [int(seed) for seed in data['seed']]
        clips = self.sampler().sample_clips(seeds, data['t'], data['c'])
        return [
            dict(video=video, seed=seed) for seed, video in zip(seeds, clips)
        ]

    val_step = test_step

    def forward(
        self, inputs: dict, data_samples: None = None, mode: str = 'tensor'
    ) -> NoReturn:
        """Raise an error: a GAN has two networks to call."""
        raise NotImplementedError('call train_step, test_step or sampler')
