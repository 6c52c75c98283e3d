"""Photos and videos of a user, of any depth of folders: which there are, whose, and from when.

The camera is the name of the folder that a file lies in, unless the user says otherwise. The time
is what the picture itself says (EXIF), or else what a pattern of the user's reads out of its name,
or else a date in its name.
"""

import datetime
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import DataError
from personsearch.media import pictures, video
from personsearch.media.name_pattern import NamePattern, moment
from personsearch.media.sampling import Sampling
from personsearch.types import FileStamp

# EXIF tags of when a picture was taken, and when it was made digital: time, offset, part of second.
_TAKEN = ((0x9003, 0x9011, 0x9291), (0x9004, 0x9012, 0x9292))
_DATE = re.compile(
    r"(?<!\d)(20\d\d)[-_.]?(\d\d)[-_.]?(\d\d)[-_.T ]{0,3}"
    r"([01]\d|2[0-3])[-_.:h]?([0-5]\d)[-_.:m]?([0-5]\d)(?!\d)"
)
_NOT_READ = frozenset(
    {".svg", ".gif", ".jxl", ".jp2", ".psd"}
    | {".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2"}
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
        time: seconds since 1970 of its start, as its name tells; None if that does not.
        zone: of times without an offset; None for this machine's.
    """

    source: str
    name: str
    path: Path
    kind: Literal["photo", "video"]
    stamp: FileStamp
    camera: str
    time: float | None = None
    zone: datetime.tzinfo | None = None


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
    sources: Sequence[Path],
    camera: str | None = None,
    *,
    pattern: NamePattern | None = None,
    zone: datetime.tzinfo | None = None,
) -> tuple[list[Media], list[Skipped]]:
    """All photos and videos of some files and folders, sorted by source and name.

    Links to folders are not followed, so that a loop of them has an end. Pictures of kinds that are
    not read are told; files that are no pictures at all are passed over.

    Args:
        sources: files or folders.
        camera: of all of them; None for the folder's name.
        pattern: reads camera and time out of names; where it does not fit, as without.
        zone: of times without an offset; None for this machine's.

    Raises:
        DataError: a source that is not there.
    """
    about = _About(camera, pattern, zone)
    found: list[Media] = []
    skipped: list[Skipped] = []
    for source in sources:
        place = Path.cwd() / Path(source).expanduser()
        if not place.exists():
            raise DataError(f"{source}: no such file or folder")
        if place.is_dir():
            inside, left = _walk(place, about)
        else:
            inside, left = _one(place, place, about)
        found += inside
        skipped += left
    return found, skipped


@dataclass(frozen=True)
class _About:
    """Whose files are, and from when, as far as the user has said."""

    camera: str | None
    pattern: NamePattern | None
    zone: datetime.tzinfo | None

    def of(self, path: Path) -> tuple[str, float | None]:
        camera, time = None, None
        if self.pattern is not None:
            camera, time = self.pattern.read(path, self.zone)
        if time is None:
            time = named_time(path, self.zone)
        return self.camera or camera or path.parent.name, time


def _walk(folder: Path, about: _About) -> tuple[list[Media], list[Skipped]]:
    found: list[Media] = []
    skipped: list[Skipped] = []

    def closed(error: OSError) -> None:
        skipped.append(Skipped(Path(str(error.filename)), error.strerror or "cannot be read"))

    for parent, folders, names in os.walk(folder, onerror=closed):
        folders.sort()
        for name in sorted(names):
            path = Path(parent) / name
            if kind_of(path) is not None or path.suffix.lower() in _NOT_READ:
                inside, left = _one(path, folder, about)
                found += inside
                skipped += left
    return found, skipped


def kind_of(path: Path) -> Literal["photo", "video"] | None:
    """What a file's ending says it is."""
    ending = path.suffix.lower()
    if ending in pictures.SUFFIXES:
        return "photo"
    return "video" if ending in video.SUFFIXES else None


def _one(path: Path, source: Path, about: _About) -> tuple[list[Media], list[Skipped]]:
    kind = kind_of(path)
    if kind is None:
        endings = ", ".join(sorted(pictures.SUFFIXES | video.SUFFIXES))
        if path.suffix.lower() in _NOT_READ:
            return [], [Skipped(path, f"{path.suffix} is not read; save it as JPEG or PNG")]
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
    camera, time = about.of(path)
    return [Media(str(source), name, path, kind, stamp, camera, time, about.zone)], []


def decode(
    media: Media,
    *,
    every: float | Sampling = 1.0,
    known: Set[int] = frozenset(),
) -> Iterator[Frame]:
    """The pictures of a file: the photo (the first picture of an animation), or frames of a video.

    Args:
        media: the file.
        every: which frames of a video: seconds between them (0 for all), or a `Sampling`.
        known: frames that are not wanted.

    Raises:
        PictureError: it cannot be read; for a video that breaks in the middle, after the frames
            that can be.
    """
    if media.kind == "photo":
        pixels, exif = pictures.read_photo(media.path)
        taken = _taken(exif, media.zone)
        yield Frame(pixels, None, None, _start(media) if taken is None else taken)
        return
    sampling = every if isinstance(every, Sampling) else Sampling(every)
    chosen, start = sampling.chooser(), _start(media)

    def wanted(index: int, seconds: float, small: Callable[[], NDArray[np.uint8]]) -> bool:
        # Asked of the known ones, too: the choice of the next depends on them.
        return chosen(index, seconds, small) and index not in known

    for index, seconds, pixels in video.play(media.path, wanted):
        yield Frame(pixels, index, seconds, None if start is None else start + seconds)


def _start(media: Media) -> float | None:
    return named_time(media.path, media.zone) if media.time is None else media.time


def taken_at(path: Path, zone: datetime.tzinfo | None = None) -> float | None:
    """When a photo was taken, in seconds since 1970: by its EXIF data, else by its name.

    A time without an offset is that of `zone`, or of this machine's time zone.
    """
    time = _taken(pictures.read_exif(path), zone)
    return named_time(path, zone) if time is None else time


def _taken(exif: Mapping[int, Any], zone: datetime.tzinfo | None) -> float | None:
    for tags in _TAKEN:
        text, offset, part = (str(exif.get(tag, "")).strip("\0 ") for tag in tags)
        second = float(f"0.{part}") if part.isascii() and part.isdecimal() else 0.0
        with suppress(ValueError, OverflowError, OSError):
            when = datetime.datetime.strptime(text + offset, "%Y:%m:%d %H:%M:%S%z")
            return when.timestamp() + second
        with suppress(ValueError, OverflowError, OSError):
            when = datetime.datetime.strptime(text, "%Y:%m:%d %H:%M:%S")
            return when.replace(tzinfo=zone).timestamp() + second
    return None


def named_time(path: Path, zone: datetime.tzinfo | None = None) -> float | None:
    """The date and time in a file's name, such as 20261121_134500, in a zone or this machine's."""
    match = _DATE.search(path.stem)
    return None if match is None else moment([int(part) for part in match.groups()], zone)
