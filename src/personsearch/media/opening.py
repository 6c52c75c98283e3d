"""Open files that strangers may have written: regular files only, and never waiting for one."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from personsearch.errors import PictureError
from personsearch.media.damage import is_of_machine

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_SHOWN = 120  # characters of a name that is too long


def open_regular(
    path: Path, what: str = "picture", inside: Path | str | None = None
) -> BufferedReader:
    """Open a regular file for reading.

    Args:
        what: expected kind of file, for messages.
        inside: a folder that links must not lead out of; None to follow every link. A file that a
            user named is its own folder.

    Raises:
        PictureError: there is no such file, it is a folder, FIFO, device or socket, a link leads
            out of `inside`, or it may not be read.
        OSError: of the machine, such as too many open files.
    """
    try:
        # Merely opening some devices has an effect, so they are refused before.
        _check_kind(path, os.stat(path).st_mode, what)  # noqa: PTH116  (a str may come, too)
        file = open(path, "rb", opener=lambda name, _: os.open(name, _FLAGS))  # noqa: SIM115
    except PictureError:
        raise
    except (OSError, ValueError) as error:
        raise _refusal(path, what, error) from None
    try:
        _check_kind(path, os.fstat(file.fileno()).st_mode, what)
        if inside is not None and not _lies_in(_real_path(file, path), inside):
            raise PictureError(f"{path}: {LINK_OUT}")
    except BaseException:
        file.close()
        raise
    return file


LINK_OUT = "is a link out of its source; index the folder that holds the file"


def leads_out(path: Path, inside: Path) -> bool:
    """Whether a path, its links followed, lies outside of a folder."""
    return not _lies_in(os.path.realpath(path), inside)


def _check_kind(path: Path, mode: int, what: str) -> None:
    if not stat.S_ISREG(mode):
        received = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        expected = what if what.endswith("file") else f"{what} file"
        raise PictureError(f"{path}: is {received}, expected a {expected}")


def _refusal(path: Path, what: str, error: OSError | ValueError) -> BaseException:
    name = str(path)
    short = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
    if is_of_machine(error):
        return error
    if isinstance(error, ValueError):
        return PictureError(f"{short!r}: is no file name (it has a NUL byte or cannot be encoded)")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return PictureError(f"{path}: no such {what}")
    if error.errno == errno.ENAMETOOLONG:
        return PictureError(f"{short}: the name is too long, with {len(name):,} characters")
    return PictureError(f"{path}: cannot be opened ({error.strerror})")


def _real_path(file: BinaryIO, path: Path) -> str:
    """Return the path of an open file, without links."""
    try:
        # What was opened, even if a link was changed since; only Linux has it.
        return os.readlink(f"/proc/self/fd/{file.fileno()}")  # noqa: PTH115
    except OSError:
        return os.path.realpath(path)


def _lies_in(real: str, inside: Path | str) -> bool:
    root = os.path.realpath(inside)
    return real == root or real.startswith(root.rstrip(os.sep) + os.sep)
