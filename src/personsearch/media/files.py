"""Find a user's photos and videos in folders, with camera and time, and decode them.

The camera is the name of the folder that a file lies in, unless the user sets it. The time is that
of the photo (EXIF), or else what the user's name pattern reads, or else a date in the name.
"""

import datetime
import os
import re
import stat
from collections.abc import Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import DataError, PictureError
from personsearch.media import apart, pictures, video
from personsearch.media.name_pattern import NamePattern, to_seconds
from personsearch.media.opening import LINK_OUT, leads_out
from personsearch.media.sampling import Sampling
from personsearch.types import FileStamp

_DATE = re.compile(
    r"(?<!\d)(20\d\d)[-_.]?(\d\d)[-_.]?(\d\d)[-_.T ]{0,3}"
    r"([01]\d|2[0-3])[-_.:h]?([0-5]\d)[-_.:m]?([0-5]\d)(?!\d)"
)
_SHOWN = 200  # characters of a name
# Pictures that the user should hear of, because they cannot be read.
_NOT_READ = frozenset(
    {".svg", ".gif", ".jxl", ".jp2", ".psd"}
    | {".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2"}
)


@dataclass(frozen=True)
class Media:
    """A photo or a video."""

    source: str  # the folder or file that the user named, absolute
    name: str  # path inside the source, with slashes; empty where the source is the file
    path: Path
    kind: Literal["photo", "video"]
    stamp: FileStamp
    camera: str
    time: float | None = None  # seconds since 1970 of its start, if its name states it
    zone: datetime.tzinfo | None = None  # of times without an offset; None for this machine's
    # SHA-256 of its bytes, once it is read; two are the same file without it
    content: bytes | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Skipped:
    """A file or folder that was left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded picture; index and position are None for a photo."""

    pixels: NDArray[np.uint8]  # RGB (H, W, 3), upright
    index: int | None  # from zero in a video
    position: float | None  # seconds from the video's start
    time: float | None  # seconds since 1970 when it was taken, if that is known


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

    `camera` is that of all of them; None for the folder's name. `pattern` reads camera and time out
    of names; a name that does not match is as without. `zone` is the time zone of times without an
    offset; None for this machine's.

    Raises:
        DataError: a source does not exist.
    """
    found: list[Media] = []
    skipped: list[Skipped] = []
    for source in sources:
        folder = Path.cwd() / Path(source).expanduser()
        if not os.path.exists(folder):  # noqa: PTH110  (Path.exists raises for too long a name)
            raise DataError(f"{str(source)[:_SHOWN]}: no such file or folder")
        paths = _walk(folder, skipped) if folder.is_dir() else [folder]
        for path in paths:
            try:
                name, stamp = _identify(path, folder)
            except PictureError as error:
                skipped.append(Skipped(path, str(error)))
                continue
            named, time = (None, None) if pattern is None else pattern.read(path, zone)
            time = named_time(path, zone) if time is None else time
            labels = (camera or named or path.parent.name, time, zone)
            photo = path.suffix.lower() in pictures.SUFFIXES
            kind: Literal["photo", "video"] = "photo" if photo else "video"
            found.append(Media(str(folder), name, path, kind, stamp, *labels))
    return found, skipped


def _walk(folder: Path, skipped: list[Skipped]) -> Iterator[Path]:
    def note(error: OSError) -> None:
        skipped.append(Skipped(Path(str(error.filename)), error.strerror or "cannot be read"))

    for parent, folders, names in os.walk(folder, onerror=note):
        folders.sort()
        for path in (Path(parent) / name for name in sorted(names)):
            if path.suffix.lower() in pictures.SUFFIXES | video.SUFFIXES | _NOT_READ:
                yield path


def _identify(path: Path, source: Path) -> tuple[str, FileStamp]:
    """Return name and stamp of a file; `PictureError` if it is not one that can be indexed."""
    ending = path.suffix.lower()
    if ending in _NOT_READ:
        raise PictureError(f"{path.suffix} is not read; save it as JPEG or PNG")
    if ending not in pictures.SUFFIXES | video.SUFFIXES:
        endings = ", ".join(sorted(pictures.SUFFIXES | video.SUFFIXES))
        raise PictureError(f"expected a file ending in {endings}")
    try:
        status = path.stat()
    except OSError as error:
        raise PictureError(error.strerror or "cannot be read") from None
    if not stat.S_ISREG(status.st_mode):
        raise PictureError("is not a regular file")
    if path.is_symlink() and leads_out(path, source):
        raise PictureError(LINK_OUT)
    name = "" if path == source else path.relative_to(source).as_posix()
    try:
        f"{source}/{name}".encode()
    except UnicodeEncodeError:
        raise PictureError("its name is not valid UTF-8; rename it") from None
    return name, FileStamp(status.st_size, status.st_mtime_ns)


def decode(
    media: Media, *, every: float | Sampling = 1.0, known: Set[int] = frozenset()
) -> Iterator[Frame]:
    """Yield the pictures of a file: the photo (the first picture of an animation), or video frames.

    `every` is the seconds between a video's frames (0 for all), or a `Sampling`. Frames whose
    indices are `known` are left out.

    Raises:
        PictureError: it cannot be read, whatever the file holds; a video that breaks in the middle
            raises after the frames that can be read. If the file is not to blame, `UnreadNowError`.
        OSError, MemoryError: of the machine, such as too many open files.
    """
    start = named_time(media.path, media.zone) if media.time is None else media.time
    if media.kind == "photo":
        pixels, texts = apart.read_photo(media.path, inside=media.source)
        taken = _taken(texts, media.zone)
        yield Frame(pixels, None, None, start if taken is None else taken)
        return
    sampling = every if isinstance(every, Sampling) else Sampling(every)
    for index, seconds, pixels in apart.play(media.path, sampling, known, inside=media.source):
        yield Frame(pixels, index, seconds, None if start is None else start + seconds)


def _taken(texts: Sequence[Sequence[str]], zone: datetime.tzinfo | None) -> float | None:
    for text, offset, part in texts:
        second = float(f"0.{part}") if part.isascii() and part.isdecimal() else 0.0
        for stated, form in ((text + offset, "%z"), (text, "")):
            with suppress(ValueError, OverflowError, OSError):
                when = datetime.datetime.strptime(stated, f"%Y:%m:%d %H:%M:%S{form}")
                return when.replace(tzinfo=when.tzinfo or zone).timestamp() + second
    return None


def named_time(path: Path, zone: datetime.tzinfo | None = None) -> float | None:
    """Read a date and time such as 20261121_134500 in a file's name; seconds since 1970."""
    match = _DATE.search(path.stem)
    return None if match is None else to_seconds([int(part) for part in match.groups()], zone)
