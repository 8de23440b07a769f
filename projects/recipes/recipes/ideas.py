"""The recipes that are compared."""

from typing import NamedTuple


class Recipe(NamedTuple):
    """What a recipe changes in the config.

    Attributes:
        options (dict): As for ``--cfg-options``.
        first (dict, optional): Instead of these in the first turn, whose
            networks the second one starts from.
    """

    options: dict
    first: dict | None = None


_SCHEDULE = {
    'schedules.r1_gamma': [(0, 20), (60, 2)],
    'schedules.lr': [(0, 0.006), (80, 0.002)],
    'schedules.beta2': [(0, 0.9), (60, 0.99)],
    'schedules.ema_kimg': [(0, 0), (60, 1)],
}
_PAIRS = {'model.gan_loss': 'relativistic', 'model.r2_gamma': 10}
_ANY_LENGTH = {'model.discriminator.frame_fusion': 'mean'}

#: Name -> recipe. Numbers are for ``rc_track_32.py`` and 20 minutes.
RECIPES = {
    'published': Recipe({}),
    'weak_penalty': Recipe({'model.r1_gamma': 1}),
    'relativistic': Recipe(_PAIRS),
    'noise_penalty': Recipe(
        {
            'model.penalty_sigma': 0.01,
            'model.d_reg_interval': 1,
            'model.r2_gamma': 10,
        }
    ),
    'schedule': Recipe(_SCHEDULE),
    'relativistic_schedule': Recipe(
        _PAIRS | _SCHEDULE | {'schedules.r2_gamma': [(0, 20), (60, 2)]}
    ),
    'temporal_shift': Recipe({'model.discriminator.temporal_shift': True}),
    'mean_of_frames': Recipe(_ANY_LENGTH),
    'images_first': Recipe({}, first={'num_frames': 1}),
}
