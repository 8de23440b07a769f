"""Reading configs: formulas over their variables.

A string that starts with ``=`` is a formula over the config's top-level
variables, as in a spreadsheet::

    resolution = 256
    batch_size = 64
    model = dict(r1_gamma='= 0.0002 * resolution**2 / batch_size', ...)

Formulas are computed after all inheritance and command-line options, so that
a config which sets ``resolution = 128`` changes every place that uses it.
:func:`load_config` computes them, and so does ``VideoGANRunner.from_cfg``.
Build single parts from a config that :func:`load_config` has returned.
"""

from .loading import load_config, resolve_config

__all__ = [
    'load_config',
    'resolve_config',
]
