"""What many tests need: a cache of their own, the log, scripts."""

import logging
import runpy
import subprocess

import pytest
import torch
from mmengine.logging import MMLogger

torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(autouse=True)
def cache_home(tmp_path_factory, monkeypatch):
    """Keep caches out of the user's home, and apart for each test."""
    path = tmp_path_factory.mktemp('cache')
    monkeypatch.setenv('XDG_CACHE_HOME', str(path))
    return path


@pytest.fixture
def warnings_logged():
    """Texts that are logged as warnings or worse, in a growing list."""
    texts = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: texts.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield texts
    logger.removeHandler(handler)


@pytest.fixture
def run_script(monkeypatch, capsys):
    """Run a script as a process would, without the start of a process."""

    def run_script(path, *args):
        capsys.readouterr()
        monkeypatch.setattr('sys.argv', [str(path), *map(str, args)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(path), run_name='__main__')
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(args, end.value.code or 0, out, err)

    return run_script
