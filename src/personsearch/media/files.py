"""Find a user's photos and videos in folders, with camera and time, and decode them.

The camera is the name of the folder that a file lies in, unless the user sets it. The time is that
of the photo (EXIF), or else what the user's name pattern reads, or else a date in the name.
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
from personsearch.media.damage import decoding
from personsearch.media.name_pattern import NamePattern, to_seconds
from personsearch.media.sampling import Sampling
from personsearch.types import FileStamp

# EXIF tags of when a picture was taken, and when it was made digital: time, offset, part of second.
_TAKEN = ((0x9003, 0x9011, 0x9291), (0x9004, 0x9012, 0x9292))
_DATE = re.compile(
    r"(?<!\d)(20\d\d)[-_.]?(\d\d)[-_.]?(\d\d)[-_.T ]{0,3}"
    r"([01]\d|2[0-3])[-_.:h]?([0-5]\d)[-_.:m]?([0-5]\d)(?!\d)"
)
# Pictures that the user should hear of, because they cannot be read.
_NOT_READ = frozenset(
    {".svg", ".gif", ".jxl", ".jp2", ".psd"}
    | {".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2"}
)


@dataclass(frozen=True)
class Media:
    """A photo or a video.

    Attributes:
        source: the folder or file that the user named, absolute.
        name: path inside the source, with slashes; empty where the source is the file.
        path: the file.
        kind: photo or video, by the file's ending.
        stamp: size and modification time when it was found.
        camera: name of the camera.
        time: seconds since 1970 of its start, by its name; None if the name does not say.
        zone: time zone of times without an offset; None for this machine's.
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
    """One decoded picture.

    Attributes:
        pixels: RGB (H, W, 3) uint8, upright.
        index: from zero in a video; None for a photo.
        position: seconds from the video's start; None for a photo.
        time: seconds since 1970 when it was taken; None if that is not known.
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
    """List the photos and videos in files and folders of any depth, by source and name.

    Links to folders are not followed, so that loops end. Pictures of formats that cannot be read
    are among the skipped; files that are no pictures at all are passed over.

    Args:
        sources: files or folders.
        camera: of all of them; None for the folder's name.
        pattern: reads camera and time out of names; a name that does not match is as without.
        zone: time zone of times without an offset; None for this machine's.

    Raises:
        DataError: a source does not exist.
    """
    labels = _Labels(camera, pattern, zone)
    found: list[Media] = []
    skipped: list[Skipped] = []
    for source in sources:
        path = Path.cwd() / Path(source).expanduser()
        if not path.exists():
            raise DataError(f"{source}: no such file or folder")
        for one in _walk(path, labels) if path.is_dir() else [_inspect(path, path, labels)]:
            if isinstance(one, Media):
                found.append(one)
            else:
                skipped.append(one)
    return found, skipped


@dataclass(frozen=True)
class _Labels:
    """Where the camera and the time of files come from, as far as the user has said."""

    camera: str | None
    pattern: NamePattern | None
    zone: datetime.tzinfo | None

    def read(self, path: Path) -> tuple[str, float | None]:
        camera, time = None, None
        if self.pattern is not None:
            camera, time = self.pattern.read(path, self.zone)
        if time is None:
            time = named_time(path, self.zone)
        return self.camera or camera or path.parent.name, time


def _walk(folder: Path, labels: _Labels) -> Iterator[Media | Skipped]:
    closed: list[Skipped] = []

    def note(error: OSError) -> None:
        closed.append(Skipped(Path(str(error.filename)), error.strerror or "cannot be read"))

    for parent, folders, names in os.walk(folder, onerror=note):
        folders.sort()
        for name in sorted(names):
            path = Path(parent) / name
            if kind_of(path) is not None or path.suffix.lower() in _NOT_READ:
                yield _inspect(path, folder, labels)
    yield from closed


def kind_of(path: Path) -> Literal["photo", "video"] | None:
    """Return what a file is, by its ending."""
    ending = path.suffix.lower()
    if ending in pictures.SUFFIXES:
        return "photo"
    return "video" if ending in video.SUFFIXES else None


def _inspect(path: Path, source: Path, labels: _Labels) -> Media | Skipped:
    kind = kind_of(path)
    if kind is None:
        endings = ", ".join(sorted(pictures.SUFFIXES | video.SUFFIXES))
        if path.suffix.lower() in _NOT_READ:
            return Skipped(path, f"{path.suffix} is not read; save it as JPEG or PNG")
        return Skipped(path, f"expected a file ending in {endings}")
    try:
        status = path.stat()
    except OSError as error:
        return Skipped(path, error.strerror or "cannot be read")
    if not stat.S_ISREG(status.st_mode):
        return Skipped(path, "is not a regular file")
    name = "" if path == source else path.relative_to(source).as_posix()
    try:
        f"{source}/{name}".encode()
    except UnicodeEncodeError:
        return Skipped(path, "its name is not valid UTF-8; rename it")
    stamp = FileStamp(status.st_size, status.st_mtime_ns)
    camera, time = labels.read(path)
    return Media(str(source), name, path, kind, stamp, camera, time, labels.zone)


def decode(
    media: Media,
    *,
    every: float | Sampling = 1.0,
    known: Set[int] = frozenset(),
) -> Iterator[Frame]:
    """Yield the pictures of a file: the photo (the first picture of an animation), or video frames.

    Args:
        media: the file.
        every: which frames of a video: seconds between them (0 for all), or a `Sampling`.
        known: indices of frames that are not wanted.

    Raises:
        PictureError: it cannot be read; a video that breaks in the middle raises after the frames
            that can be read. Nothing else is raised, whatever the file holds.
    """
    with decoding(media.path):
        start = named_time(media.path, media.zone) if media.time is None else media.time
        if media.kind == "photo":
            pixels, exif = pictures.read_photo(media.path)
            taken = _taken(exif, media.zone)
            yield Frame(pixels, None, None, start if taken is None else taken)
            return
        sampling = every if isinstance(every, Sampling) else Sampling(every)
        sampled = sampling.chooser()

        def wanted(index: int, seconds: float, small: Callable[[], NDArray[np.uint8]]) -> bool:
            # Known frames are asked for, too: the choice of the next depends on them.
            return sampled(index, seconds, small) and index not in known

        for index, seconds, pixels in video.play(media.path, wanted):
            yield Frame(pixels, index, seconds, None if start is None else start + seconds)


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
    """Read a date and time such as 20261121_134500 in a file's name; seconds since 1970."""
    match = _DATE.search(path.stem)
    return None if match is None else to_seconds([int(part) for part in match.groups()], zone)
