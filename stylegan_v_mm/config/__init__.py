"""Reading configs, where strings that start with ``=`` are formulas.

Formulas name the config's top-level variables, as in
``ema_kimg='= batch_size * 10 / 32'``. They are computed after all inheritance
and options, so that a variable that is set there reaches every use of it.
"""

from .loading import load_config, resolve_config

__all__ = ['load_config', 'resolve_config']
