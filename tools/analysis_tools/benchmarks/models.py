"""Our model and the baseline, with the same random weights."""

from copy import deepcopy

import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor

from stylegan_v_mm.config import load_config
from stylegan_v_mm.models import StyleGANV
from stylegan_v_mm.registry import MODELS

from .baseline import PerFrameGAN
from .measuring import OURS, Options, ways


def read_config(options: Options) -> Config:
    """Read a config and set what the options say.

    Raises:
        InputError: It cannot be read or has no such variables.
    """
    variables = dict(
        resolution=options.resolution,
        batch_size=options.batch,
    )
    if options.dtype == 'float32':
        variables['num_fp16_res'] = 0
    config = load_config(options.config, variables)
    if options.dtype != 'float32':
        config.model.generator.half_dtype = options.dtype
        config.model.discriminator.half_dtype = options.dtype
    return config


def build_ours(options: Options, config: Config) -> StyleGANV:
    """Build our model, with random weights from a seed."""
    torch.manual_seed(0)
    gan = MODELS.build(deepcopy(config.model)).to(options.device)
    if options.compile:
        # No second gradient goes through the generator.
        gan.generator.synthesis.compile()
        gan.generator_ema.synthesis.compile()
    return gan


def baseline_dtype(options: Options) -> str:
    """Return the published half precision, float16, on GPUs, else float32."""
    half = options.device == 'cuda' and options.dtype != 'float32'
    return 'float16' if half else 'float32'


def build_baseline(
    options: Options, config: Config, ours: StyleGANV
) -> PerFrameGAN:
    """Build the baseline with the weights of our model."""
    model = deepcopy(config.model)
    # On CPUs its blocks turn this into float32.
    model.generator.half_dtype = model.discriminator.half_dtype = 'float16'
    return PerFrameGAN(ours, model).to(options.device)


def one_hot(classes: Tensor, c_dim: int) -> Tensor:
    """Make labels [..., c_dim] of classes [...]; c_dim may be 0."""
    return F.one_hot(classes.long(), max(c_dim, 1))[..., :c_dim].float()


def build_models(options: Options) -> dict[str, StyleGANV]:
    """Build our model and the baseline for sampling, by their ways."""
    config = read_config(options)
    ours = build_ours(options, config).eval()
    baseline = build_baseline(options, config, ours).eval()
    return {**dict.fromkeys(ways(options.device), baseline), OURS: ours}
