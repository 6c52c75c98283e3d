"""The SHA-256 of a file, by which a copy under another name is recognized."""

import hashlib
from pathlib import Path

from personsearch.media.opening import open_regular


def content_of(path: Path) -> bytes:
    """Return the SHA-256 of a regular file, read in blocks.

    Raises:
        PictureError: it is missing, cannot be read, or is not a regular file.
    """
    with open_regular(path, "file") as file:
        return hashlib.file_digest(file, "sha256").digest()
