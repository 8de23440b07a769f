"""Source packages: found as pip finds them, read, and never executed."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile

import pytest

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation.detectors.package_index import (
    Archive,
    read_archive,
)

NAME = 'harmless-0.1.tar.gz'


def write_package(path, trap):
    """Make a source package whose ``setup.py`` would write a file."""
    files = {
        'setup.py': f'open({str(trap)!r}, "w")\n'
        'from setuptools import setup\nsetup()\n',
        'PKG-INFO': 'Metadata-Version: 2.1\nName: harmless\nVersion: 0.1\n',
        'setup.cfg': '[metadata]\nname = harmless\nversion = 0.1\n',
        'weights.ckpt': 'no code\n' * 1000,
    }
    with tarfile.open(path, 'w:gz') as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f'harmless-0.1/{name}')
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))


@pytest.fixture
def trap(tmp_path):
    return tmp_path / 'executed'


@pytest.fixture
def archive(tmp_path, trap, monkeypatch):
    """A package in the folder ``links``, where pip looks for it."""
    folder = tmp_path / 'links'
    folder.mkdir()
    write_package(folder / NAME, trap)
    content = (folder / NAME).read_bytes()
    for variable in list(os.environ):
        if variable.startswith('PIP_') or variable.endswith('CA_BUNDLE'):
            monkeypatch.delenv(variable)
    monkeypatch.setenv('PIP_CONFIG_FILE', '/dev/null')
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.setenv('PIP_FIND_LINKS', str(folder))
    monkeypatch.setenv('PIP_RETRIES', '0')
    digest = hashlib.sha256(content).hexdigest()
    return Archive('harmless', NAME, len(content), digest, 'https://a/b')


@pytest.fixture
def links(tmp_path):
    return tmp_path / 'links'


@pytest.fixture
def index(archive, links, https_site, monkeypatch):
    """A real index with the package, over https."""
    (links / NAME).rename(https_site.folder / NAME)
    page = https_site.folder / 'simple/harmless/index.html'
    page.parent.mkdir(parents=True)
    page.write_text(
        '<a href="../../harmless-0.2.tar.gz">harmless-0.2.tar.gz</a>\n'
        '<a href="../../harmless-0.1-py3-none-any.whl">'
        'harmless-0.1-py3-none-any.whl</a>\n'
        f'<a href="../../{NAME}#sha256={archive.sha256}">{NAME}</a>\n'
    )
    monkeypatch.delenv('PIP_NO_INDEX')
    monkeypatch.delenv('PIP_FIND_LINKS')
    monkeypatch.setenv('PIP_INDEX_URL', f'{https_site.url}/simple')
    # What pip trusts; the other variables are other programs'.
    monkeypatch.setenv('PIP_CERT', str(links.parent / 'authority.pem'))
    return https_site


def test_nothing_of_a_package_is_executed(archive, trap, links, tmp_path):
    content = (links / NAME).read_bytes()
    assert read_archive(archive) == content
    assert read_archive(archive, links / NAME) == content
    assert not trap.exists()
    # The trap works: pip itself walks into it.
    subprocess.run(
        [
            *(sys.executable, '-m', 'pip', 'download', '--no-deps', '-q'),
            *('--no-binary', ':all:', '--no-build-isolation'),
            *('-d', tmp_path / 'there', 'harmless==0.1'),
        ],
        check=True,
        timeout=120,
    )
    assert trap.exists()


def test_the_index_of_pips_settings_is_asked(archive, index, trap):
    content = (index.folder / NAME).read_bytes()
    assert read_archive(archive) == content
    assert index.requests == ['/simple/harmless/', f'/{NAME}']
    assert not trap.exists()


def test_a_proxy_of_pips_settings_is_asked(archive, index, monkeypatch):
    monkeypatch.setenv('PIP_PROXY', 'http://127.0.0.1:9')
    with pytest.raises(InputError, match='proxy'):
        read_archive(archive)
    assert index.requests == []


def message(archive, copy=None):
    """The one line that says what is wrong."""
    with pytest.raises(InputError) as error:
        read_archive(archive, copy)
    text = str(error.value)
    assert '\n' not in text
    return text


def test_a_server_of_an_unknown_certificate_is_refused(
    archive, index, monkeypatch
):
    monkeypatch.delenv('PIP_CERT')
    text = message(archive)
    assert 'certificate verify failed' in text.lower().replace('_', ' ')


def test_without_a_network_the_way_by_hand_is_told(archive, monkeypatch):
    monkeypatch.delenv('PIP_NO_INDEX')
    monkeypatch.delenv('PIP_FIND_LINKS')
    monkeypatch.setenv('PIP_INDEX_URL', 'https://127.0.0.1:9/simple')
    text = message(archive)
    assert text.startswith(f'{NAME} cannot be downloaded: Could not fetch')
    assert '127.0.0.1' in text
    for part in (archive.url, archive.sha256, '--from'):
        assert part in text


def test_without_pip_the_way_by_hand_is_told(archive, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pip._internal.commands', None)
    text = message(archive)
    for part in ('pip', archive.url, archive.sha256, '--from'):
        assert part in text


def test_a_pip_of_other_names_is_told(archive, monkeypatch):
    from pip._internal.commands.download import DownloadCommand

    monkeypatch.delattr(DownloadCommand.__mro__[1], '_build_package_finder')
    text = message(archive)
    assert '_build_package_finder' in text
    assert archive.url in text


def test_settings_that_pip_refuses_are_told(archive, monkeypatch, capfd):
    monkeypatch.setenv('PIP_TIMEOUT', 'long')
    assert '--from' in message(archive)


def test_an_index_without_the_package_is_told(archive, links):
    (links / NAME).rename(links / 'harmless-0.2.tar.gz')
    assert "pip's index does not have it" in message(archive)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda x: x[:100], 'it has 100 bytes, not'),
        (lambda x: b'', 'it has 0 bytes, not'),
        (lambda x: x + b'.', 'it has more than'),
        (lambda x: x[:-1] + b'.', 'its SHA-256 checksum is'),
    ],
)
def test_another_file_is_refused(archive, index, change, words, tmp_path):
    path = index.folder / NAME
    path.write_bytes(change(path.read_bytes()))
    assert words in message(archive)
    text = message(archive, path)
    assert words in text
    assert text.startswith(str(path))


def test_a_file_without_end_is_not_read_to_its_end(archive, index):
    large = b'.' * (archive.size + 2**24)
    index.answers[f'/{NAME}'] = (200, {}, large)
    assert 'it has more than' in message(archive)


def test_a_server_that_breaks_off_is_told(archive, index):
    content = (index.folder / NAME).read_bytes()
    headers = {'Content-Length': str(len(content))}
    index.answers[f'/{NAME}'] = (200, headers, content[:100])
    assert 'cannot be downloaded' in message(archive)
    index.answers[f'/{NAME}'] = (404, {}, b'')
    assert '404' in message(archive)


def test_a_missing_copy_is_named(archive, tmp_path):
    path = tmp_path / 'none.tar.gz'
    assert str(path) in message(archive, path)
    assert str(tmp_path) in message(archive, tmp_path)
