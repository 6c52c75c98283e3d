"""Files that go from one store to another, each with everyone in it, and which of two wins.

A file is a unit: its state, stamp and camera, its pictures and people, tracks, embeddings and
thumbnails. What was erased on one side stays erased on both. Else a file of a newer stamp wins; of
the same stamp one that is whole, over one that could not be read, over one that is not finished.
People and tracks get new ids.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import StoreError
from personsearch.store.connection import DATABASE
from personsearch.store.people import FileState, ModelIdentity
from personsearch.store.store import Store, open_store
from personsearch.types import FileStamp

Progress = Callable[[str, int, int], None]
"""Called with (step, done, of how many)."""

UNIT_TOLERANCE = 0.01
"""By which the length of an embedding in half precision may differ from 1."""

_STATES = {"open": 0, "unreadable": 1, "whole": 2}  # and what beats what
_TOGETHER = 2000  # files, pictures and people in one transaction


@dataclass(frozen=True)
class PictureRow:
    """A photo, or a frame of a video; as `FoundPeople`, and when it was added to the store."""

    frame: int | None
    position: float | None
    time: float | None
    added: float
    width: int
    height: int


@dataclass(frozen=True)
class TrackRow:
    """A track of a video; as `TrackSpan`."""

    first: float
    last: float
    views: int


@dataclass(frozen=True)
class PersonRow:
    """A view of a person: rows in the unit's pictures and tracks, box and score."""

    picture: int
    track: int | None
    x1: float
    y1: float
    x2: float
    y2: float
    score: float


@dataclass(frozen=True, eq=False)
class FileUnit:
    """A file with everyone in it, by rows instead of ids.

    Attributes:
        source, name, stamp, camera, state, reason: of the file.
        pictures: by frame.
        tracks: of a video.
        people: by picture.
        vectors: (N, D) float16, of the people.
        thumbnails: N pictures as JPEG; empty where there is none.
    """

    source: str
    name: str
    stamp: FileStamp
    camera: str | None
    state: str
    reason: str
    pictures: list[PictureRow] = field(default_factory=list)
    tracks: list[TrackRow] = field(default_factory=list)
    people: list[PersonRow] = field(default_factory=list)
    vectors: NDArray[np.float16] = field(default_factory=lambda: np.zeros((0, 0), np.float16))
    thumbnails: list[bytes] = field(default_factory=list)

    @property
    def path(self) -> str:
        """For messages."""
        return f"{self.source}/{self.name}" if self.name else self.source

    def check(self, dim: int) -> None:
        """Whether a store may take it.

        Raises:
            StoreError: it may not, and why.
        """
        if wrong := self._wrong(dim):
            raise StoreError(f"file {self.path!r}: {wrong}")

    def _wrong(self, dim: int) -> str:
        if not self.source or "\0" in self.source + self.name:
            return "its name is empty or holds a zero byte"
        if self.name.startswith("/") or ".." in self.name.split("/"):
            return "its name leads out of its source"
        if self.state not in (*_STATES, "erased"):
            return f"is {self.state!r}, expected open, whole, unreadable or erased"
        if self.state == "erased" and (self.pictures or self.tracks):
            return "is erased, but has pictures"
        frames = [-1 if one.frame is None else one.frame for one in self.pictures]
        if frames != sorted(set(frames)) or (frames and frames[0] < -1):
            return "its frames are not ascending"
        rows: list[Any] = [*self.pictures, *self.tracks, *self.people]
        for row in rows:
            for value in vars(row).values():
                if isinstance(value, float) and not math.isfinite(value):
                    return f"holds a number that is not finite: {row}"
        for person in self.people:
            if not 0 <= person.picture < len(self.pictures):
                return "shows someone in a picture that is not there"
            if person.track is not None and not 0 <= person.track < len(self.tracks):
                return "shows someone in a track that is not there"
        if [one.picture for one in self.people] != sorted(one.picture for one in self.people):
            return "its people are not in the order of its pictures"
        if self.vectors.shape != (len(self.people), dim) and self.people:
            return f"embeddings of shape {self.vectors.shape}, expected {(len(self.people), dim)}"
        lengths = np.linalg.norm(self.vectors.astype(np.float32), axis=1)
        if self.people and not bool((np.abs(lengths - 1) < UNIT_TOLERANCE).all()):
            return "holds an embedding that is not of unit length"
        return ""


