"""Reading a store: files, people, embeddings, thumbnails and counts."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import StoreError
from personsearch.store.clock import DAY
from personsearch.store.connection import Connection
from personsearch.store.filters import EVERYONE, Filters
from personsearch.store.people import (
    EmbeddingRows,
    FileState,
    KnownFile,
    StoredPerson,
    TrackSpan,
    in_order,
)
from personsearch.store.tracks import FrameDetection
from personsearch.types import FileStamp

NO_ID, LAST_ID = -1, 2**63 - 1  # below every id, and the highest possible one

OLDER = "min(coalesce(p.time, p.added), p.added) < ?"
"""Pictures p taken or added before some time, whichever was earlier."""

JOINED = (
    "people h JOIN pictures p ON p.id = h.picture "
    "JOIN files f ON f.id = p.file JOIN sources s ON s.id = f.source"
)
"""The tables that `Filters.sql` names."""

FILES = "files f JOIN sources s ON s.id = f.source"
AMONG = "IN (SELECT value FROM json_each(?))"  # the values of a list as JSON

_EMBEDDINGS = (
    "SELECT e.person, e.vector, h.score, h.y2 - h.y1, p.time, p.file FROM embeddings e "
    "JOIN people h ON h.id = e.person JOIN pictures p ON p.id = h.picture "
    "WHERE e.person > ? AND e.person <= ? ORDER BY e.person LIMIT ?"
)
_KNOWN = (  # without a stamp where the source was imported: see `Writing.source_id`
    "SELECT f.name, f.id, CASE WHEN s.here THEN f.bytes ELSE -1 END, f.changed, f.state, "
    f"count(p.frame), f.content FROM {FILES} LEFT JOIN pictures p ON p.file = f.id "
    "WHERE s.place = ?"
)
_PERSON = (
    "SELECT h.id, s.place, f.name, h.x1, h.y1, h.x2, h.y2, h.score, p.frame, p.position, p.time, "
    f"f.camera, p.width, p.height, s.here, t.id, t.first, t.last, t.views "
    f"FROM {JOINED} LEFT JOIN tracks t ON t.id = h.track"
)


class Reading(Connection):
    """What can be read from a store."""

    def created_at(self) -> float:
        """Creation time of the store in seconds since 1970."""
        return float(self._one("SELECT made FROM model")[0])

    def counts(self) -> dict[str, int]:
        """Number of sources, files, pictures, people, tracks and unreadable files."""
        tables = ("sources", "files", "pictures", "people", "tracks")
        found = {table: int(self._one(f"SELECT count(*) FROM {table}")[0]) for table in tables}
        query = "SELECT count(*) FROM files WHERE state = 'unreadable'"
        return found | {"unreadable": int(self._one(query)[0])}

    # Files.

    def is_here(self, source: str) -> bool:
        """Whether a source was indexed on this machine, and not imported."""
        return self._one("SELECT 1 FROM sources WHERE place = ? AND here", source) is not None

    def known_files(self, source: str) -> dict[str, KnownFile]:
        """The files of a source by name."""
        rows = self._all(f"{_KNOWN} GROUP BY f.id", source)
        return {name: _known(*row) for name, *row in rows}

    def known_file(self, source: str, name: str) -> KnownFile | None:
        """A file of a source; None if it was never indexed."""
        rows = self._all(f"{_KNOWN} AND f.name = ? GROUP BY f.id", source, name)
        return _known(*rows[0][1:]) if rows else None

    def matching_files(self, filters: Filters) -> NDArray[np.int64] | None:
        """Ids of the files that the filters select, ascending; None where they restrict none."""
        of_files = filters.of_files()
        if of_files is None:
            return None
        where, values = of_files.sql()
        ids = self._column(f"SELECT f.id FROM {FILES} {where} ORDER BY 1", *values)
        return np.array(ids, np.int64)

    def file_sources(self) -> list[tuple[int, str | None, str]]:
        """Id, camera and source of every file."""
        return self._all(f"SELECT f.id, f.camera, s.place FROM {FILES}")

    def unreadable(self) -> list[tuple[str, str, str]]:
        """Source, name and reason of every file that could not be read."""
        return self._all(
            f"SELECT s.place, f.name, f.reason FROM {FILES} "
            "WHERE f.state = 'unreadable' ORDER BY 1, 2"
        )

    def copies(self, source: str) -> list[str]:
        """Paths of files that show people and have the content of an erased file of a source."""
        erased = f"SELECT f.content FROM {FILES} WHERE s.place = ? AND f.state = 'erased'"
        rows = self._all(
            f"SELECT s.place, f.name FROM {FILES} WHERE f.content IN ({erased}) "
            "AND EXISTS (SELECT 1 FROM pictures p JOIN people h ON h.picture = p.id "
            "WHERE p.file = f.id) ORDER BY 1, 2",
            source,
        )
        return [f"{place}/{name}" if name else place for place, name in rows]

    def frames(self, file: int) -> set[int]:
        """Indices of a video's frames in the store."""
        return set(
            self._column("SELECT frame FROM pictures WHERE file = ? AND frame NOT NULL", file)
        )

    def frame_detections(self, file: int) -> list[FrameDetection]:
        """The detections in the frames of a video, by frame."""
        rows = self._all(
            "SELECT h.id, p.frame, p.position, h.x1, h.y1, h.x2, h.y2, h.score, e.vector "
            f"FROM {JOINED} JOIN embeddings e ON e.person = h.id "
            "WHERE p.file = ? AND p.frame NOT NULL ORDER BY p.frame, h.id",
            file,
        )
        return [
            FrameDetection(
                *(row[0], row[1], row[2] or 0.0, np.array(row[3:7], np.float32), row[7]),
                np.frombuffer(row[8], np.float16).astype(np.float32),
            )
            for row in rows
        ]

    # People.

    def count(self, filters: Filters = EVERYONE) -> int:
        """Number of matching people."""
        where, values = filters.sql()
        tables = JOINED if where else "people"
        return int(self._one(f"SELECT count(*) FROM {tables} {where}", *values)[0])

    def people(self, ids: Sequence[int]) -> list[StoredPerson]:
        """The people with these ids, in their order; `GoneError` if one is not there."""
        return in_order(self.folder, ids, self.find_people(ids))

    def find_people(self, ids: Sequence[int]) -> dict[int, StoredPerson]:
        """Those of these people who are there, by id."""
        query = f"{_PERSON} WHERE h.id {AMONG}"
        rows = self._all(query, json.dumps([int(one) for one in ids]))
        return {row[0]: _person(row) for row in rows}

    def people_of(self, file: int) -> list[int]:
        """Ids of the people in the pictures of a file, ascending."""
        return self._column(f"SELECT h.id FROM {JOINED} WHERE p.file = ? ORDER BY 1", file)

    def people_in(self, path: Path) -> list[int]:
        """Ids of the people in a photo or video file, under any source."""
        path = Path.cwd() / path
        found: list[int] = []
        for source in (path, *path.parents):
            name = "" if source == path else path.relative_to(source).as_posix()
            query = f"SELECT h.id FROM {JOINED} WHERE s.place = ? AND f.name = ?"
            found += self._column(query, str(source), name)
        return found

    def track_members(self, track: int) -> list[int]:
        """Ids of the views of a track, ascending."""
        return self._column("SELECT id FROM people WHERE track = ? ORDER BY id", int(track))

    def ids_after(self, after: int, limit: int) -> list[int]:
        """The next ids, ascending."""
        query = "SELECT id FROM people WHERE id > ? ORDER BY id LIMIT ?"
        return self._column(query, int(after), int(limit))

    def cameras(self) -> dict[str, int]:
        """Number of people by camera."""
        where = "WHERE f.camera NOT NULL GROUP BY f.camera ORDER BY 1"
        return dict(self._all(f"SELECT f.camera, count(*) FROM {JOINED} {where}"))

    def times(self) -> tuple[float | None, float | None]:
        """Seconds since 1970 of the first and the last picture whose time is known."""
        first, last = self._one("SELECT min(time), max(time) FROM pictures")
        return first, last

    # Embeddings and thumbnails.

    def embeddings(
        self, filters: Filters = EVERYONE
    ) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """Ids (N,), ascending, and embeddings (N, D) of the matching people."""
        where, values = filters.sql()
        rows = self._all(
            f"SELECT e.person, e.vector FROM {JOINED} JOIN embeddings e ON e.person = h.id {where} "
            "ORDER BY e.person",
            *values,
        )
        return np.array([row[0] for row in rows], np.int64), self.matrix([row[1] for row in rows])

    def rows(
        self, *, after: int = NO_ID, last: int = LAST_ID, limit: int | None = None
    ) -> EmbeddingRows:
        """The embeddings with `after` < id <= `last`, at most `limit`."""
        rows = self._all(_EMBEDDINGS, after, last, -1 if limit is None else limit)
        ids, vectors, *others = zip(*rows, strict=True) if rows else [()] * 6
        # NULL becomes NaN.
        scores, heights, times, files = np.array(others, np.float64).reshape(4, len(rows))
        return EmbeddingRows(
            np.array(ids, np.int64),
            self.matrix(vectors),
            *(scores, heights, times, files.astype(np.int64)),
        )

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float16]:
        """Embeddings (N, D) of these ids, in their order; `GoneError` if one is not there."""
        return self.matrix(in_order(self.folder, ids, self._blobs("embeddings", "vector", ids)))

    def thumbnails(self, ids: Sequence[int]) -> list[bytes]:
        """Thumbnails of these ids as JPEG, in their order; empty where there is none."""
        found = self._blobs("thumbnails", "jpeg", ids)
        return [found.get(int(one), b"") for one in ids]

    def thumbnail(self, person: int) -> bytes:
        """A person's thumbnail as JPEG; empty if there is none."""
        return self.thumbnails([person])[0]

    def _blobs(self, table: str, column: str, ids: Sequence[int]) -> dict[int, bytes]:
        query = f"SELECT person, {column} FROM {table} WHERE person {AMONG}"
        return dict(self._all(query, json.dumps([int(one) for one in ids])))

    def matrix(self, vectors: Sequence[bytes]) -> NDArray[np.float16]:
        """Embeddings (N, D) of the blobs of N rows."""
        flat = np.frombuffer(b"".join(vectors), np.float16)
        if flat.size != len(vectors) * self.model.dim:
            raise StoreError(f"{self.folder}: an embedding is not {self.model.dim} numbers long")
        return flat.reshape(-1, self.model.dim)

    # Condition of the store.

    def damage(self) -> str:
        """The problems that SQLite's own check finds; empty if none."""
        found = [text for text in self._column("PRAGMA integrity_check") if text != "ok"]
        # Only of strict tables does SQLite check the types; somebody else may have made others.
        loose = "schema = 'main' AND name NOT LIKE 'sqlite_%' AND (type != 'table' OR NOT strict)"
        names = self._column(f"SELECT name FROM pragma_table_list WHERE {loose}")
        found += [f"{name} is not a strict table" for name in names]
        for table, row, parent, _ in self._all("PRAGMA foreign_key_check"):
            found.append(f"row {row} of {table} names a row of {parent} that is not there")
        return "; ".join(line for text in found for line in text.splitlines())

    def retention(self) -> float | None:
        """Days that a picture is kept; None for ever."""
        days = self._one("SELECT days FROM keeping")[0]
        return None if days is None else float(days)

    def outdated(self, now: float | None = None) -> int:
        """Number of people older than the retention time; see `expire`."""
        query = f"SELECT count(*) FROM people h JOIN pictures p ON p.id = h.picture WHERE {OLDER}"
        return int(self._one(query, self._oldest(now))[0])

    def erasure(self) -> bytes:
        """Random token that every erasure renews."""
        return bytes(self._one("SELECT erasure FROM keeping")[0])

    def erased_contents(self) -> frozenset[bytes]:
        """SHA-256 of the files whose people were erased."""
        return frozenset(self._column("SELECT content FROM erased"))

    def is_erased(self, content: bytes) -> bool:
        """Whether people in files of this content, a SHA-256, were erased."""
        return self._one("SELECT 1 FROM erased WHERE content = ?", content) is not None

    def scrubbed(self) -> bool:
        """Whether no copy of an erased person is left; if not, `compact` overwrites them."""
        return not self._one("SELECT unscrubbed FROM keeping")[0]

    def _oldest(self, now: float | None) -> float | None:
        """The time before which pictures are outdated."""
        days = self.retention()
        return None if days is None else (time.time() if now is None else now) - days * DAY


def _known(
    file: int, size: int, changed: int, state: str, frames: int, content: bytes | None
) -> KnownFile:
    return KnownFile(file, FileStamp(size, changed), FileState(state), frames, content)


def _person(row: Any) -> StoredPerson:
    score, frame, position, seconds, camera, width, height, here = row[7:15]
    return StoredPerson(
        *(row[0], row[1], row[2], np.array(row[3:7], np.float32)),
        *(score, frame, position, seconds, camera),
        size=(width, height),
        track=None if row[15] is None else TrackSpan(*row[15:19]),
        here=bool(here),
    )
