"""The SHA-256 of a file, by which a copy under another name is recognized."""

import hashlib
from pathlib import Path

from personsearch.media.opening import open_regular


def content_of(path: Path, inside: Path | str | None = None) -> bytes:
    """Return the SHA-256 of a regular file, read in blocks; for `inside` see `open_regular`.

    Raises:
        PictureError: it is missing, not a regular file, or may not be read.
        OSError: of the machine.
    """
    with open_regular(path, inside=inside) as file:
        return hashlib.file_digest(file, "sha256").digest()
