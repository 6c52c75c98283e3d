"""Looks at folders again and again: what is new or changed, and what is gone."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from personsearch.errors import DataError
from personsearch.media.files import Media, Skipped
from personsearch.store import Store
from personsearch.types import FileStamp

LOOK = 2.0
"""Seconds between two looks at a folder."""

Find = Callable[[Sequence[Path]], tuple[list[Media], list[Skipped]]]
"""Lists what is in some folders, as `media.find_media` does."""


@dataclass(frozen=True)
class Look:
    """What a look at folders has found.

    Attributes:
        media: new or changed, and no longer being written.
        skipped: what cannot be taken; each is told once.
        fewer: whether something is gone since the look before, or this is the first.
    """

    media: list[Media]
    skipped: list[Skipped]
    fewer: bool


class Watch:
    """What is new in some folders since the last look.

    Folders are listed and files' sizes and times compared, which works on every file system, over
    the network too. A file is handed out when it is as it was at the look before, so one that grows
    is left until it has stopped growing.

    Args:
        sources: files and folders.
        find: lists what is there.
    """

    def __init__(self, sources: Sequence[Path], find: Find) -> None:
        self._sources, self._find = sources, find
        self._seen: dict[tuple[str, str], FileStamp] | None = None
        self._given: dict[tuple[str, str], FileStamp] = {}
        self._told: set[Skipped] = set()

    def look(self) -> Look:
        """What has happened; of a source that is not there, such as a drive taken out, nothing."""
        before = self._seen or {}
        seen: dict[tuple[str, str], FileStamp] = {}
        settled, told = [], []
        for source in self._sources:
            try:
                media, skipped = self._find([source])
            except DataError:
                continue
            for one in media:
                key = (one.source, one.name)
                seen[key] = one.stamp
                if before.get(key) == one.stamp and self._given.get(key) != one.stamp:
                    self._given[key] = one.stamp
                    settled.append(one)
            told += [one for one in skipped if one not in self._told]
        self._told.update(told)
        fewer = self._seen is None or not before.keys() <= seen.keys()
        self._seen = seen
        return Look(settled, told, fewer)


def watch(
    sources: Sequence[Path], find: Find, take: Callable[[Look], bool], *, look: float = LOOK
) -> None:
    """Looks at folders until it is told to stop.

    Args:
        sources: files and folders.
        find: lists what is there.
        take: called with each look; says whether to go on.
        look: seconds between looks.
    """
    watched = Watch(sources, find)
    while take(watched.look()):
        time.sleep(look)


def prune(store: Store, sources: Sequence[Path]) -> int:
    """Erases people of photos and videos that are gone; says how many views of them there were.

    A folder that is not there, or in which nothing is left, is passed over: it may be a drive that
    was taken out. Files that merely cannot be looked at are not gone.

    Args:
        store: open for writing.
        sources: folders as they were indexed; files among them are passed over.
    """
    erased = 0
    for source in sources:
        place = Path.cwd() / Path(source).expanduser()
        if not place.is_dir() or not any(place.iterdir()):
            continue
        known = store.known_files(str(place))
        gone = [
            name
            for name, file in known.items()
            if name and file.state != "erased" and _is_gone(place / name)
        ]
        if gone:
            erased += store.forget_files(str(place), gone)
    return erased


def _is_gone(path: Path) -> bool:
    try:
        os.stat(path)  # noqa: PTH116  (exists() calls what may not be looked at gone)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
