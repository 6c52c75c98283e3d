"""The SHA-256 of a file, by which a copy under another name is recognized."""

import hashlib
import os
import stat
from pathlib import Path

from personsearch.errors import PictureError


def content_of(path: Path) -> bytes:
    """Return the SHA-256 of a regular file, read in blocks.

    Raises:
        PictureError: it is missing, cannot be read, or is not a regular file.
    """
    try:
        # A FIFO is opened without waiting for whoever writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise PictureError(f"{path}: is not a regular file")
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror})") from None
