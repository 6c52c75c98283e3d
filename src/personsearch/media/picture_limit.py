"""The largest picture or video frame that is decoded, because files are untrusted."""

from pathlib import Path

from personsearch.errors import PictureError

MAX_PIXELS = 80_000_000
"""Pixels of the largest picture that is read, unless a caller sets another limit."""


def check_pixels(path: Path, size: tuple[int, int], max_pixels: int, each: str = "") -> None:
    """Raise an error for a size (width, height) of too many pixels.

    Args:
        path: the file that has it.
        size: as the file states it, before anything is decoded.
        max_pixels: the most that is allowed.
        each: " a frame" where it is not the whole file.

    Raises:
        PictureError: there are more than `max_pixels`.
    """
    width, height = size
    if width * height > max_pixels:
        raise PictureError(
            f"{path}: {width} x {height} is {width * height:,} pixels{each}, the limit is "
            f"{max_pixels:,}; scale it down"
        )
