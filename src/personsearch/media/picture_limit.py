"""How large a picture or a frame of a video may be, since files are untrusted."""

from pathlib import Path

from personsearch.errors import PictureError

MAX_PIXELS = 80_000_000
"""Larger pictures are refused, unless a caller says otherwise."""


def check_pixels(path: Path, size: tuple[int, int], max_pixels: int, each: str = "") -> None:
    """Refuses a size (width, height) of too many pixels.

    Args:
        path: the file that has it.
        size: as the file states it, before anything is decoded.
        max_pixels: the most that is allowed.
        each: what has so many pixels, where it is not the whole file.

    Raises:
        PictureError: there are more than `max_pixels`.
    """
    width, height = size
    if width * height > max_pixels:
        raise PictureError(
            f"{path}: {width} x {height} is {width * height:,} pixels{each}, the limit is "
            f"{max_pixels:,}; scale it down"
        )
