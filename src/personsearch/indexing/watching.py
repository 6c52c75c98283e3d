"""Watch folders for new, changed and deleted files."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from personsearch.errors import DataError
from personsearch.media.files import Media, Skipped
from personsearch.store import FileState, Store
from personsearch.types import FileStamp

INTERVAL = 2.0
"""Seconds between two scans of a folder."""

Find = Callable[[Sequence[Path]], tuple[list[Media], list[Skipped]]]
"""Lists the files in some folders, as `media.files.find_media` does."""


@dataclass(frozen=True)
class Scan:
    """The changes that a scan of folders found.

    Attributes:
        media: new or changed files that are no longer being written.
        skipped: files that cannot be read, each reported once.
        fewer: whether a file is gone since the scan before, or this is the first.
    """

    media: list[Media]
    skipped: list[Skipped]
    fewer: bool


class Watch:
    """Finds what is new in some folders since the last scan.

    Folders are listed, and sizes and times of files compared, which works on every file system,
    over the network too. A file is handed out when it is as it was at the scan before, so a growing
    file is left until it has stopped growing.
    """

    def __init__(self, sources: Sequence[Path], find: Find) -> None:
        self._sources, self._find = sources, find
        self._known: dict[tuple[str, str], FileStamp] | None = None
        self._given: dict[tuple[str, str], FileStamp] = {}
        self._reported: set[Skipped] = set()

    def scan(self) -> Scan:
        """Return the changes; none in a source that is missing, such as a drive taken out."""
        before = self._known or {}
        known: dict[tuple[str, str], FileStamp] = {}
        settled, reported = [], []
        for source in self._sources:
            try:
                media, skipped = self._find([source])
            except (DataError, OSError):
                continue
            for one in media:
                key = (one.source, one.name)
                known[key] = one.stamp
                if before.get(key) == one.stamp and self._given.get(key) != one.stamp:
                    self._given[key] = one.stamp
                    settled.append(one)
            reported += [one for one in skipped if one not in self._reported]
        self._reported.update(reported)
        fewer = self._known is None or not before.keys() <= known.keys()
        self._known = known
        return Scan(settled, reported, fewer)


def watch(
    sources: Sequence[Path],
    find: Find,
    take: Callable[[Scan], bool],
    *,
    interval: float = INTERVAL,
) -> None:
    """Scan folders until `take` returns False for a scan; `interval` is in seconds."""
    watched = Watch(sources, find)
    while take(watched.scan()):
        time.sleep(interval)


def prune(store: Store, sources: Sequence[Path]) -> int:
    """Erase the people of photos and videos that are gone; return the number of views erased.

    A folder that is missing or empty is passed over: it may be a drive that was taken out. Files
    that merely cannot be accessed are not gone.
    """
    erased = 0
    for source in sources:
        folder = Path.cwd() / Path(source).expanduser()
        if not folder.is_dir() or not any(folder.iterdir()):
            continue
        gone = [
            name
            for name, file in store.known_files(str(folder)).items()
            if name and file.state != FileState.ERASED and _is_gone(folder / name)
        ]
        if gone:
            erased += store.forget_files(str(folder), gone)
    return erased


def _is_gone(path: Path) -> bool:
    try:
        os.stat(path)  # noqa: PTH116  (exists() reports files that cannot be accessed as gone)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
