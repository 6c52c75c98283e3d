"""Turn whatever a decoder raises into a `PictureError` of the file that it was decoding."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from personsearch.errors import PictureError

_LONGEST = 200  # characters of a decoder's own message


@contextmanager
def decoding(path: Path, problem: str = "is damaged") -> Iterator[None]:
    """Attribute every exception of the block to one file.

    Decoders raise what they like on damaged files: Pillow alone `struct.error`, `RuntimeError` and
    `OverflowError`. `MemoryError` counts too, because a damaged header can ask for any amount. They
    become a `PictureError` that names the file and the cause.
    """
    try:
        yield
    except PictureError:
        raise
    except Exception as error:
        raise PictureError(f"{path}: {problem} ({cause(error)}); replace or remove it") from error


def cause(error: BaseException) -> str:
    """Return the message of an exception in one short line, without the name of its file."""
    text = getattr(error, "strerror", None) or str(error)
    if not isinstance(error, OSError | SyntaxError) and text == str(error):
        text = f"{type(error).__name__}: {text}"  # such as a KeyError, which says only the key
    return " ".join(text.split()).removesuffix(":")[:_LONGEST] or type(error).__name__
