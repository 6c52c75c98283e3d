"""Write files atomically, so that they survive a power cut."""

import os
import tempfile
from pathlib import Path


def replace_file(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Replace or create a file; readers see the old content or the new.

    Args:
        path: the file.
        text: its content, written as UTF-8.
        mode: permissions, reduced by the umask.

    Raises:
        OSError: it cannot be written; the old content is kept.
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


def make_writable(folder: Path) -> None:
    """Make a folder if it is missing, and write a byte there; OSError if that is not possible."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"x")


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
