"""What many tests need: a cache of their own, the log, scripts."""

import functools
import http.server
import logging
import runpy
import ssl
import subprocess
import threading
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.utils import manager
from real_process import leave_configs_as_they_are

torch.set_num_threads(min(2, torch.get_num_threads()))
leave_configs_as_they_are()


def pytest_collection_modifyitems(items):
    """Start with the files that have slow tests, so that none is left last.

    Each process starts with a half of the list, and takes over tests from
    the end of the other's: files stay together, as their fixtures like it.
    """
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope='session', autouse=True)
def shared_cache_home(tmp_path_factory):
    """Keep what fixtures cache that many tests share out of it, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('shared')))
        yield


@pytest.fixture(autouse=True)
def cache_home(tmp_path_factory, monkeypatch):
    """Keep caches out of the user's home, and apart for each test."""
    path = tmp_path_factory.mktemp('cache')
    monkeypatch.setenv('XDG_CACHE_HOME', str(path))
    return path


@pytest.fixture(autouse=True)
def released_lock():
    """Release the lock that mmengine keeps where it cannot make a logger.

    Threads of a later test would wait for it for ever.
    """
    yield
    if manager._lock._is_owned():
        warnings.warn('this test leaves mmengine with its lock', stacklevel=1)
        while manager._lock._is_owned():
            manager._lock.release()


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


class Site(NamedTuple):
    """A running server.

    Attributes:
        url: ``https://127.0.0.1:PORT``.
        folder: Whose files it gives.
        answers: Path to what is given instead: status, headers, content.
        requests: Paths that were asked for.
    """

    url: str
    folder: Path
    answers: dict
    requests: list


@pytest.fixture
def https_site(tmp_path, monkeypatch):
    """A real https server, with a certificate that clients here trust."""
    trustme = pytest.importorskip('trustme')
    folder = tmp_path / 'site'
    folder.mkdir()
    answers, requests = {}, []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            if self.path not in answers:
                return super().do_GET()
            status, headers, content = answers[self.path]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert('127.0.0.1').configure_cert(context)
    trusted = tmp_path / 'authority.pem'
    authority.cert_pem.write_to_path(str(trusted))
    monkeypatch.setenv('SSL_CERT_FILE', str(trusted))
    handler = functools.partial(Handler, directory=folder)
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    # The end of a test waits for so many seconds at most.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    url = f'https://127.0.0.1:{server.server_port}'
    yield Site(url, folder, answers, requests)
    server.shutdown()
    thread.join()
    server.server_close()
