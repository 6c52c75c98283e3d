"""The store: who was found in which picture, in one SQLite database, the one source of truth.

    STORE/people.sqlite    sources, files, pictures, people, embeddings, thumbnails
    STORE/writer.lock      held by the one process that writes
    STORE/index/           derived files that make search quick, if there are many people

A picture and everyone in it are written in one transaction: after a kill or a power cut a picture
is there with all its people, or not at all. Whoever is erased is overwritten, and so is every copy
of them in the database's log and in derived files.
"""

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import StoreError
from personsearch.store import index_files
from personsearch.store.filters import EVERYONE, Filters, selection
from personsearch.store.schema import check_version, prepare
from personsearch.store.tracks import VIEWS, FrameDetection, Track
from personsearch.types import FileStamp, FloatArray

DATABASE, LOCK = "people.sqlite", "writer.lock"

_BLOCK = 4096
_DAY = 86_400.0
NO_ID, LAST_ID = -1, 2**63 - 1
"""Below every id, and the highest that there can be."""


@dataclass(frozen=True, eq=False)
class EmbeddingRows:
    """Embeddings with what they are filtered by, ascending by id.

    Attributes:
        ids: (N,) int64.
        vectors: (N, D) float16.
        scores, heights, times: (N,) float64, of detections, boxes in pixels, and seconds since
            1970; NaN where no time is known.
        files: (N,) int64, rows of the files that show them.
    """

    ids: NDArray[np.int64]
    vectors: NDArray[np.float16]
    scores: NDArray[np.float64]
    heights: NDArray[np.float64]
    times: NDArray[np.float64]
    files: NDArray[np.int64]


@dataclass(frozen=True)
class ModelIdentity:
    """Which model made the embeddings of a store; those of another cannot be compared with them.

    Attributes:
        name: as the user named it.
        fingerprint: of its weights and settings.
        dim: length of an embedding.
        weighted: whether similarity is multiplied by the detection's score.
    """

    name: str
    fingerprint: str
    dim: int
    weighted: bool = False


@dataclass(frozen=True)
class KnownFile:
    """A file that the store knows.

    Attributes:
        id: of its row.
        stamp: as it was when it was indexed.
        state: ``open`` (not finished), ``whole``, ``unreadable`` or ``erased``.
        frames: frames of a video that are there; 0 for a photo.
    """

    id: int
    stamp: FileStamp
    state: str
    frames: int


@dataclass(frozen=True, eq=False)
class FoundPeople:
    """A picture and everyone who was found in it.

    Attributes:
        size: (width, height) of the picture in pixels.
        boxes: (N, 4) float32 in its pixels.
        scores: (N,) float32.
        embeddings: (N, D) float32 of unit length.
        thumbnails: N pictures as JPEG.
        frame: index from zero in a video; None for a photo.
        position: seconds from the video's start.
        time: seconds since 1970 at which it was taken; None if that is not known.
    """

    size: tuple[int, int]
    boxes: FloatArray
    scores: FloatArray
    embeddings: FloatArray
    thumbnails: Sequence[bytes]
    frame: int | None = None
    position: float | None = None
    time: float | None = None


@dataclass(frozen=True)
class TrackSpan:
    """Someone over some time of a video.

    Attributes:
        id: of the track.
        first, last: seconds from the video's start.
        views: frames in which they were seen; of these the best are kept.
    """

    id: int
    first: float
    last: float
    views: int


@dataclass(frozen=True, eq=False)
class StoredPerson:
    """A person in the store.

    Attributes:
        id: by which the store knows them.
        source, name: the folder or file that was indexed, and the file inside of it.
        box: (4,) float32 in the picture's pixels.
        score: the detector's.
        frame, position, time, camera: as in `FoundPeople`; None where not known.
        size: (width, height) of the picture.
        track: over which time this person was seen in a video; None for a photo.
    """

    id: int
    source: str
    name: str
    box: FloatArray
    score: float
    frame: int | None
    position: float | None
    time: float | None
    camera: str | None
    size: tuple[int, int]
    track: "TrackSpan | None" = None

    @property
    def path(self) -> Path:
        """The picture or video file; of a live camera, or what was sent, there is none."""
        return Path(self.place)

    @property
    def place(self) -> str:
        """Source and name, to be shown."""
        return f"{self.source.rstrip('/')}/{self.name}" if self.name else self.source

    @property
    def has_file(self) -> bool:
        """Whether it came from a file, which may be gone by now."""
        return Path(self.source).is_absolute()


