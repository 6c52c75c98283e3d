"""Turn whatever a decoder raises into a `PictureError` of the file that it was decoding."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from personsearch.errors import PictureError

_LONGEST = 200  # characters of a decoder's own message
_MACHINE = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ENOSPC, errno.EDQUOT}
)


class UnreadNowError(PictureError):
    """A file that could not be read for a reason outside of it; a later run may read it."""


@contextmanager
def decoding(path: Path, problem: str = "is damaged") -> Iterator[None]:
    """Attribute every exception of the block to one file, except errors of the machine.

    Decoders raise what they like on damaged files: Pillow alone `struct.error`, `RuntimeError` and
    `OverflowError`. They become a `PictureError` that names the file and the cause.
    """
    try:
        yield
    except PictureError:
        raise
    except Exception as error:
        if is_of_machine(error):
            raise
        raise PictureError(f"{path}: {problem} ({cause(error)}); replace or remove it") from error


def is_of_machine(error: BaseException) -> bool:
    """Whether memory, descriptors or a disk failed, which says nothing about the file."""
    if isinstance(error, av.FFmpegError):
        return False  # FFmpeg uses the same numbers for damaged data
    number = error.errno if isinstance(error, OSError) else None
    return isinstance(error, MemoryError) or number in _MACHINE


def cause(error: BaseException) -> str:
    """Return the message of an exception in one short line, without the name of its file."""
    text = getattr(error, "strerror", None) or str(error)
    if not isinstance(error, OSError | SyntaxError) and text == str(error):
        text = f"{type(error).__name__}: {text}"  # such as a KeyError, which says only the key
    return " ".join(text.split()).removesuffix(":")[:_LONGEST] or type(error).__name__
