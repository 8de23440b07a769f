"""StyleGAN-V, the continuous-time video GAN (CVPR 2022), for OpenMMLab."""

import getpass
import os

from .version import __version__


def _name_user() -> None:
    """Set a user name and a home directory if the system has none.

    In a container that runs under an arbitrary user id, mmengine needs a home
    directory to be imported, and torch's compiler needs a user name. The home
    that is set here cannot hold files, so nothing is cached.
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