class Store:
    """An open store. Opened by `open_store`; not for several threads at once."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, model: ModelIdentity) -> None:
        self.folder, self.model = folder, model
        self._connection = connection

    # Reading.

    def changes(self) -> int:
        """A number that grows with every change."""
        return int(self._one("SELECT changes FROM counter")[0])

    def counts(self) -> dict[str, int]:
        """How many sources, files, pictures, people and tracks there are, and files that failed."""
        tables = ("sources", "files", "pictures", "people", "tracks")
        found = {table: int(self._one(f"SELECT count(*) FROM {table}")[0]) for table in tables}
        query = "SELECT count(*) FROM files WHERE state = 'unreadable'"
        return found | {"unreadable": int(self._one(query)[0])}

    def known_files(self, source: str) -> dict[str, KnownFile]:
        """The files of a source by name."""
        rows = self._all(f"{_FILES} WHERE s.place = ? GROUP BY f.id", source)
        return {name: _known(row) for name, *row in rows}

    def known_file(self, source: str, name: str) -> KnownFile | None:
        """A file of a source; None if it was never indexed."""
        chosen = f"{_FILES} WHERE s.place = ? AND f.name = ? GROUP BY f.id"
        rows = self._all(chosen, source, name)
        return _known(rows[0][1:]) if rows else None

    def people_of(self, file: int) -> list[int]:
        """Ids of everyone in the pictures of a file, ascending."""
        rows = self._all(
            "SELECT e.id FROM people e JOIN pictures p ON p.id = e.picture WHERE p.file = ? "
            "ORDER BY 1",
            file,
        )
        return [person for (person,) in rows]

    def frames(self, file: int) -> set[int]:
        """The frames of a video that are there."""
        rows = self._all("SELECT frame FROM pictures WHERE file = ? AND frame NOT NULL", file)
        return {frame for (frame,) in rows}

    def embeddings(
        self, filters: Filters = EVERYONE
    ) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """Ids (N,), ascending, and embeddings (N, D) float16 of those who are meant."""
        where, values = filters.sql()
        # Filters name columns of the joined tables; without them the bare table is read.
        query = f"SELECT e.person, e.vector FROM embeddings e {_JOINED if where else ''} {where}"
        count = int(self._one("SELECT count(*) FROM embeddings")[0]) if not where else None
        ids: list[int] = []
        parts: list[NDArray[np.float16]] = []
        dim = self.model.dim
        with self._reported():
            cursor = self._connection.execute(f"{query} ORDER BY e.person", values)
            whole = np.empty((count or 0, dim), np.float16)
            filled = 0
            while rows := cursor.fetchmany(_BLOCK):
                ids += [row[0] for row in rows]
                block = np.frombuffer(b"".join(row[1] for row in rows), np.float16)
                if block.size != len(rows) * dim:
                    raise StoreError(f"{self.folder}: an embedding is not {dim} numbers long")
                if count is None:
                    parts.append(block.reshape(-1, dim))
                else:
                    whole[filled : filled + len(rows)] = block.reshape(-1, dim)
                    filled += len(rows)
        matrix = np.concatenate(parts) if parts else whole[:filled]
        return np.array(ids, np.int64), matrix

    def rows(
        self, *, after: int = NO_ID, last: int = LAST_ID, limit: int | None = None
    ) -> EmbeddingRows:
        """Those with `after` < id <= `last`, at most `limit`."""
        wanted = -1 if limit is None else limit
        dim = self.model.dim
        ids: list[int] = []
        vectors: list[NDArray[np.float16]] = []
        others: list[NDArray[np.float64]] = []
        with self._reported():
            cursor = self._connection.execute(_ROWS, (after, last, wanted))
            while block := cursor.fetchmany(_BLOCK):
                person, vector, *columns = zip(*block, strict=True)
                ids += person
                flat = np.frombuffer(b"".join(vector), np.float16)
                if flat.size != len(block) * dim:
                    raise StoreError(f"{self.folder}: an embedding is not {dim} numbers long")
                vectors.append(flat.reshape(-1, dim))
                others.append(np.array(columns, np.float64))  # NULL becomes NaN
        table = np.concatenate([np.zeros((4, 0)), *others], axis=1)
        matrix = np.concatenate([np.zeros((0, dim), np.float16), *vectors])
        whole = np.array(ids, np.int64)
        scores, heights, times, files = table
        return EmbeddingRows(whole, matrix, scores, heights, times, files.astype(np.int64))

    def blocks_since(self, changes: int) -> NDArray[np.int64]:
        """Blocks of 1,024 ids (id // 1024) in which something else than appending was done."""
        rows = self._all("SELECT block FROM blocks WHERE changes > ?", changes)
        return np.array([block for (block,) in rows], np.int64)

    def files_meant(self, filters: Filters) -> NDArray[np.int64] | None:
        """Rows of the files that are meant, ascending; None where no file is left out."""
        decisive = filters.of_files()
        if decisive is None:
            return None
        where, values = decisive.sql()
        query = f"SELECT f.id FROM files f JOIN sources s ON s.id = f.source {where} ORDER BY 1"
        with self._reported():
            rows = self._connection.execute(query, values).fetchall()
        return np.array([row for (row,) in rows], np.int64)

    def made(self) -> float:
        """When the store was made, in seconds since 1970."""
        return float(self._one("SELECT made FROM model")[0])

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float16]:
        """Embeddings (N, D) of some ids, in their order.

        Raises:
            StoreError: there is none of that id.
        """
        wanted = [int(one) for one in ids]
        chosen = "SELECT person, vector FROM embeddings WHERE person IN "
        found = dict(self._all(f"{chosen} (SELECT value FROM json_each(?))", json.dumps(wanted)))
        if missing := [one for one in wanted if one not in found]:
            raise StoreError(f"{self.folder}: has no person {missing[0]}; they may be erased")
        flat = np.frombuffer(b"".join(found[one] for one in wanted), np.float16)
        return flat.reshape(-1, self.model.dim)

    def thumbnails(self, ids: Sequence[int]) -> list[bytes]:
        """Pictures of some ids as JPEG, in their order; empty where there is none."""
        wanted = [int(one) for one in ids]
        chosen = "SELECT person, jpeg FROM thumbnails WHERE person IN "
        found = dict(self._all(f"{chosen} (SELECT value FROM json_each(?))", json.dumps(wanted)))
        return [found.get(one, b"") for one in wanted]

    def people(self, ids: Sequence[int]) -> list[StoredPerson]:
        """The people of some ids, in their order.

        Raises:
            StoreError: there is none of that id.
        """
        found: dict[int, StoredPerson] = {}
        wanted = [int(i) for i in ids]
        chosen = f"{_PERSON} WHERE e.id IN (SELECT value FROM json_each(?))"
        for row in self._all(chosen, json.dumps(wanted)):
            found[row[0]] = _person(row)
        if missing := [i for i in wanted if i not in found]:
            raise StoreError(f"{self.folder}: has no person {missing[0]}; they may be erased")
        return [found[i] for i in wanted]

    def people_in(self, path: Path) -> list[int]:
        """Ids of everyone in a photo or video file, wherever it was indexed from."""
        path = Path.cwd() / path
        found: list[int] = []
        for place in (path, *path.parents):
            name = "" if place == path else path.relative_to(place).as_posix()
            rows = self._all(
                "SELECT e.id FROM people e JOIN pictures p ON p.id = e.picture "
                "JOIN files f ON f.id = p.file JOIN sources s ON s.id = f.source "
                "WHERE s.place = ? AND f.name = ?",
                *(str(place), name),
            )
            found += [person for (person,) in rows]
        return found

    def track_members(self, track: int) -> list[int]:
        """Ids of the views of a track, ascending."""
        rows = self._all("SELECT id FROM people WHERE track = ? ORDER BY id", int(track))
        return [person for (person,) in rows]

    def ids_after(self, after: int, limit: int) -> list[int]:
        """The next ids, ascending."""
        rows = self._all(
            "SELECT id FROM people WHERE id > ? ORDER BY id LIMIT ?", int(after), int(limit)
        )
        return [person for (person,) in rows]

    def count(self, filters: Filters = EVERYONE) -> int:
        """How many people are meant."""
        where, values = filters.sql()
        chosen = f"(SELECT id AS person FROM people) e {_JOINED} {where}" if where else "people"
        with self._reported():
            found = self._connection.execute(f"SELECT count(*) FROM {chosen}", values).fetchone()
        return int(found[0])

    def thumbnail(self, person: int) -> bytes:
        """A person's picture as JPEG; empty if there is none."""
        row = self._one("SELECT jpeg FROM thumbnails WHERE person = ?", int(person))
        return bytes(row[0]) if row else b""

    def cameras(self) -> dict[str, int]:
        """People by camera."""
        rows = self._all(
            "SELECT f.camera, count(*) FROM people e JOIN pictures p ON p.id = e.picture "
            "JOIN files f ON f.id = p.file WHERE f.camera NOT NULL GROUP BY f.camera ORDER BY 1"
        )
        return dict(rows)

    def places(self) -> list[tuple[int, str | None, str]]:
        """Row, camera and source of every file."""
        return self._all(
            "SELECT f.id, f.camera, s.place FROM files f JOIN sources s ON s.id = f.source"
        )

    def unreadable(self) -> list[tuple[str, str, str]]:
        """Source, name and reason of every file that could not be read."""
        return self._all(
            "SELECT s.place, f.name, f.reason FROM files f JOIN sources s ON s.id = f.source "
            "WHERE f.state = 'unreadable' ORDER BY 1, 2"
        )

    def damage(self) -> str:
        """What SQLite's own check finds wrong; empty if nothing is."""
        found = [str(row[0]) for row in self._all("PRAGMA integrity_check") if row[0] != "ok"]
        for table, row, parent, _ in self._all("PRAGMA foreign_key_check"):
            found.append(f"row {row} of {table} names a row of {parent} that is not there")
        return "; ".join(line for text in found for line in text.splitlines())

    def retention(self) -> float | None:
        """Days that a picture is kept; None for ever."""
        days = self._one("SELECT days FROM keeping")[0]
        return None if days is None else float(days)

    def outdated(self, now: float | None = None) -> int:
        """How many people are older than the retention time; see `expire`."""
        query = "SELECT count(*) FROM people e JOIN pictures p ON p.id = e.picture WHERE "
        return int(self._one(f"{query} {_OLDER}", *self._limit(now))[0])

    def scrubbed(self) -> bool:
        """Whether no copy of anyone erased is left; if not, `compact` overwrites them."""
        return not self._one("SELECT unscrubbed FROM keeping")[0]

    def times(self) -> tuple[float | None, float | None]:
        """Seconds since 1970 of the first and the last picture whose time is known."""
        first, last = self._one("SELECT min(time), max(time) FROM pictures")
        return first, last

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Inside of it, what others write is not seen."""
        self._run("BEGIN")
        try:
            yield
        finally:
            self._run("ROLLBACK")

    def query(self, text: str, *values: Any) -> Iterator[Any]:
        """Rows of a query, one after the other, for modules that know the tables."""
        with self._reported():
            yield from self._connection.execute(text, values)

    # Writing.

    def execute(self, text: str, *values: Any) -> sqlite3.Cursor:
        """One statement of a transaction, for modules that know the tables."""
        return self._run(text, *values)

    def begin_file(
        self, source: str, name: str, stamp: FileStamp, camera: str | None = None
    ) -> int:
        """The row of a file that is to be indexed; what was known of another version is erased."""
        with self.writing():
            self._run("INSERT OR IGNORE INTO sources (place) VALUES (?)", source)
            (place,) = self._one("SELECT id FROM sources WHERE place = ?", source)
            old = self._connection.execute(
                "SELECT id, bytes, changed FROM files WHERE source = ? AND name = ?", (place, name)
            ).fetchone()
            if old and old[1:] == (stamp.bytes, stamp.changed):
                self._run("UPDATE files SET state = 'open', reason = '' WHERE id = ?", old[0])
                return int(old[0])
            if old:
                self._run("DELETE FROM files WHERE id = ?", old[0])
            cursor = self._run(
                "INSERT INTO files (source, name, bytes, changed, camera, state) "
                "VALUES (?, ?, ?, ?, ?, 'open')",
                *(place, name, stamp.bytes, stamp.changed, camera),
            )
            return int(cursor.lastrowid or 0)

    def add(self, file: int, found: Sequence[FoundPeople], *, finished: bool = False) -> None:
        """Writes pictures of a file and everyone in them; all are there, or none.

        Args:
            file: from `begin_file`.
            found: each of another frame, or the one photo.
            finished: whether they are the last of the file.

        Raises:
            StoreError: an embedding of another length, a picture that is there already, or no room
                on the disk.
        """
        with self.writing():
            for one in found:
                self._add(file, one)
            if finished:
                self._run("UPDATE files SET state = 'whole' WHERE id = ?", file)

    def _add(self, file: int, found: FoundPeople) -> None:
        vectors = np.ascontiguousarray(found.embeddings, np.float16)
        if vectors.shape != (len(found.boxes), self.model.dim):
            raise StoreError(
                f"{self.folder}: embeddings of shape {vectors.shape} came for {len(found.boxes)} "
                f"people, expected {(len(found.boxes), self.model.dim)}"
            )
        cursor = self._run(
            "INSERT INTO pictures (file, frame, position, time, width, height, added) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            *(file, found.frame, found.position, found.time, *map(int, found.size), time.time()),
        )
        picture = cursor.lastrowid
        ids = self.new_ids(len(vectors))
        boxes = np.asarray(found.boxes, float).tolist()
        scores = np.asarray(found.scores, float).tolist()
        with self._reported():
            many = self._connection.executemany
            many(
                "INSERT INTO people (id, picture, x1, y1, x2, y2, score) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((i, picture, *b, s) for i, b, s in zip(ids, boxes, scores, strict=True)),
            )
            many(
                "INSERT INTO embeddings VALUES (?, ?)",
                ((i, v.tobytes()) for i, v in zip(ids, vectors, strict=True)),
            )
            many(
                "INSERT INTO thumbnails VALUES (?, ?)",
                ((i, t) for i, t in zip(ids, found.thumbnails, strict=True) if t),
            )

    def new_ids(self, count: int) -> range:
        """Ids for people who are written in this transaction; nobody else ever has them."""
        (last,) = self._one("SELECT people FROM counter")
        self._run("UPDATE counter SET people = ?", last + count)
        return range(last + 1, last + 1 + count)

    def put(self, people: Sequence[tuple[StoredPerson, NDArray[np.float16], bytes]]) -> None:
        """Writes people under the ids that they have, each with embedding and thumbnail.

        Their files count as whole, but of an unknown stamp: indexing does them again. Someone who
        is there under that id is replaced.
        """
        with self.writing():
            for person, vector, thumbnail in people:
                picture = self._picture_of(person)
                track = None if person.track is None else person.track.id
                self._run("DELETE FROM people WHERE id = ?", person.id)
                box = np.asarray(person.box, float).tolist()
                self._run(
                    "INSERT INTO people (id, picture, track, x1, y1, x2, y2, score) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    *(person.id, picture, track, *box, float(person.score)),
                )
                half = np.ascontiguousarray(vector, np.float16)
                self._run("INSERT INTO embeddings VALUES (?, ?)", person.id, half.tobytes())
                if thumbnail:
                    self._run("INSERT INTO thumbnails VALUES (?, ?)", person.id, thumbnail)
            last = max((person.id for person, _, _ in people), default=0)
            self._run("UPDATE counter SET people = max(people, ?)", last)

    def _picture_of(self, person: StoredPerson) -> int:
        """The row of the picture that shows someone; made, with file and track, if needed."""
        self._run("INSERT OR IGNORE INTO sources (place) VALUES (?)", person.source)
        (source,) = self._one("SELECT id FROM sources WHERE place = ?", person.source)
        self._run(
            "INSERT OR IGNORE INTO files (source, name, bytes, changed, camera, state) "
            "VALUES (?, ?, -1, 0, ?, 'whole')",
            *(source, person.name, person.camera),
        )
        (file,) = self._one(
            "SELECT id FROM files WHERE source = ? AND name = ?", source, person.name
        )
        if person.track is not None:
            span = person.track
            self._run(
                "INSERT OR IGNORE INTO tracks (id, file, first, last, views) "
                "VALUES (?, ?, ?, ?, ?)",
                *(span.id, file, span.first, span.last, span.views),
            )
        frame = -1 if person.frame is None else person.frame
        query = "SELECT id FROM pictures WHERE file = ? AND coalesce(frame, -1) = ?"
        row = self._connection.execute(query, (file, frame)).fetchone()
        if row is not None:
            return int(row[0])
        cursor = self._run(
            "INSERT INTO pictures (file, frame, position, time, width, height, added) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            *(file, person.frame, person.position, person.time, *map(int, person.size)),
            time.time(),
        )
        return int(cursor.lastrowid or 0)

    def frame_detections(self, file: int) -> list[FrameDetection]:
        """The detections in the frames of a video, by frame."""
        rows = self._all(
            "SELECT e.id, p.frame, p.position, e.x1, e.y1, e.x2, e.y2, e.score, v.vector "
            "FROM people e JOIN pictures p ON p.id = e.picture "
            "JOIN embeddings v ON v.person = e.id "
            "WHERE p.file = ? AND p.frame NOT NULL ORDER BY p.frame, e.id",
            file,
        )
        return [
            FrameDetection(
                *(row[0], row[1], row[2] or 0.0, np.array(row[3:7], np.float32), row[7]),
                np.frombuffer(row[8], np.float16).astype(np.float32),
            )
            for row in rows
        ]

    def finish_video(self, file: int, tracks: Sequence[Track], views: int = VIEWS) -> None:
        """Notes that all of a video is there, as tracks; keeps the best views of each."""
        with self.writing():
            self._run("DELETE FROM tracks WHERE file = ?", file)
            for track in tracks:
                first, last = track.detections[0].position, track.detections[-1].position
                cursor = self._run(
                    "INSERT INTO tracks (file, first, last, views) VALUES (?, ?, ?, ?)",
                    *(file, first, last, len(track.detections)),
                )
                kept = {seen.id for seen in track.best_views(views)}
                left = [(seen.id,) for seen in track.detections if seen.id not in kept]
                with self._reported():
                    many = self._connection.executemany
                    many("DELETE FROM people WHERE id = ?", left)
                    rows = ((cursor.lastrowid, person) for person in kept)
                    many("UPDATE people SET track = ? WHERE id = ?", rows)
            self._run("UPDATE files SET state = 'whole', reason = '' WHERE id = ?", file)

    def finish_file(self, file: int, reason: str = "") -> None:
        """Notes that all of a file is there, or why it could not be read."""
        with self.writing():
            state = "unreadable" if reason else "whole"
            self._run("UPDATE files SET state = ?, reason = ? WHERE id = ?", state, reason, file)

    def erase(self, filters: Filters) -> int:
        """Erases those who are meant, embeddings and thumbnails too; says how many views they were.

        Nothing of them stays in the store's folder. Who is named by id goes with the whole track.
        Their files count as indexed, so that they do not come back unless a file changes.

        Raises:
            StoreError: everyone is meant: delete the folder instead.
        """
        if filters.everyone:
            raise StoreError(
                f"{self.folder}: no person, picture, source or time was named; to erase everyone, "
                "delete the folder"
            )
        where, values = filters.sql()
        chosen = f"SELECT e.person FROM (SELECT id AS person FROM people) e {_JOINED} {where}"
        with self.writing(erasing=True):
            ids = self._connection.execute(chosen, values).fetchall()
            if filters.people is not None:
                # A person is a track: the other views show the same one.
                named = "(SELECT value FROM json_each(?1))"
                ids = self._all(
                    f"SELECT id FROM people WHERE id IN {named} OR track IN "
                    f"(SELECT track FROM people WHERE id IN {named})",
                    json.dumps([person for (person,) in ids]),
                )
            with self._reported():
                self._connection.executemany("DELETE FROM people WHERE id = ?", ids)
            self._forget_tracks()
            self.mark_erased()
        self.compact()
        return len(ids)

    def erase_files(self, source: str, names: Sequence[str] | None = None) -> int:
        """Erases files of a source with everyone in them; says how many people they were.

        A file stays known by its name as erased, so that indexing leaves it out from then on.

        Args:
            source: as it was indexed.
            names: of its files; None for all of them, an empty list for none.

        Raises:
            StoreError: there is no such source or file.
        """
        known = self.known_files(source)
        if not known:
            raise StoreError(f"{self.folder}: has no source {source!r}")
        chosen = selection("names", known if names is None else names) or ()
        if unknown := [name for name in chosen if name not in known]:
            raise StoreError(f"{self.folder}: source {source!r} has no file {unknown[0]!r}")
        erased = 0
        with self.writing(erasing=True):
            for name in chosen:
                row = known[name].id
                (people,) = self._one(
                    "SELECT count(*) FROM people e JOIN pictures p ON p.id = e.picture "
                    "WHERE p.file = ?",
                    row,
                )
                erased += people
                self._run("DELETE FROM pictures WHERE file = ?", row)
                self._run("DELETE FROM tracks WHERE file = ?", row)
                self._run("UPDATE files SET state = 'erased', reason = '' WHERE id = ?", row)
            self.mark_erased()
        self.compact()
        return erased

    def forget_files(self, source: str, names: Sequence[str]) -> int:
        """Erases files as if they had never been indexed; says how many people they were.

        Unlike those of `erase_files`, they are indexed again where they come back.
        """
        known = self.known_files(source)
        rows = [(known[name].id,) for name in names if name in known]
        with self.writing(erasing=True):
            before = self._one("SELECT count(*) FROM people")[0]
            with self._reported():
                self._connection.executemany("DELETE FROM files WHERE id = ?", rows)
            erased = before - self._one("SELECT count(*) FROM people")[0]
            self.mark_erased()
        self.compact()
        return int(erased)

    def keep(self, days: float | None) -> None:
        """Sets the retention time: from now on `expire` erases what is older; None for never.

        Raises:
            StoreError: not a number of days above zero.
        """
        if days is not None and not (0 < days < float("inf")):
            raise StoreError(f"{self.folder}: a retention of {days} days came, expected above 0")
        with self.writing():
            self._run("UPDATE keeping SET days = ?", days)

    def expire(self, now: float | None = None) -> int:
        """Erases pictures older than the retention time; says how many people were in them.

        A picture's age counts from when it was taken or, if that is not known, added. Its file
        counts as indexed, so that it does not come back unless it changes. What an earlier erasing
        left behind when it was stopped is overwritten, too.

        Args:
            now: seconds since 1970; None for this moment.

        Raises:
            StoreError: another process reads, so that copies are still in the log.
        """
        limit = self._limit(now)
        people = self.outdated(now)
        if self._one(f"SELECT count(*) FROM pictures p WHERE {_OLDER}", *limit)[0]:
            with self.writing(erasing=True):
                self._run(f"DELETE FROM pictures AS p WHERE {_OLDER}", *limit)
                self._forget_tracks()
                self.mark_erased()
        if not self.scrubbed():
            self.compact()
        return people

    def _limit(self, now: float | None) -> tuple[float | None]:
        days = self.retention()
        return (None if days is None else (time.time() if now is None else now) - days * _DAY,)

    def mark_erased(self) -> None:
        """Notes in this transaction that `compact` has to follow, if need be in another process."""
        self._run("UPDATE keeping SET unscrubbed = 1")

    def compact(self) -> None:
        """Rewrites the database without copies of erased people, and gives room back to the disk.

        SQLite overwrites a row that is deleted, but not the copies that it left behind when it
        moved the row from page to page.

        Raises:
            StoreError: no room on the disk for a copy, or another process reads the store.
        """
        try:
            self._run("VACUUM")
        except StoreError as error:
            raise StoreError(
                f"{error}. Until then copies of who was erased may be in free pages"
            ) from None
        self._forget_log()
        self._run("UPDATE keeping SET unscrubbed = 0")

    def _forget_tracks(self) -> None:
        """Deletes tracks of which no view is left."""
        self._run(
            "DELETE FROM tracks WHERE id NOT IN (SELECT track FROM people WHERE track NOT NULL)"
        )

    def _forget_log(self, must: bool = True) -> None:
        """Empties the write-ahead log, in which old pages stand."""
        busy = self._one("PRAGMA wal_checkpoint(TRUNCATE)")[0]
        if busy and must:
            raise StoreError(
                f"{self.folder}: erased, but another process is reading the store, so copies are "
                "still in its log; end that process and run the same command again"
            )

    # How SQLite is spoken to.

    def close(self) -> None:
        """Closes the database."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def writing(self, erasing: bool = False) -> Iterator[None]:
        """A transaction: everything in it is written, or nothing.

        Args:
            erasing: nothing at all that was derived from who is deleted may stay.
        """
        with self._reported():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                touched = self.blocks_since(self.changes())
                self._connection.execute("UPDATE counter SET changes = changes + 1")
                # Before they are gone from here, so that no copy can outlive them.
                with index_files.without_blocks(self.folder, touched, means_too=erasing):
                    self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        if len(touched) and not erasing:
            self._forget_log(must=False)

    def _reported(self) -> "_Reported":
        return _Reported(self.folder)

    def _run(self, query: str, *values: Any) -> sqlite3.Cursor:
        with self._reported():
            return self._connection.execute(query, values)

    def _all(self, query: str, *values: Any) -> list[Any]:
        with self._reported():
            return self._connection.execute(query, values).fetchall()

    def _one(self, query: str, *values: Any) -> Any:
        with self._reported():
            return self._connection.execute(query, values).fetchone()


