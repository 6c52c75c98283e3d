"""The SHA-256 of a file, by which a copy under another name is recognized."""

import hashlib
import os
import threading
from pathlib import Path

from personsearch.errors import PictureError
from personsearch.media.damage import UnreadNowError
from personsearch.media.opening import open_regular

_BLOCK = 1 << 20  # bytes
_MOST_HOLES = 64 << 30  # bytes of a sparse file that are not on the disk, but have to be read


def content_of(
    path: Path, inside: Path | str | None = None, stop: threading.Event | None = None
) -> bytes:
    """Return the SHA-256 of a regular file, read in blocks; for `inside` see `open_regular`.

    Raises:
        PictureError: it is missing, not a regular file, may not be read, or is sparse and takes
            hours to read.
        UnreadNowError: `stop` was set.
        OSError: of the machine.
    """
    digest = hashlib.sha256()
    with open_regular(path, inside=inside) as file:
        status = os.fstat(file.fileno())
        stored = 512 * getattr(status, "st_blocks", status.st_size)
        if status.st_size - stored > _MOST_HOLES:
            raise PictureError(f"{path}: is a sparse file, of {stored:,} bytes on the disk")
        while data := file.read(_BLOCK):
            if stop is not None and stop.is_set():
                raise UnreadNowError(f"{path}: was left because this run stops")
            digest.update(data)
    return digest.digest()
