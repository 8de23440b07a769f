"""Reading configs: formulas over their variables.

A string that starts with ``=`` is a formula over the config's top-level
variables, as in a spreadsheet::

    resolution = 256
    batch_size = 64
    model = dict(r1_gamma='= 0.0002 * resolution**2 / batch_size', ...)

Formulas are computed after all inheritance and command-line options, so that
a config which sets ``resolution = 128`` changes every place that uses it.
``VideoGANRunner.from_cfg`` computes them, too; other parts of a config are
built of what :func:`load_config` returns.
"""

from .loading import load_config, resolve_config

__all__ = [
    'load_config',
    'resolve_config',
]