class _Reported:
    """Turns what SQLite raises into one clear line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise StoreError(f"{self.folder}: {_told(error)}") from None
        if isinstance(error, UnicodeDecodeError):  # what SQLite says quotes what is damaged
            told = _told(sqlite3.DatabaseError("decode to UTF-8"))
            raise StoreError(f"{self.folder}: {told}") from None


def _told(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_FULL":
        return "the disk is full; make room and run the same command again, nothing is lost"
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "decode to UTF-8" in str(error):
        return f"the database is damaged ({error}); take a backup, or index again into a new one"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "another process is writing; wait until it has finished"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return f"cannot be written ({error}); check whose folder it is"
    if name.startswith("SQLITE_IOERR"):
        return (
            f"the disk could not be read or written ({error}); make room or mend it, and run the "
            "same command again"
        )
    if name.startswith("SQLITE_CONSTRAINT_UNIQUE"):
        return f"this is there already ({error})"
    return f"SQLite says: {error}"


@contextmanager
def open_store(
    folder: Path | str, *, model: ModelIdentity | None = None, write: bool = False
) -> Iterator[Store]:
    """Opens a store; made, if it is opened for writing and there is none.

    Args:
        folder: of the store.
        model: that indexes or searches; one that made other embeddings is refused. None where only
            what is there is read or erased.
        write: whether anything will be written; one process at a time may.

    Raises:
        StoreError: there is none, it is no store, damaged, of a newer version, or made by another
            model; or another process writes to it.
    """
    folder = Path(folder)
    exists = (folder / DATABASE).is_file()
    if not exists and not (write and model is not None):
        raise StoreError(
            f"{folder}: there is no store here; make one with: personsearch index SOURCE --store "
            f"{folder}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with _writer(folder, write):
        connection = _connect(folder, write)
        try:
            with _Reported(folder):
                if write:
                    prepare(folder, connection, model)
                check_version(folder, connection)
                made_by = _model(folder, connection)
            if model is not None and model.fingerprint != made_by.fingerprint:
                raise StoreError(
                    f"{folder}: was made by model {made_by.name!r} ({made_by.fingerprint[:12]}), "
                    f"this is {model.name!r} ({model.fingerprint[:12]}); their embeddings cannot "
                    f"be compared. Use --model {made_by.name}, or index into another store"
                )
            yield Store(folder, connection, replace(made_by))
        finally:
            connection.close()


@contextmanager
def _writer(folder: Path, write: bool) -> Iterator[None]:
    """The right to write, for one process."""
    if not write:
        yield
        return
    with (folder / LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            who = lock.read().strip()
            raise StoreError(
                f"{folder}: process {who or 'unknown'} is writing to this store; wait until it has "
                "finished, or end it"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _connect(folder: Path, write: bool) -> sqlite3.Connection:
    with _Reported(folder):
        # A reader, too, opens for writing where it may: SQLite's log has an index in shared memory.
        # One thread at a time uses it, but another may close it.
        connection = sqlite3.connect(
            folder / DATABASE, timeout=10.0, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        if not write:
            connection.execute("PRAGMA query_only = ON")
    return connection


def _model(folder: Path, connection: sqlite3.Connection) -> ModelIdentity:
    row = connection.execute("SELECT name, fingerprint, dim, weighted FROM model").fetchone()
    if row is None:
        raise StoreError(f"{folder}: does not say which model made it; the store is damaged")
    return ModelIdentity(row[0], row[1], int(row[2]), bool(row[3]))


_ROWS = (
    "SELECT e.person, e.vector, h.score, h.y2 - h.y1, p.time, p.file FROM embeddings e "
    "JOIN people h ON h.id = e.person JOIN pictures p ON p.id = h.picture "
    "WHERE e.person > ? AND e.person <= ? ORDER BY e.person LIMIT ?"
)
_JOINED = (
    "JOIN people h ON h.id = e.person JOIN pictures p ON p.id = h.picture "
    "JOIN files f ON f.id = p.file JOIN sources s ON s.id = f.source"
)
_OLDER = "coalesce(p.time, p.added) < ?"
_FILES = (
    "SELECT f.name, f.id, f.bytes, f.changed, f.state, count(p.frame) FROM files f "
    "JOIN sources s ON s.id = f.source LEFT JOIN pictures p ON p.file = f.id"
)
_PERSON = (
    "SELECT e.id, s.place, f.name, e.x1, e.y1, e.x2, e.y2, e.score, p.frame, p.position, p.time, "
    "f.camera, p.width, p.height, t.id, t.first, t.last, t.views "
    "FROM people e JOIN pictures p ON p.id = e.picture JOIN files f ON f.id = p.file "
    "JOIN sources s ON s.id = f.source LEFT JOIN tracks t ON t.id = e.track"
)


def _known(row: Sequence[Any]) -> KnownFile:
    file, size, changed, state, frames = row
    return KnownFile(file, FileStamp(size, changed), state, frames)


def _person(row: Any) -> StoredPerson:
    box = np.array(row[3:7], np.float32)
    score, frame, position, seconds, camera, width, height = row[7:14]
    track = None if row[14] is None else TrackSpan(*row[14:18])
    return StoredPerson(
        *(row[0], row[1], row[2], box, score, frame, position, seconds, camera),
        size=(width, height),
        track=track,
    )