@dataclass
class ExchangeReport:
    """What came into a store.

    Attributes:
        files, pictures, people, tracks: that were written.
        skipped: files that were there already, or were erased there.
        erased: files that were there and have been erased, because they were erased where the
            others come from.
        replaced: files that were there with an older stamp, or not whole.
        kept: files that were there with a newer stamp.
        expired: people older than the store's retention time, erased at the end.
    """

    files: int = 0
    pictures: int = 0
    people: int = 0
    tracks: int = 0
    skipped: int = 0
    erased: int = 0
    replaced: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    expired: int = 0

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return dict(vars(self))


def units_of(store: Store) -> Iterator[FileUnit]:
    """Every file of a store, sorted by source and name as bytes; call it inside a snapshot."""
    files = store.query(
        "SELECT f.id, s.place, f.name, f.bytes, f.changed, f.camera, f.state, f.reason "
        "FROM files f JOIN sources s ON s.id = f.source ORDER BY s.place, f.name"
    )
    for file, source, name, size, changed, camera, state, reason in files:
        yield FileUnit(
            *(source, name, FileStamp(size, changed), camera, state, reason),
            **_inside(store, file),
        )


def _inside(store: Store, file: int) -> dict[str, Any]:
    pictures = list(
        store.query(
            "SELECT id, frame, position, time, added, width, height FROM pictures WHERE file = ? "
            "ORDER BY frame",
            file,
        )
    )
    tracks = list(
        store.query("SELECT id, first, last, views FROM tracks WHERE file = ? ORDER BY id", file)
    )
    people = list(
        store.query(
            "SELECT p.id, e.track, e.x1, e.y1, e.x2, e.y2, e.score, v.vector, t.jpeg "
            "FROM pictures p JOIN people e ON e.picture = p.id "
            "JOIN embeddings v ON v.person = e.id LEFT JOIN thumbnails t ON t.person = e.id "
            "WHERE p.file = ? ORDER BY p.frame, e.id",
            file,
        )
    )
    picture_rows = {row[0]: index for index, row in enumerate(pictures)}
    track_rows = {row[0]: index for index, row in enumerate(tracks)}
    length = 2 * store.model.dim
    if any(len(row[7]) != length for row in people):
        raise StoreError(f"{store.folder}: an embedding is not {store.model.dim} numbers long")
    vectors = np.frombuffer(b"".join(row[7] for row in people), np.float16)
    return {
        "pictures": [PictureRow(*row[1:]) for row in pictures],
        "tracks": [TrackRow(*row[1:]) for row in tracks],
        # A track of another file is damage, which row -1 leaves for `FileUnit.check` to say.
        "people": [
            PersonRow(
                picture_rows[row[0]],
                None if row[1] is None else track_rows.get(row[1], -1),
                *row[2:7],
            )
            for row in people
        ],
        "vectors": vectors.reshape(len(people), store.model.dim),
        "thumbnails": [row[8] or b"" for row in people],
    }


def take(
    store: Store, units: Iterable[FileUnit], total: int, progress: Progress | None = None
) -> ExchangeReport:
    """Writes files into a store, each whole or not at all.

    Stopped anywhere it may be called again, and skips what is there.

    Args:
        store: open for writing.
        units: files, of the store's model.
        total: how many there are.
        progress: called after each transaction.

    Raises:
        StoreError: a file that a store may not take, or no room on the disk.
    """
    report = ExchangeReport()
    waiting: list[FileUnit] = []
    size = done = 0

    def write() -> None:
        with store.writing():
            for unit in waiting:
                _take_one(store, unit, report)

    for unit in units:
        unit.check(store.model.dim)
        waiting.append(unit)
        size += 1 + len(unit.pictures) + len(unit.people)
        if size >= _TOGETHER:
            write()
            done += len(waiting)
            waiting, size = [], 0
            if progress:
                progress("writing", done, total)
    write()
    if progress:
        progress("writing", total, total)
    report.expired = store.expire()
    return report


