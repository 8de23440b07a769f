"""What the options of training cost."""

from statistics import median

import torch
from tqdm import tqdm

from .measuring import Options, timed
from .models import build_ours, read_config
from .training import Training, random_batch

#: Name in the table -> options of the config.
CHOICES: dict[str, dict] = {
    'published': {},
    "gan_loss='relativistic'": {'model.gan_loss': 'relativistic'},
    'r2_gamma=1': {'model.r2_gamma': 1},
    'penalty_sigma=0.01': {'model.penalty_sigma': 0.01},
    '... in every iteration': {
        'model.penalty_sigma': 0.01,
        'model.d_reg_interval': 1,
    },
    'temporal_shift=True': {'model.discriminator.temporal_shift': True},
    "frame_fusion='mean'": {'model.discriminator.frame_fusion': 'mean'},
    'reuse_fakes=True': {'model.reuse_fakes': True},
}


def measure_choices(options: Options) -> dict[str, list[float]]:
    """Time iterations with each option; they take turns.

    Args:
        options: What to measure.

    Returns:
        Name of the option -> seconds of an iteration in each turn, in which a
        penalty counts once per interval.
    """
    models = {}
    for name, values in CHOICES.items():
        config = read_config(options)
        config.merge_from_dict(values)
        config.model.discriminator.num_frames = options.num_frames
        models[name] = Training(build_ours(options, config), config)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for turn in tqdm(range(options.repeats + 1), 'turns', disable=None):
        torch.manual_seed(turn)
        for name, model in models.items():
            batch = random_batch(options, model.gan)
            phases = model.phases(batch)
            times = {part: timed(phases[part])[0] for part in phases}
            times['R1'] /= model.gan.d_reg_interval
            if turn > 0:  # The first one warms up.
                seconds[name].append(sum(times.values()))
    return seconds


def choices_table(seconds: dict[str, list[float]]) -> list[list[str]]:
    """Lay out times, beside those of the published training."""
    base = median(seconds['published'])
    return [
        ['', 'ms an iteration', 'x published'],
        *(
            [name, f'{1e3 * median(x):.0f}', f'{median(x) / base:.2f}']
            for name, x in seconds.items()
        ),
    ]
