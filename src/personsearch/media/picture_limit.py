"""The largest picture or video frame that is decoded, because files are untrusted."""

from pathlib import Path

from personsearch.errors import PictureError

MAX_PIXELS = 80_000_000
"""Pixels of the largest picture that is read, unless a caller sets another limit."""


def check_pixels(path: Path, size: tuple[int, int], max_pixels: int, each: str = "") -> None:
    """Raise `PictureError` for a size (width, height) of more than `max_pixels`.

    `each` is " a frame" where the size is not that of the whole file.
    """
    width, height = size
    if width * height > max_pixels:
        raise PictureError(
            f"{path}: {width} x {height} is {width * height:,} pixels{each}, the limit is "
            f"{max_pixels:,}; scale it down"
        )
