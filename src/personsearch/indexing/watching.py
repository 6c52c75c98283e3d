"""Watch folders for new, changed and deleted files."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from personsearch.errors import DataError
from personsearch.media.files import Media, Skipped
from personsearch.store import FileState, Store
from personsearch.types import FileStamp

INTERVAL = 2.0  # seconds between two scans of a folder

Find = Callable[[Sequence[Path]], tuple[list[Media], list[Skipped]]]
"""Lists the files in some folders, as `media.files.find_media` does."""


@dataclass(frozen=True)
class Scan:
    """The changes that a scan of folders found."""

    media: list[Media]  # new or changed files that are no longer being written
    skipped: list[Skipped]  # files that cannot be read, each reported once
    fewer: bool  # whether a file is gone since the scan before, or this is the first


def watch(sources: Sequence[Path], find: Find, *, interval: float = INTERVAL) -> Iterator[Scan]:
    """Scan folders for ever, with pauses of `interval` seconds.

    Folders are listed, and sizes and times of files compared, which works on every file system,
    over the network too. A file is handed out when it is as it was at the scan before, so a growing
    file is left until it has stopped growing. A source that is missing, such as a drive taken out,
    has no changes.
    """
    before: dict[tuple[str, str], FileStamp] | None = None
    given: dict[tuple[str, str], FileStamp] = {}
    reported: set[Skipped] = set()
    while True:
        known: dict[tuple[str, str], FileStamp] = {}
        changed, unreadable = [], set[Skipped]()
        for source in sources:
            try:
                media, skipped = find([source])
            except (DataError, OSError):
                continue
            for one in media:
                key = (one.source, one.name)
                known[key] = one.stamp
                if before and before.get(key) == one.stamp != given.get(key):
                    given[key] = one.stamp
                    changed.append(one)
            unreadable.update(skipped)
        fewer = before is None or not before.keys() <= known.keys()
        yield Scan(changed, sorted(unreadable - reported, key=lambda one: one.path), fewer)
        # What is gone is forgotten: it may come back, and a camera writes new files for ever.
        given = {key: stamp for key, stamp in given.items() if key in known}
        before, reported = known, unreadable
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
        pass
    return False
