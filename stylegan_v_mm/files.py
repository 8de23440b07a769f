"""Weight files by path or URL, with a checksum."""

import hashlib
import os
from pathlib import Path
from urllib.parse import urlparse

import torch

from .errors import InputError


def user_cache() -> Path:
    """Folder of this package in the user's cache; may not exist yet."""
    cache = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(cache, 'stylegan_v_mm')


def local_file(path: str | os.PathLike, hint: str) -> Path:
    """Find a file, downloading it once if it is a URL.

    Args:
        path: A path, or an http(s) URL; a download is kept in the user's
            cache folder, and appears there when it is complete.
        hint: What to do where a file is missing; ends the message.

    Returns:
        Path: Of the file on this machine.

    Raises:
        InputError: There is no such file, or it cannot be downloaded.
    """
    url = urlparse(str(path))
    if url.scheme not in ('http', 'https'):
        if not Path(path).is_file():
            raise InputError(f'there is no file {path}: {hint}')
        return Path(path)
    key = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    file = user_cache() / 'downloads' / f'{key}_{Path(url.path).name}'
    if not file.exists():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(str(path), str(file))
        except (OSError, ValueError) as error:
            raise InputError(f'cannot download {path}: {error}') from error
    return file


def sha256_of(file: Path) -> str:
    """Checksum of a file, hexadecimal."""
    with file.open('rb') as stream:
        return hashlib.file_digest(stream, 'sha256').hexdigest()
