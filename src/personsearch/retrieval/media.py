"""Photos and videos of a user, of any depth of folders: which there are, whose, and from when.

The camera is the name of the folder that a file lies in, unless the user says otherwise. The time
is what the picture itself says (EXIF), or else a date in its name.
"""

import datetime
import os
import re
import stat
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from personsearch.datasets import pictures, video
from personsearch.errors import DataError
from personsearch.retrieval.store import FileStamp

_EXIF_IFD, _TAKEN, _TAKEN_OFFSET = 0x8769, 0x9003, 0x9011
_DATE = re.compile(
    r"(?<!\d)(20\d\d)[-_.]?(\d\d)[-_.]?(\d\d)[-_.T ]{0,3}"
    r"([01]\d|2[0-3])[-_.:h]?([0-5]\d)[-_.:m]?([0-5]\d)(?!\d)"
)


@dataclass(frozen=True)
class Media:
    """A photo or a video.

    Attributes:
        source: the folder or file that the user named, absolute.
        name: the path inside of it, with slashes; empty where the source is the file.
        path: the file.
        kind: what its ending says.
        stamp: by which it is seen that it has changed.
        camera: whose it is.
    """

    source: str
    name: str
    path: Path
    kind: Literal["photo", "video"]
    stamp: FileStamp
    camera: str


@dataclass(frozen=True)
class Skipped:
    """A file or folder that was left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture, decoded.

    Attributes:
        pixels: RGB (H, W, 3) uint8, upright.
        index: from zero in a video; None for a photo.
        position: seconds from the video's start; None for a photo.
        time: seconds since 1970 at which it was taken; None if that is not known.
    """

    pixels: NDArray[np.uint8]
    index: int | None
    position: float | None
    time: float | None


def find_media(
    sources: Sequence[Path], camera: str | None = None
) -> tuple[list[Media], list[Skipped]]:
    """All photos and videos of some files and folders, sorted by source and name.

    Links to folders are not followed, so that a loop of them has an end.

    Args:
        sources: files or folders.
        camera: of all of them; None for the folder's name.

    Raises:
        DataError: a source that is not there.
    """
    found: list[Media] = []
    skipped: list[Skipped] = []
    for source in sources:
        place = Path.cwd() / Path(source).expanduser()
        if not place.exists():
            raise DataError(f"{source}: no such file or folder")
        if place.is_dir():
            inside, left = _walk(place, camera)
        else:
            inside, left = _one(place, place, camera)
        found += inside
        skipped += left
    return found, skipped


def _walk(folder: Path, camera: str | None) -> tuple[list[Media], list[Skipped]]:
    found: list[Media] = []
    skipped: list[Skipped] = []

    def closed(error: OSError) -> None:
        skipped.append(Skipped(Path(str(error.filename)), error.strerror or "cannot be read"))

    for parent, folders, names in os.walk(folder, onerror=closed):
        folders.sort()
        for name in sorted(names):
            path = Path(parent) / name
            if kind_of(path) is not None:
                inside, left = _one(path, folder, camera)
                found += inside
                skipped += left
    return found, skipped


def kind_of(path: Path) -> Literal["photo", "video"] | None:
    """What a file's ending says it is."""
    ending = path.suffix.lower()
    if ending in pictures.SUFFIXES:
        return "photo"
    return "video" if ending in video.SUFFIXES else None


def _one(path: Path, source: Path, camera: str | None) -> tuple[list[Media], list[Skipped]]:
    kind = kind_of(path)
    if kind is None:
        endings = ", ".join(sorted(pictures.SUFFIXES | video.SUFFIXES))
        return [], [Skipped(path, f"expected a file ending in {endings}")]
    try:
        status = path.stat()
    except OSError as error:
        return [], [Skipped(path, error.strerror or "cannot be read")]
    if not stat.S_ISREG(status.st_mode):
        return [], [Skipped(path, "is not a regular file")]
    name = "" if path == source else path.relative_to(source).as_posix()
    try:
        f"{source}/{name}".encode()
    except UnicodeEncodeError:
        return [], [Skipped(path, "its name is not valid UTF-8; rename it")]
    stamp = FileStamp(status.st_size, status.st_mtime_ns)
    return [Media(str(source), name, path, kind, stamp, camera or path.parent.name)], []


def decode(media: Media, *, every: float = 1.0, known: Set[int] = frozenset()) -> Iterator[Frame]:
    """The pictures of a file: the photo, or frames of the video.

    Args:
        media: the file.
        every: seconds between frames of a video; 0 for all of them.
        known: frames that are not wanted.

    Raises:
        PictureError: it cannot be read; for a video that breaks in the middle, after the frames
            before.
    """
    if media.kind == "photo":
        pixels = pictures.read_picture(media.path)
        yield Frame(pixels, None, None, taken_at(media.path))
        return
    yield from _frames(media.path, every, known)


def _frames(path: Path, every: float, known: Set[int]) -> Iterator[Frame]:
    start, due = named_time(path), 0.0

    def wanted(index: int, seconds: float) -> bool:
        nonlocal due
        if seconds + 1e-6 < due:
            return False
        # A frame that comes late does not make the next one late, unless one is skipped whole.
        due = max(due + every, seconds + every / 2) if every else 0.0
        return index not in known

    for index, seconds, pixels in video.play(path, wanted):
        yield Frame(pixels, index, seconds, None if start is None else start + seconds)


def taken_at(path: Path) -> float | None:
    """When a photo was taken, in seconds since 1970: by its EXIF data, else by its name.

    A time without an offset is that of this machine's time zone.
    """
    try:
        with Image.open(path) as image:
            table = image.getexif().get_ifd(_EXIF_IFD)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return named_time(path)
    text, offset = str(table.get(_TAKEN, "")), str(table.get(_TAKEN_OFFSET, ""))
    try:
        return datetime.datetime.strptime(text + offset, "%Y:%m:%d %H:%M:%S%z").timestamp()
    except ValueError:
        pass
    try:
        return datetime.datetime.strptime(text, "%Y:%m:%d %H:%M:%S").timestamp()
    except (ValueError, OverflowError, OSError):
        return named_time(path)


def named_time(path: Path) -> float | None:
    """The date and time in a file's name, such as 20261121_134500, in this machine's time zone."""
    match = _DATE.search(path.stem)
    if match is None:
        return None
    try:
        return datetime.datetime(*map(int, match.groups())).timestamp()  # type: ignore[arg-type]
    except (ValueError, OverflowError, OSError):
        return None
