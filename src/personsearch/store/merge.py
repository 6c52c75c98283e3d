"""Files that go from one store to another, each with its people, and which of two wins.

A file is a unit: its state, stamp and camera, its pictures and people, tracks, embeddings and
thumbnails. A file that was erased here stays erased, and nothing comes into one of which people
were erased here, unless its content is known to be another. Otherwise the newer stamp wins; with
equal stamps a complete file wins over an unreadable one, and that over an unfinished one. People
and tracks get new ids.

Nobody is erased here because another store says so, unless that is asked for: then files that were
erased there are erased here, and people in files that are newer there are replaced.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import StoreError
from personsearch.store.audit import DONE
from personsearch.store.people import FileState, ModelIdentity, PersonRow, PictureRow, TrackRow
from personsearch.store.reading import FILES
from personsearch.store.store import Store, has_store, open_store
from personsearch.types import FileStamp

Progress = Callable[[str, int, int], None]  # called with (step, done, total)

UNIT_TOLERANCE = 0.01  # largest difference from 1 of the length of an embedding in half precision

_LARGEST = float(np.finfo(np.float32).max)  # boxes and scores are read as float32
_ORDER = ("open", "unreadable", "whole")  # a later one wins
_TOGETHER = 2000  # files, pictures and people in one transaction
_CONTENTS = (
    "SELECT id, frame, position, time, added, width, height FROM pictures WHERE file = ? "
    "ORDER BY frame",
    "SELECT id, first, last, views FROM tracks WHERE file = ? ORDER BY id",
    "SELECT p.id, h.track, h.x1, h.y1, h.x2, h.y2, h.score, e.vector, t.jpeg "
    "FROM pictures p JOIN people h ON h.picture = p.id "
    "JOIN embeddings e ON e.person = h.id LEFT JOIN thumbnails t ON t.person = h.id "
    "WHERE p.file = ? ORDER BY p.frame, h.id",
)


@dataclass(frozen=True, eq=False)
class FileUnit:
    """A file with its people, by indices instead of ids."""

    # source, name, stamp, camera, state, reason: of the file
    source: str
    name: str
    stamp: FileStamp
    camera: str | None
    state: str
    reason: str
    pictures: list[PictureRow]  # by frame
    tracks: list[TrackRow]  # of a video
    people: list[PersonRow]  # by picture
    vectors: NDArray[np.float16]  # (N, D) float16, of the people
    thumbnails: list[bytes]  # N pictures as JPEG; empty where there is none
    content: bytes | None = None  # SHA-256 of the file, if it is known

    @property
    def path(self) -> str:
        """Source and name, for messages."""
        return f"{self.source}/{self.name}" if self.name else self.source

    def check(self, dim: int) -> None:
        """Raise `StoreError` if a store may not take the file."""
        if wrong := self._wrong(dim):
            raise StoreError(f"file {self.path!r}: {wrong}")

    def _wrong(self, dim: int) -> str:
        if not self.source or "\0" in self.source + self.name:
            return "its name is empty or holds a zero byte"
        if self.name.startswith("/") or ".." in self.name.split("/"):
            return "its name leads out of its source"
        if self.state not in list(FileState):
            return f"is {self.state!r}, expected open, whole, unreadable or erased"
        if self.state == FileState.ERASED and (self.pictures or self.tracks):
            return "is erased, but has pictures"
        if self.content is not None and len(self.content) != 32:
            return "its content is no SHA-256"
        frames = [-1 if one.frame is None else one.frame for one in self.pictures]
        if frames != sorted(set(frames)) or (frames and frames[0] < -1):
            return "its frames are not ascending"
        rows: list[Any] = [*self.pictures, *self.tracks, *self.people]
        for row in rows:
            if not all(abs(value) <= _LARGEST for value in row if isinstance(value, float)):
                return f"holds a number that is not finite as float32: {row}"
        for person in self.people:
            if not 0 <= person.picture < len(self.pictures):
                return "shows someone in a picture that is not there"
            if person.track is not None and not 0 <= person.track < len(self.tracks):
                return "shows someone in a track that is not there"
        if [one.picture for one in self.people] != sorted(one.picture for one in self.people):
            return "its people are not in the order of its pictures"
        if self.vectors.shape != (len(self.people), dim) and self.people:
            return f"embeddings of shape {self.vectors.shape}, expected {(len(self.people), dim)}"
        with np.errstate(invalid="ignore"):  # of numbers that are not finite
            lengths = np.linalg.norm(self.vectors.astype(np.float32), axis=1)
        if self.people and not bool((np.abs(lengths - 1) < UNIT_TOLERANCE).all()):
            return "holds an embedding that is not of unit length"
        return ""


@dataclass
class ExchangeReport:
    """What came into a store."""

    # files, pictures, people, tracks: number of rows written
    files: int = 0
    pictures: int = 0
    people: int = 0
    tracks: int = 0
    skipped: int = 0  # files that were there already, or were erased there
    erased: int = 0  # files erased because they were erased in the other store
    removed: int = 0  # people erased with them, and in files that were replaced
    # files that were there with an older stamp, or not complete
    replaced: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)  # files that were there with a newer stamp
    # files that are erased or newer in the other store, and stay: nobody asked to erase
    left: list[str] = field(default_factory=list)
    expired: int = 0  # people older than the store's retention time, erased at the end

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Removal:
    """A file whose people would be erased here, and why."""

    source: str
    name: str
    people: int  # number of views
    reason: Literal["erased there", "newer there"]


Confirm = Callable[[Sequence[Removal]], object]  # called before anyone is erased; raises to refuse


def units_of(store: Store) -> Iterator[FileUnit]:
    """Every file of a store, sorted by source and name as bytes; call it inside a snapshot."""
    files = store.query(
        "SELECT f.id, s.place, f.name, f.bytes, f.changed, f.camera, f.state, f.reason, f.content "
        f"FROM {FILES} ORDER BY s.place, f.name"
    )
    for file, source, name, size, changed, camera, state, reason, content in files:
        yield FileUnit(
            *(source, name, FileStamp(size, changed), camera, state, reason),
            *_contents(store, file),
            content,
        )


def _contents(
    store: Store, file: int
) -> tuple[list[PictureRow], list[TrackRow], list[PersonRow], NDArray[np.float16], list[bytes]]:
    pictures, tracks, people = (list(store.query(text, file)) for text in _CONTENTS)
    picture_rows = {row[0]: index for index, row in enumerate(pictures)}
    # A track of another file is damage, which row -1 leaves for `FileUnit.check` to report.
    track_rows = {None: None} | {row[0]: index for index, row in enumerate(tracks)}
    return (
        [PictureRow(*row[1:]) for row in pictures],
        [TrackRow(*row[1:]) for row in tracks],
        [PersonRow(picture_rows[row[0]], track_rows.get(row[1], -1), *row[2:7]) for row in people],
        store.matrix([row[7] for row in people]),
        [row[8] or b"" for row in people],
    )


@dataclass(frozen=True)
class Exchange:
    """What comes into a store, and what may be erased for it."""

    action: Literal["merge", "import"]
    origin: Path
    units: Callable[[], Iterator[FileUnit]]  # lists the files, each time from the first
    total: int  # number of files
    apply_erasures: bool = False  # whether people may be erased here
    confirm: Confirm | None = None

    def removals(self, store: Store) -> list[Removal]:
        """Return the files whose people would be erased."""
        found = []
        for unit in self.units():
            there = _there(store, unit)
            if there is not None and there.fate in ("erase", "replace") and there.people:
                reason: Any = "erased there" if there.fate == "erase" else "newer there"
                found.append(Removal(unit.source, unit.name, there.people, reason))
        return found


def take(store: Store, exchange: Exchange, progress: Progress | None = None) -> ExchangeReport:
    """Write files into a store, each completely or not at all; a second call continues.

    Args:
        store: open for writing.
        exchange: the files; with `apply_erasures`, exactly those people are erased who were
            confirmed.

    A file that a store may not take, or no room on the disk, raises `StoreError`.
    """
    report = ExchangeReport()
    tell = progress or (lambda *_: None)
    removals = exchange.removals(store) if exchange.apply_erasures else []
    if removals:
        store.check_room()
        if exchange.confirm is not None:
            exchange.confirm(removals)
    removable = {(one.source, one.name) for one in removals}
    details = {"from": str(exchange.origin), "files": exchange.total}
    details["erases"] = [vars(one) for one in removals]
    store.log(exchange.action, details)
    waiting: list[FileUnit] = []
    size = 0

    def write() -> None:
        with store.writing(erasing=bool(removable)):
            for unit in waiting:
                allowed = (unit.source, unit.name) in removable
                applied = exchange.apply_erasures
                _take_one(store, unit, report, applied=applied, removable=allowed)

    for done, unit in enumerate(exchange.units(), start=1):
        unit.check(store.model.dim)
        waiting.append(unit)
        size += 1 + len(unit.pictures) + len(unit.people)
        if size >= _TOGETHER:
            write()
            waiting, size = [], 0
            tell("writing", done, exchange.total)
    write()
    tell("writing", exchange.total, exchange.total)
    try:
        if report.removed:
            store.compact()
    finally:
        counts = {"people": report.people, "files": report.files, "views": report.removed}
        store.log(DONE[exchange.action], {"from": str(exchange.origin), **counts})
    report.expired = store.expire()
    return report


class _There(NamedTuple):
    """A file of a store that is also among those that come."""

    id: int
    content: bytes | None
    people: int  # number of views
    fate: str  # skip, keep, erase or replace


def _there(store: Store, unit: FileUnit) -> _There | None:
    for row, size, changed, state, content, pictures, people in store.query(
        "SELECT f.id, f.bytes, f.changed, f.state, f.content, "
        "(SELECT count(*) FROM pictures WHERE file = f.id), "
        "(SELECT count(*) FROM people h JOIN pictures p ON p.id = h.picture WHERE p.file = f.id) "
        f"FROM {FILES} WHERE s.place = ? AND f.name = ?",
        *(unit.source, unit.name),
    ):
        # Of two unfinished files, the one with more pictures.
        mine = state == FileState.OPEN
        if state == FileState.ERASED:
            fate = "skip"
        elif unit.state == FileState.ERASED:
            fate = "erase"
        elif store.is_erased(unit.content or content or b""):
            fate = "skip"  # people of this version were erased here, whatever its stamp
        elif (unit.stamp.changed, unit.stamp.bytes) < (changed, size):
            fate = "keep"
        else:
            ours = (_ORDER.index(state), pictures if mine else 0)
            theirs = (_ORDER.index(unit.state), len(unit.pictures) if mine else 0)
            same = (size, changed) == (unit.stamp.bytes, unit.stamp.changed)
            fate = "skip" if same and theirs <= ours else "replace"
        return _There(row, content, people, fate)
    return None


def _take_one(
    store: Store, unit: FileUnit, report: ExchangeReport, *, applied: bool, removable: bool
) -> None:
    there = _there(store, unit)
    erased = unit.state == FileState.ERASED
    if there is None:
        # In a source of this machine it would keep the file from being indexed.
        if erased and not applied and store.is_here(unit.source):
            report.left.append(unit.path)
            return
        if not erased and unit.content is not None and store.is_erased(unit.content):
            report.skipped += 1
            return
    elif there.fate == "skip":
        report.skipped += 1
        return
    elif there.fate == "keep":
        report.kept.append(unit.path)
        return
    elif (erased and not applied) or (there.people and not removable):
        report.left.append(unit.path)
        return
    else:
        if there.people:
            store.mark_erased()
            report.removed += there.people
        if erased:
            store.note_contents([there.id])
            report.erased += 1
        else:
            report.replaced.append(unit.path)
        store.execute("DELETE FROM files WHERE id = ?", there.id)
    content = unit.content if there is None or not erased else there.content
    source = store.source_id(unit.source, here=False)
    stated = (unit.stamp, unit.camera, FileState(unit.state), unit.reason, content)
    file = store.insert_file(source, unit.name, *stated)
    pictures = [store.insert_picture(file, one) for one in unit.pictures]
    tracks = [store.insert_track(file, one) for one in unit.tracks]
    rows = [
        one._replace(
            picture=pictures[one.picture], track=None if one.track is None else tracks[one.track]
        )
        for one in unit.people
    ]
    store.insert_people(store.new_ids(len(rows)), rows, unit.vectors, unit.thumbnails)
    report.files += 1
    report.pictures += len(unit.pictures)
    report.people += len(unit.people)
    report.tracks += len(unit.tracks)


def bring(
    into: Path,
    model: ModelIdentity,
    retention: float | None,
    exchange: Exchange,
    progress: Progress | None,
    caller: str | None,
) -> ExchangeReport:
    """Write files into a store of a model; a new store gets the retention time, too."""
    expected = None if has_store(into) else model
    with open_store(into, model=expected, write=True, caller=caller) as store:
        there = store.model
        same = (there.fingerprint, there.dim, there.weighted)
        if same != (model.fingerprint, model.dim, model.weighted):
            raise StoreError(
                f"{into}: was made by model {there.name!r} ({there.fingerprint[:12]}), what comes "
                f"by {model.name!r} ({model.fingerprint[:12]}); their embeddings cannot be "
                "compared. Use another store"
            )
        if retention is not None and not store.revision():  # nothing was ever written
            store.set_retention(retention)
        return take(store, exchange, progress)


def merge_stores(
    origin: Path | str,
    into: Path | str,
    progress: Progress | None = None,
    *,
    apply_erasures: bool = False,
    confirm: Confirm | None = None,
    caller: str | None = None,
) -> ExchangeReport:
    """Copy all files of one store into another, which is created if there is none.

    A new store takes the retention time of the first; an existing one keeps its own.
    Stores that are the same, of different models, damaged or in use raise `StoreError`.

    Args:
        apply_erasures: also erase here what was erased there, and replace people in files that are
            newer there.
        confirm: called with the files whose people that erases; raises to refuse.
        caller: for the audit log; None for the user of this machine.
    """
    origin, into = Path(origin), Path(into)
    if origin.resolve() == into.resolve():
        raise StoreError(f"{origin}: is the same store; name another one to merge")
    with open_store(origin) as there, there.snapshot():
        if damage := there.damage():
            raise StoreError(f"{origin}: the database is damaged ({damage}); nothing was merged")
        total = there.counts()["files"]
        files = partial(units_of, there)
        exchange = Exchange("merge", origin, files, total, apply_erasures, confirm)
        return bring(into, there.model, there.retention(), exchange, progress, caller)
