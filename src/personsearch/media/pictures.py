"""Reads pictures, which are untrusted: the size is checked before a pixel is decoded."""

import io
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError, features

from personsearch.errors import PictureError
from personsearch.media.picture_limit import MAX_PIXELS as MAX_PIXELS
from personsearch.media.picture_limit import check_pixels
from personsearch.media.video import read_frame
from personsearch.types import Scene

_PHONE = frozenset({".heic", ".heif", ".avif"})
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}) | _PHONE
"""File endings that a folder of pictures is searched for."""

_FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF"]  # JPEG opens MPO, too
_TURNED = ("TIFF", "HEIF")  # what comes upright out of its reader

_EXIF_IFD = 0x8769
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError)  # what Pillow raises on damaged files


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what Pillow has to say of odd metadata off the user's screen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _damaged(path: Path, error: Exception) -> PictureError:
    return PictureError(f"{path}: is truncated or damaged ({error}); replace or remove the file")


@cache
def _formats() -> list[str]:
    """What can be read here: HEIC only with pillow-heif, AVIF with that or a Pillow that can."""
    known = list(_FORMATS)
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
        known.append("HEIF")
    if features.check("avif"):
        known.append("AVIF")
    return known


def _no_picture(path: Path, data: bytes | None) -> str:
    if not (path.stat().st_size if data is None else data):
        return "is empty (0 bytes)"
    if path.suffix.lower() in _PHONE and not {"HEIF", "AVIF"} <= set(_formats()):
        return (
            f"is {path.suffix[1:].upper()}, which needs pillow-heif: pip install "
            "'personsearch[heic]'"
        )
    return "is not a picture that can be read; expected JPEG, PNG, WebP, HEIC, AVIF, BMP or TIFF"


def _open(path: Path, max_pixels: int, data: bytes | None = None) -> Image.Image:
    try:
        # Pillow warns of large pictures by itself; the check below is stricter and raises.
        with _quiet():
            image = Image.open(path if data is None else io.BytesIO(data), formats=_formats())
    except FileNotFoundError:
        raise PictureError(f"{path}: no such picture") from None
    except IsADirectoryError:
        raise PictureError(f"{path}: is a folder, expected a picture file") from None
    except Image.DecompressionBombError as error:
        # Pillow's own limit holds even where a caller allows more.
        raise PictureError(
            f"{path}: is too large ({error}); the limit is {max_pixels:,} pixels; scale it down"
        ) from None
    except UnidentifiedImageError:
        raise PictureError(f"{path}: {_no_picture(path, data)}") from None
    except (OSError, ValueError) as error:
        raise PictureError(f"{path}: cannot be opened ({error})") from None
    try:
        check_pixels(path, image.size, max_pixels)
    except PictureError:
        image.close()
        raise
    return image


def picture_size(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(width, height) as shown, EXIF rotation applied; only PNG needs its pixels decoded.

    Raises:
        PictureError: missing, unreadable or too large.
    """
    path = Path(path)
    with _open(path, max_pixels) as image, _quiet():
        width, height = image.size
        if image.format in _TURNED:
            return width, height
        try:
            orientation = image.getexif().get(0x0112, 1)
        except _DAMAGE as error:
            raise _damaged(path, error) from None
    return (height, width) if orientation in (5, 6, 7, 8) else (width, height)


def read_picture(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The whole picture as RGB (H, W, 3) uint8, EXIF rotation applied; the first of an animation.

    Raises:
        PictureError: missing, truncated, not a picture, or too large.
    """
    return _read(Path(path), max_pixels)[0]


def decode_picture(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """As `read_picture`, of a picture's bytes in memory; `name` stands in messages alone.

    Raises:
        PictureError: truncated, not a picture, or too large.
    """
    return _read(Path(name), max_pixels, data)[0]


def read_photo(
    path: Path, max_pixels: int = MAX_PIXELS
) -> tuple[NDArray[np.uint8], dict[int, Any]]:
    """A picture as `read_picture` gives it, and its EXIF data of how it was taken, by tag.

    Raises:
        PictureError: as `read_picture`.
    """
    return _read(Path(path), max_pixels)


def _read(
    path: Path, max_pixels: int, data: bytes | None = None
) -> tuple[NDArray[np.uint8], dict[int, Any]]:
    with _open(path, max_pixels, data) as image, _quiet():
        taken = _exif(image)
        try:
            upright = ImageOps.exif_transpose(image) or image
            if upright.mode.startswith("I;16"):  # converting would clip, not scale
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return np.asarray(upright.convert("RGB")), taken
        except _DAMAGE as error:
            raise _damaged(path, error) from None


def read_exif(path: Path) -> dict[int, Any]:
    """EXIF data of how a picture was taken, by tag; none of what cannot be read."""
    try:
        with _open(Path(path), MAX_PIXELS) as image, _quiet():
            return _exif(image)
    except PictureError:
        return {}


def _exif(image: Image.Image) -> dict[int, Any]:
    try:
        return dict(image.getexif().get_ifd(_EXIF_IFD))
    except _DAMAGE:
        return {}


def read_scene(scene: Scene, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The whole picture of a scene as RGB (H, W, 3) uint8: its file, or its frame of a video.

    Raises:
        PictureError: missing, truncated, not a picture or video, or too large.
    """
    if scene.frame is None:
        return read_picture(scene.path, max_pixels)
    return read_frame(scene.path, scene.frame, max_pixels)


def save_scene(scene: Scene, path: Path) -> None:
    """Puts the picture of a scene at `path`: the same bytes where the kind of file allows it.

    A frame of a video, or a picture of another kind, is encoded anew, as JPEG of quality 95 or by
    whatever the ending of `path` asks for.

    Raises:
        PictureError: the picture is missing, no picture or too large; or truncated, where it is
            encoded anew. The same bytes are copied as they are.
    """
    jpeg = (".jpg", ".jpeg")
    kinds = (scene.path.suffix.lower(), path.suffix.lower())
    if scene.frame is None and (kinds[0] == kinds[1] or all(kind in jpeg for kind in kinds)):
        picture_size(scene.path)
        shutil.copyfile(scene.path, path)
    else:
        Image.fromarray(read_scene(scene)).save(path, quality=95)
