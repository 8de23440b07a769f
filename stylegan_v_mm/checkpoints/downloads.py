"""Find weight files by path or URL, and check their checksums."""

import hashlib
import os
import re
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import HTTPRedirectHandler, build_opener

from tqdm import tqdm

from ..errors import InputError
from ..files import atomic_write, user_cache

#: Largest download, in bytes.
MAX_DOWNLOAD = 2**33
#: Longest silence of a server, in seconds.
TIMEOUT = 60


def local_file(
    path: str | os.PathLike, hint: str, sha256: str | None = None
) -> Path:
    """Find a file, downloading it once if it is a URL.

    Args:
        path: A path, or ``https://HOST/FILE#sha256=CHECKSUM``. A download is
            kept in the user's cache folder, and appears there when it is
            complete and has that checksum.
        hint: What to do if the file is missing, for the message.
        sha256: Hexadecimal checksum for a URL without one; ignored for a path.

    Returns:
        Path: The file on this machine.

    Raises:
        InputError: The file does not exist or cannot be downloaded safely: the
            URL is not https, the checksum is missing or wrong, or the file is
            too large.
    """
    if '://' not in str(path):
        if not Path(path).is_file():
            raise InputError(f'there is no file {path}: {hint}')
        return Path(path)
    try:
        url = urlparse(str(path))
    except ValueError as error:
        raise InputError(f'{path}: {error}') from error
    if url.scheme != 'https':
        raise InputError(f'{path}: downloads need https')
    wanted = (sha256 or url.fragment.removeprefix('sha256=')).lower()
    if not re.fullmatch('[0-9a-f]{64}', wanted):
        raise InputError(
            f'{path}: a download needs its SHA-256 checksum, 64 hexadecimal '
            'digits: end the URL with #sha256=CHECKSUM'
        )
    name = f'{wanted[:16]}_{Path(url.path).name[-100:]}'
    file = user_cache() / 'downloads' / name
    if not file.exists():
        _download(str(path), file, wanted)
    return file


class _OnlyToHttps(HTTPRedirectHandler):
    """Follow redirections to https URLs only."""

    def redirect_request(
        self,
        request: Any,
        response: Any,
        code: int,
        text: str,
        headers: Any,
        url: str,
    ) -> Any:
        if urlparse(url).scheme != 'https':
            raise OSError(f'it redirects to {url}, which is not https')
        return super().redirect_request(
            request, response, code, text, headers, url
        )


def _download(url: str, file: Path, sha256: str) -> None:
    """Download a file, which appears only if its checksum is right."""
    with atomic_write(file) as temporary:
        try:
            digest = _fetch(url, temporary, file.name)
            if digest != sha256:
                raise OSError(
                    f'its SHA-256 checksum is {digest}, not {sha256}'
                )
        except (OSError, ValueError, HTTPException) as error:
            raise InputError(f'cannot download {url}: {error}') from error


def _fetch(url: str, file: Path, name: str) -> str:
    """Download a URL to a file, and return the file's checksum."""
    digest, size = hashlib.sha256(), 0
    with (
        build_opener(_OnlyToHttps).open(url, timeout=TIMEOUT) as response,
        file.open('wb') as target,
        tqdm(
            desc=name,
            total=response.length,
            unit='B',
            unit_scale=True,
            disable=None,
        ) as progress,
    ):
        while chunk := response.read(2**20):
            size += len(chunk)
            if max(size, response.length or 0) > MAX_DOWNLOAD:
                raise OSError(f'it has more than {MAX_DOWNLOAD} bytes')
            digest.update(chunk)
            target.write(chunk)
            progress.update(len(chunk))
    return digest.hexdigest()
