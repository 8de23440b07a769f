"""StyleGAN-V, the continuous-time video GAN (CVPR 2022), for OpenMMLab."""

import sys

from .version import __version__

# mmengine imports transformers, where it is installed, for one optimizer.
# That takes a second of every start, so hide it from mmengine meanwhile.
if 'transformers' not in sys.modules:
    sys.modules['transformers'] = None  # type: ignore[assignment]
    try:
        import mmengine.optim  # noqa: F401
    finally:
        del sys.modules['transformers']

__all__ = ['__version__']
