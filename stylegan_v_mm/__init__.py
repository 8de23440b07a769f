"""StyleGAN-V, the continuous-time video GAN (CVPR 2022), for OpenMMLab."""

import getpass
import os

from .version import __version__


def _name_user() -> None:
    """Name a user and a home where the system knows neither.

    In a container that runs under any user id, mmengine cannot be imported
    without a home, and torch's compiler not without a user's name. The home
    that is named here takes no files: nothing is cached.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ['USER'] = str(os.getuid())
    home = os.environ.get('HOME', os.path.expanduser('~'))
    if not os.path.isabs(home):
        os.environ['HOME'] = os.devnull


_name_user()

__all__ = ['__version__']
