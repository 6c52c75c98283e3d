"""Files that are there whole or not at all, also after a power cut."""

import os
from pathlib import Path


def replace_file(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Writes beside the file, then moves it there: a reader sees the old one or the new one.

    Args:
        path: the file, which may be there or not.
        text: all of it, as UTF-8.
        mode: who may read and write it, less what this process masks.

    Raises:
        OSError: no room, or no right to; what was there is left as it was.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """What was written to a file, or the names in a folder, outlives a power cut from now on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