def _take_one(store: Store, unit: FileUnit, report: ExchangeReport) -> None:
    run = store.execute
    source = store.source_id(unit.source)
    there = list(
        store.query(
            "SELECT id, bytes, changed, state, (SELECT count(*) FROM pictures WHERE file = f.id) "
            "FROM files f WHERE source = ? AND name = ?",
            *(source, unit.name),
        )
    )
    if there:
        row, size, changed, state, pictures = there[0]
        if state == "erased":
            report.skipped += 1
            return
        if unit.state == "erased":
            run("DELETE FROM files WHERE id = ?", row)
            store.mark_erased()
            report.erased += 1
        elif (size, changed) == (unit.stamp.bytes, unit.stamp.changed):
            # Of two that are not finished, the one that got further.
            ours = (_STATES[state], pictures if state == "open" else 0)
            theirs = (_STATES[unit.state], len(unit.pictures) if state == "open" else 0)
            if theirs <= ours:
                report.skipped += 1
                return
            run("DELETE FROM files WHERE id = ?", row)
            report.replaced.append(unit.path)
        elif (unit.stamp.changed, unit.stamp.bytes) < (changed, size):
            report.kept.append(unit.path)
            return
        else:
            run("DELETE FROM files WHERE id = ?", row)
            report.replaced.append(unit.path)
    file = store.insert_file(
        *(source, unit.name, unit.stamp, unit.camera, FileState(unit.state), unit.reason)
    )
    pictures = [store.insert_picture(file, *vars(one).values()) for one in unit.pictures]
    tracks = [store.insert_track(file, *vars(one).values()) for one in unit.tracks]
    ids = store.new_ids(len(unit.people))
    for id, one, vector, thumbnail in zip(
        ids, unit.people, unit.vectors, unit.thumbnails, strict=True
    ):
        track = None if one.track is None else tracks[one.track]
        box = (one.x1, one.y1, one.x2, one.y2)
        store.insert_person(id, pictures[one.picture], track, box, one.score, vector, thumbnail)
    report.files += 1
    report.pictures += len(unit.pictures)
    report.people += len(unit.people)
    report.tracks += len(unit.tracks)


def check_same_model(there: ModelIdentity, comes: ModelIdentity, into: Path) -> None:
    """Whether embeddings of one model may go to a store of another.

    Raises:
        StoreError: they are not of the same.
    """
    same = (there.fingerprint, there.dim, there.weighted)
    if same != (comes.fingerprint, comes.dim, comes.weighted):
        raise StoreError(
            f"{into}: was made by model {there.name!r} ({there.fingerprint[:12]}), what comes by "
            f"{comes.name!r} ({comes.fingerprint[:12]}); their embeddings cannot be compared. Use "
            "another store"
        )


@contextmanager
def open_or_make(into: Path, model: ModelIdentity, retention: float | None) -> Iterator[Store]:
    """A store of a model, open for writing; one that is made gets the retention time, too.

    Raises:
        StoreError: it is of another model, damaged, or in use.
    """
    made = not (into / DATABASE).is_file() or not (into / DATABASE).stat().st_size
    with open_store(into, model=model if made else None, write=True) as store:
        check_same_model(store.model, model, into)
        if made:
            store.set_retention(retention)
        yield store


def merge_stores(
    origin: Path | str, into: Path | str, progress: Progress | None = None
) -> ExchangeReport:
    """Brings everyone of one store into another, which is made if there is none.

    A new store takes the retention time of the first; one that is there keeps its own.

    Args:
        origin: a store's folder; stays as it is.
        into: another's.
        progress: called from time to time.

    Raises:
        StoreError: they are one and the same, or of different models; or one is damaged or in use.
    """
    origin, into = Path(origin), Path(into)
    if origin.resolve() == into.resolve():
        raise StoreError(f"{origin}: is the same store; name another one to merge")
    with open_store(origin) as there, there.snapshot():
        total = there.counts()["files"]
        with open_or_make(into, there.model, there.retention()) as store:
            return take(store, units_of(there), total, progress)
