"""Reads pictures, which are untrusted: the size is checked before a pixel is decoded."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from personsearch.errors import PictureError

MAX_PIXELS = 80_000_000
"""Larger pictures are refused, unless a caller says otherwise."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""File endings that a folder of pictures is searched for."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "MPO")


def _open(path: Path, max_pixels: int) -> Image.Image:
    try:
        # Pillow warns of large pictures by itself; the check below is stricter and raises.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=_FORMATS)
    except FileNotFoundError:
        raise PictureError(f"{path}: no such picture") from None
    except IsADirectoryError:
        raise PictureError(f"{path}: is a folder, expected a picture file") from None
    except Image.DecompressionBombError:
        raise PictureError(
            f"{path}: has far more than {max_pixels:,} pixels; scale it down"
        ) from None
    except UnidentifiedImageError:
        empty = path.stat().st_size == 0
        what = "is empty (0 bytes)" if empty else "is not a picture that can be read"
        raise PictureError(f"{path}: {what}; expected JPEG, PNG, WebP, BMP or TIFF") from None
    except OSError as error:
        raise PictureError(f"{path}: cannot be opened ({error})") from None
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise PictureError(
            f"{path}: {width} x {height} is {width * height:,} pixels, the limit is "
            f"{max_pixels:,}; scale it down"
        )
    return image


def picture_size(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(width, height) as shown, EXIF rotation applied, without decoding the pixels.

    Raises:
        PictureError: missing, unreadable or too large.
    """
    with _open(Path(path), max_pixels) as image:
        width, height = image.size
        orientation = image.getexif().get(0x0112, 1)
    return (height, width) if orientation in (5, 6, 7, 8) else (width, height)


def read_picture(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The whole picture as RGB (H, W, 3) uint8, EXIF rotation applied.

    Raises:
        PictureError: missing, truncated, not a picture, or too large.
    """
    path = Path(path)
    with _open(path, max_pixels) as image:
        try:
            upright = ImageOps.exif_transpose(image) or image
            return np.asarray(upright.convert("RGB"))
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise PictureError(
                f"{path}: is truncated or damaged ({error}); replace or remove the file"
            ) from None
