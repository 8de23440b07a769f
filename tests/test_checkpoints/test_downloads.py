"""Downloads: over https, with a checksum, whole or not at all."""

import hashlib
import os
import socket

import pytest

from stylegan_v_mm.checkpoints import downloads
from stylegan_v_mm.checkpoints.downloads import local_file
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import sha256_of

CONTENT = b'weights' * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def url(https_site):
    (https_site.folder / 'a.pth').write_bytes(CONTENT)
    return f'{https_site.url}/a.pth'


def kept(cache_home):
    return sorted(p.name for p in cache_home.rglob('*') if p.is_file())


@pytest.mark.parametrize('by_argument', [False, True])
def test_a_download_is_kept(by_argument, https_site, url, cache_home):
    arguments = (url, '', SHA256.upper())
    if not by_argument:
        arguments = (f'{url}#sha256={SHA256}', '')
    for _ in range(2):
        file = local_file(*arguments)
        assert file.read_bytes() == CONTENT
    assert https_site.requests == ['/a.pth']
    assert kept(cache_home) == [file.name]
    assert sha256_of(file) == SHA256


def test_what_is_not_there(url, cache_home, tmp_path):
    with pytest.raises(InputError, match=r'b\.pth.*404'):
        local_file(url.replace('a.pth', 'b.pth'), '', SHA256)
    with pytest.raises(InputError, match=r'no file .*b\.pth: get it'):
        local_file(tmp_path / 'b.pth', 'get it')
    assert kept(cache_home) == []


@pytest.mark.parametrize(
    ('change', 'sha256', 'words'),
    [
        (('https:', 'http:'), SHA256, 'need https'),
        (('https:', 'ftp:'), SHA256, 'need https'),
        (('https:', 'file:'), SHA256, 'need https'),
        (('https://', 'https://['), SHA256, 'IPv6'),
        (('', ''), None, 'needs its SHA-256 checksum'),
        (('a.pth', 'a.pth#sha256=12'), None, 'needs its SHA-256 checksum'),
        (('a.pth', f'a.pth#md5={SHA256}'), None, 'needs its SHA-256'),
    ],
)
def test_no_request_is_made(change, sha256, words, https_site, url):
    with pytest.raises(InputError, match=words) as error:
        local_file(url.replace(*change), '', sha256)
    assert url.split('/')[-1] in str(error.value)
    assert https_site.requests == []


def test_another_checksum(url, cache_home):
    with pytest.raises(InputError, match=rf'a\.pth.*is {SHA256}, not 0000'):
        local_file(url, '', 64 * '0')
    assert kept(cache_home) == []


def test_a_server_that_is_not_trusted(
    https_site, url, cache_home, monkeypatch
):
    monkeypatch.delenv('SSL_CERT_FILE')
    with pytest.raises(InputError, match=r'(?i)a\.pth.*certificate'):
        local_file(url, '', SHA256)
    assert https_site.requests == []
    assert kept(cache_home) == []


def test_redirections_stay_with_https(https_site, url, cache_home):
    https_site.answers['/moved'] = 302, {'Location': url}, b''
    plain = url.replace('https:', 'http:')
    https_site.answers['/leaves'] = 302, {'Location': plain}, b''
    assert (
        local_file(f'{https_site.url}/moved', '', SHA256).read_bytes()
        == CONTENT
    )
    with pytest.raises(InputError, match='which is not https'):
        local_file(f'{https_site.url}/leaves', '', 64 * '0')
    assert len(kept(cache_home)) == 1


@pytest.mark.parametrize('said', [True, False])
def test_what_is_too_large(said, https_site, url, cache_home, monkeypatch):
    monkeypatch.setattr(downloads, 'MAX_DOWNLOAD', 5000)
    headers = {'Content-Length': str(len(CONTENT))} if said else {}
    https_site.answers['/a.pth'] = 200, headers, CONTENT
    with pytest.raises(InputError, match='more than 5000 bytes'):
        local_file(url, '', SHA256)
    assert kept(cache_home) == []


def test_what_breaks_off(https_site, url, cache_home):
    headers = {'Content-Length': '7000'}
    https_site.answers['/a.pth'] = 200, headers, CONTENT[:3000]
    with pytest.raises(InputError, match='checksum'):
        local_file(url, '', SHA256)
    assert kept(cache_home) == []


def test_a_silent_server_is_given_up(cache_home, monkeypatch):
    monkeypatch.setattr(downloads, 'TIMEOUT', 0.2)
    with socket.create_server(('127.0.0.1', 0)) as server:
        url = f'https://127.0.0.1:{server.getsockname()[1]}/a.pth'
        with pytest.raises(InputError, match=r'a\.pth: .*timed out'):
            local_file(url, '', SHA256)
    assert kept(cache_home) == []


def test_names_are_no_paths(https_site, cache_home):
    for name in ('..%2f..%2fx', 'x' * 300, '', '..'):
        https_site.answers[f'/{name}'] = 200, {}, name.encode()
        digest = hashlib.sha256(name.encode()).hexdigest()
        file = local_file(f'{https_site.url}/{name}', '', digest)
        assert file.parent == cache_home / 'stylegan_v_mm' / 'downloads'
        assert os.path.realpath(file) == str(file)
        assert file.read_bytes() == name.encode()
