"""Read pictures, which are untrusted: the size is checked before a pixel is decoded.

Everything raises `PictureError` for a file that is missing, damaged, too large or not a picture.
"""

import io
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, features

from personsearch.errors import PictureError
from personsearch.media.damage import cause, decoding, is_of_machine
from personsearch.media.opening import open_regular
from personsearch.media.picture_limit import MAX_PIXELS as MAX_PIXELS
from personsearch.media.picture_limit import check_pixels
from personsearch.media.video import read_frame
from personsearch.types import Scene

_PHONE = frozenset({".heic", ".heif", ".avif"})
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}) | _PHONE
"""File name endings of pictures."""

_FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF"]  # JPEG opens MPO, too
_UPRIGHT = ("TIFF", "HEIF")  # formats that Pillow's reader turns upright by itself

_ORIENTATION, _EXIF_IFD = 0x0112, 0x8769
# EXIF tags of when a picture was taken, and when it was made digital: time, offset, part of second.
_TAKEN = ((0x9003, 0x9011, 0x9291), (0x9004, 0x9012, 0x9292))
_LONGEST_TAG = 40  # characters

_MAX_SCANS = 100
"""Scans of a JPEG. Each costs a pass over all pixels, however few its bytes; cameras write 10."""
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_END, _START_OF_SCAN = 0xD9, 0xDA
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def picture_size(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return (width, height) as shown, EXIF rotation applied; only PNG needs its pixels decoded."""
    path = Path(path)
    with _opened(path, max_pixels) as (image, _):
        if image.format == "PNG":
            image.load()  # its EXIF block may follow the pixels
        width, height = image.size
        turned = image.format not in _UPRIGHT and _orientation(image) >= 5
    return (height, width) if turned else (width, height)


def read_picture(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Return a picture, or an animation's first, as RGB (H, W, 3) uint8, EXIF rotation applied."""
    return read_photo(Path(path), max_pixels)[0]


def decode_picture(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a picture in memory as `read_picture` does; `name` stands for it in messages."""
    return read_photo(Path(name), max_pixels, io.BytesIO(data))[0]


def read_scene(scene: Scene, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Return the picture of a scene as RGB (H, W, 3) uint8: its file, or its frame of a video."""
    if scene.frame is None:
        return read_picture(scene.path, max_pixels)
    return read_frame(scene.path, scene.frame, max_pixels)


def save_scene(scene: Scene, path: Path) -> None:
    """Save the picture of a scene; the same bytes where the endings name the same format.

    Anything else is encoded anew in the format of the ending of `path`, JPEG with quality 95.
    """
    jpeg = (".jpg", ".jpeg")
    kinds = (scene.path.suffix.lower(), path.suffix.lower())
    if scene.frame is None and (kinds[0] == kinds[1] or all(kind in jpeg for kind in kinds)):
        picture_size(scene.path)
        shutil.copyfile(scene.path, path)
    else:
        Image.fromarray(read_scene(scene)).save(path, quality=95)


def read_photo(
    path: Path, max_pixels: int = MAX_PIXELS, file: BinaryIO | None = None
) -> tuple[NDArray[np.uint8], list[list[str]]]:
    """Return a picture as `read_picture` does, and what its EXIF data say of when it was taken.

    The latter are texts: time, offset and part of a second, as taken, then as made digital; empty
    where they are not there. `file` is the open file; None to open it.
    """
    with _opened(path, max_pixels, file) as (image, opened):
        if image.format in ("JPEG", "MPO"):
            _check_scans(path, opened, image)
        exif: dict[int, object] = {}
        with suppress(Exception):  # it is metadata, and cannot always be parsed
            exif = dict(image.getexif().get_ifd(_EXIF_IFD))
        taken = [[_tag(exif, tag) for tag in tags] for tags in _TAKEN]
        image.load()
        # ImageOps.exif_transpose would also write the EXIF block again, and fail on odd ones.
        turn = _TURNS.get(_orientation(image))
        upright = image if turn is None else image.transpose(turn)
        if upright.mode.startswith("I;16"):  # converting would clip, not scale
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        plain = upright if upright.mode == "RGB" else upright.convert("RGB")
        return np.asarray(plain), taken


def _tag(exif: dict[int, object], tag: int) -> str:
    value = exif.get(tag)
    return value.strip("\0 ")[:_LONGEST_TAG] if isinstance(value, str) else ""


def _check_scans(path: Path, file: BinaryIO, image: Image.Image) -> None:
    """Raise `PictureError` for a JPEG of more than `_MAX_SCANS` scans, before it is decoded."""
    file.seek(0)
    data = file.read()
    at, scans = 2, 0
    while found := _MARKER.search(data, at):
        marker, at = data[found.start() + 1], found.end()
        if marker == _END:
            return
        if marker == _START_OF_SCAN:
            whole = data[at + 2 : at + 3] == bytes([getattr(image, "layers", 0)])
            if not scans and whole and "progressive" not in image.info:
                return  # its one scan has all colors
            scans += 1
            if scans > _MAX_SCANS:
                raise PictureError(
                    f"{path}: has more than {_MAX_SCANS} scans, which no camera writes; save it "
                    "again"
                )
        if marker != 0x01:  # the others have a length
            at += int.from_bytes(data[at : at + 2])


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where it cannot be parsed."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
        return int(value) if value in range(1, 9) else 1
    except Exception:
        return 1


@contextmanager
def _opened(
    path: Path, max_pixels: int, file: BinaryIO | None = None
) -> Iterator[tuple[Image.Image, BinaryIO]]:
    """Open a picture whose size is allowed; what goes wrong in the block is the picture's."""
    with warnings.catch_warnings(), decoding(path, "is truncated or damaged"):
        warnings.simplefilter("ignore")  # of odd metadata, and of sizes that are checked here
        with (
            nullcontext(file) if file is not None else open_regular(path) as opened,
            _open(path, max_pixels, opened) as image,
        ):
            check_pixels(path, image.size, max_pixels)
            yield image, opened


def _open(path: Path, max_pixels: int, file: BinaryIO) -> Image.Image:
    try:
        return Image.open(file, formats=_formats())
    except Image.DecompressionBombError as error:
        # Pillow's own limit holds even where a caller allows more.
        limit = f"the limit is {max_pixels:,} pixels"
        raise PictureError(f"{path}: is too large ({error}); {limit}; scale it down") from None
    except UnidentifiedImageError:
        raise PictureError(f"{path}: {_not_a_picture(path, file)}") from None
    except (OSError, ValueError) as error:
        if is_of_machine(error):
            raise
        raise PictureError(f"{path}: cannot be opened ({cause(error)})") from None


@cache
def _formats() -> list[str]:
    """Return the formats that can be read: HEIC and AVIF need pillow-heif or a Pillow with AVIF."""
    known = list(_FORMATS)
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
        known.append("HEIF")
    if features.check("avif"):
        known.append("AVIF")
    return known


def _not_a_picture(path: Path, file: BinaryIO) -> str:
    if not file.seek(0, io.SEEK_END):
        return "is empty (0 bytes)"
    if path.suffix.lower() in _PHONE and not {"HEIF", "AVIF"} <= set(_formats()):
        kind = path.suffix[1:].upper()
        return f"is {kind}, which needs pillow-heif: pip install 'personsearch[heic]'"
    return "is not a picture that can be read; expected JPEG, PNG, WebP, HEIC, AVIF, BMP or TIFF"
