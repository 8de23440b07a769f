"""Add configs and tools to the wheel; the rest is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithMim(build_py):
    """Copy configs, tools and the model index into ``stylegan_v_mm/.mim``.

    OpenMMLab's ``mim`` looks for them there in an installed package, but not
    in an editable one, which has them beside the package.
    """

    def run(self):
        super().run()
        if self.editable_mode:
            return
        mim = Path(self.build_lib, 'stylegan_v_mm', '.mim')
        shutil.rmtree(mim, ignore_errors=True)
        for name in ('configs', 'tools'):
            shutil.copytree(
                ROOT / name,
                mim / name,
                ignore=shutil.ignore_patterns('__pycache__'),
            )
        shutil.copy(ROOT / 'model-index.yml', mim)


setup(cmdclass={'build_py': BuildWithMim})
