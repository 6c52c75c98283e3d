"""Writing to a store: files, the people in their pictures, and tracks."""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import StoreError
from personsearch.store.clock import EARLIEST, LATEST, known_position, known_time
from personsearch.store.erasing import Erasing
from personsearch.store.people import (
    FileState,
    FoundPeople,
    KnownFile,
    PersonRow,
    PictureRow,
    StoredPerson,
    TrackRow,
)
from personsearch.store.tracks import VIEWS, Track
from personsearch.types import FileStamp

_INSERT_PERSON = (
    f"INSERT INTO people (id, {', '.join(PersonRow._fields)}) "
    f"VALUES (?{', ?' * len(PersonRow._fields)})"
)


class Writing(Erasing):
    """What can be written to a store that is open for writing."""

    def begin_file(
        self,
        source: str,
        name: str,
        stamp: FileStamp,
        camera: str | None = None,
        content: bytes | None = None,
    ) -> int:
        """Return the id of a file to be indexed; the people of another version of it are erased.

        Their copies are overwritten by the next `expire` or `compact`. A file that was erased stays
        erased, and so does a file whose `content`, a SHA-256, was: nothing that is added is
        written.
        """
        self._erase_version(source, name, lambda there: there.stamp == stamp)
        with self.writing():
            where, old = self.source_id(source), self.known_file(source, name)
            if old and old.state == FileState.ERASED:
                return old.id
            if old and old.stamp == stamp:
                self.execute(
                    "UPDATE files SET state = ?, content = coalesce(?, content) WHERE id = ?",
                    *(FileState.OPEN, content, old.id),
                )
                return old.id
            if old:
                self.execute("DELETE FROM files WHERE id = ?", old.id)
            erased = content is not None and self.is_erased(content)
            state = FileState.ERASED if erased else FileState.OPEN
            return self.insert_file(where, name, stamp, camera, state, content=content)

    def leave_out(
        self, source: str, name: str, stamp: FileStamp, camera: str | None, content: bytes
    ) -> None:
        """Note that a file has a content whose people were erased, and is not indexed.

        A file that is known with that content keeps the people who were not erased.
        """

        def same(there: KnownFile) -> bool:
            return there.content == content or (there.stamp == stamp and there.content is None)

        self._erase_version(source, name, same)
        with self.writing():
            where, old = self.source_id(source), self.known_file(source, name)
            if old and old.state == FileState.ERASED:
                return
            if old and same(old):
                self._keep(old.id, stamp, content)
                return
            if old:
                self.execute("DELETE FROM files WHERE id = ?", old.id)
            self.insert_file(where, name, stamp, camera, FileState.ERASED, content=content)

    def keep_file(self, source: str, name: str, stamp: FileStamp, content: bytes) -> None:
        """Note another stamp of a complete file whose content is the same."""
        with self.writing():
            old = self.known_file(source, name)
            if old and old.content == content and old.state == FileState.COMPLETE:
                self._keep(old.id, stamp, content)

    def _keep(self, file: int, stamp: FileStamp, content: bytes) -> None:
        self.execute(
            "UPDATE files SET state = ?, reason = '', bytes = ?, changed = ?, content = ? "
            "WHERE id = ?",
            *(FileState.COMPLETE, stamp.bytes, stamp.changed, content, file),
        )

    def _erase_version(self, source: str, name: str, same: Callable[[KnownFile], bool]) -> None:
        """Erase the people in another version of a file."""
        old = self.known_file(source, name)
        if old is None or same(old) or not self.people_of(old.id):
            return

        def delete() -> None:
            # The row stays, so that who erases the file meanwhile finds it.
            self.execute("DELETE FROM pictures WHERE file = ?", old.id)
            self.execute(
                "UPDATE files SET state = 'open' WHERE id = ? AND state != 'erased'", old.id
            )

        details = {"source": source, "pictures": [name]}
        # Not compacted: the database would be rewritten for each file.
        self._erase(delete, "replace", details, compact=False)

    def add(self, file: int, found: Sequence[FoundPeople], *, finished: bool = False) -> bool:
        """Write pictures of a file, `finished` with the last of them, and the people in them.

        All are written or none: False if the file was erased since it was begun. An embedding of
        another length, a picture that is there already, or no room on the disk raises `StoreError`.
        """
        with self.writing():
            if not self._takes(file):
                return False
            now = self._now()
            for one in found:
                self._add(file, one, now)
            if finished:
                self._set_state(file, FileState.COMPLETE)
        return True

    def _takes(self, file: int) -> bool:
        """Whether a file that was begun is still there and not erased."""
        row = self._one("SELECT state FROM files WHERE id = ?", file)
        return row is not None and row[0] != FileState.ERASED

    def _add(self, file: int, found: FoundPeople, now: float) -> None:
        expected = (len(found.boxes), self.model.dim)
        if np.shape(found.embeddings) != expected:
            raise StoreError(
                f"{self.folder}: received embeddings of shape {np.shape(found.embeddings)} for "
                f"{len(found.boxes)} people, expected {expected}"
            )
        picture = self.insert_picture(file, _picture(found, now))
        boxes, scores = (np.asarray(one, float).tolist() for one in (found.boxes, found.scores))
        rows = [
            PersonRow._make([picture, None, *box, score])
            for box, score in zip(boxes, scores, strict=True)
        ]
        self.insert_people(self.new_ids(len(rows)), rows, found.embeddings, found.thumbnails)

    def put(self, people: Sequence[tuple[StoredPerson, NDArray[np.float16], bytes]]) -> None:
        """Write people under their own ids, each with embedding and thumbnail.

        A person with the same id is replaced. Their files count as complete, but have no stamp, so
        that indexing does them again. A file that was erased, or people of it, and a track that is
        one of another file here raise `StoreError`, and nobody is written.
        """
        with self.writing():
            for person, vector, thumbnail in people:
                picture = self._picture_of(person)
                track = None if person.track is None else person.track.id
                self.execute("DELETE FROM people WHERE id = ?", person.id)
                box = np.asarray(person.box, float).tolist()
                row = PersonRow._make([picture, track, *box, float(person.score)])
                self.insert_people([person.id], [row], [vector], [thumbnail])
            last = max((person.id for person, _, _ in people), default=0)
            self.execute("UPDATE counter SET people = max(people, ?)", last)

    def _picture_of(self, person: StoredPerson) -> int:
        """The picture of a person; inserted, with file and track, if needed."""
        where = self.source_id(person.source, here=person.here)
        file, erased = self._one(
            "SELECT id, state = 'erased' OR content IN (SELECT content FROM erased) FROM files "
            "WHERE source = ? AND name = ?",
            *(where, person.name),
        ) or (None, False)
        if erased:
            raise StoreError(
                f"{self.folder}: file {person.uri!r}, or people of it, were erased here; to let it "
                "in again, use: personsearch store unerase. Nobody was written"
            )
        if file is None:
            unknown = FileStamp(-1, 0)
            file = self.insert_file(where, person.name, unknown, person.camera, FileState.COMPLETE)
        if (span := person.track) is not None:
            self.execute(
                "INSERT OR IGNORE INTO tracks (id, file, first, last, views) "
                "VALUES (?, ?, ?, ?, ?)",
                *(span.id, file, span.first, span.last, span.views),
            )
            (of,) = self._one("SELECT file FROM tracks WHERE id = ?", span.id)
            if of != file:  # whoever is erased there would be erased here, too
                raise StoreError(
                    f"{self.folder}: track {span.id} of {person.uri!r} is a track of another file "
                    "here; write to a store of its own, and merge both. Nobody was written"
                )
        frame = -1 if person.frame is None else person.frame
        query = "SELECT id FROM pictures WHERE file = ? AND coalesce(frame, -1) = ?"
        if (row := self._one(query, file, frame)) is not None:
            return int(row[0])
        return self.insert_picture(file, _picture(person, self._now()))

    def finish_file(self, file: int, reason: str = "") -> bool:
        """Mark a file as complete, or as unreadable for a reason; False if it was erased."""
        with self.writing():
            if not self._takes(file):
                return False
            state = FileState.UNREADABLE if reason else FileState.COMPLETE
            self._set_state(file, state, reason)
        return True

    def finish_video(self, file: int, tracks: Sequence[Track], views: int = VIEWS) -> bool:
        """Mark a video as complete, write its tracks, and keep the best views of each.

        False if the video was erased. Detections that were erased since they were read are not
        counted.
        """
        with self.writing():
            if not self._takes(file):
                return False
            self.execute("DELETE FROM tracks WHERE file = ?", file)
            there = set(self.people_of(file))
            for track in tracks:
                left = [one for one in track.detections if one.id in there]
                if not left:
                    continue
                span = TrackRow(left[0].position, left[-1].position, len(left))
                row = self.insert_track(file, span)
                kept = {one.id for one in Track(left).best_views(views)}
                others = [(one.id,) for one in left if one.id not in kept]
                self._execute_many("DELETE FROM people WHERE id = ?", others)
                members = ((row, person) for person in kept)
                self._execute_many("UPDATE people SET track = ? WHERE id = ?", members)
            self._set_state(file, FileState.COMPLETE)
        return True

    def _set_state(self, file: int, state: FileState, reason: str = "") -> None:
        self.execute("UPDATE files SET state = ?, reason = ? WHERE id = ?", state, reason, file)

    # Rows of a transaction.

    def source_id(self, source: str, *, here: bool = True) -> int:
        """The row of a source, inserted if needed; `here`: indexed on this machine, not imported.

        A source that was imported becomes one of this machine when it is indexed here. Its files
        lose their stamps, so that they are indexed again: what others said about them, true or not,
        is replaced. Only erased files stay as they are.
        """
        self.execute("INSERT OR IGNORE INTO sources (place, here) VALUES (?, ?)", source, int(here))
        row, known = self._one("SELECT id, here FROM sources WHERE place = ?", source)
        if here and not known:
            self.execute("UPDATE sources SET here = 1 WHERE id = ?", row)
            unknown = "UPDATE files SET bytes = -1 WHERE source = ? AND state != ?"
            self.execute(unknown, row, FileState.ERASED)
        return int(row)

    def insert_file(
        self,
        source: int,
        name: str,
        stamp: FileStamp,
        camera: str | None,
        state: FileState,
        reason: str = "",
        content: bytes | None = None,
    ) -> int:
        """Insert a file and return its id, which no other file ever had."""
        self.execute("UPDATE counter SET files = files + 1")
        (id,) = self._one("SELECT files FROM counter")
        stamped = {"bytes": stamp.bytes, "changed": stamp.changed, "content": content}
        return self._insert(
            "files",
            id=id,
            source=source,
            name=name,
            camera=camera,
            state=state,
            reason=reason,
            **stamped,
        )

    def insert_picture(self, file: int, row: PictureRow) -> int:
        """Insert a picture and return its id; of times that no calendar has, none is kept."""
        row = row._replace(
            time=known_time(row.time),
            position=known_position(row.position),
            added=min(max(row.added, EARLIEST), LATEST),
        )
        return self._insert("pictures", file=file, **row._asdict())

    def insert_track(self, file: int, row: TrackRow) -> int:
        """Insert a track and return its id."""
        first, last = (known_position(one) or 0.0 for one in (row.first, row.last))
        row = row._replace(first=first, last=last)
        return self._insert("tracks", file=file, **row._asdict())

    def insert_people(
        self,
        ids: Sequence[int],
        rows: Sequence[PersonRow],
        vectors: Sequence[NDArray[np.floating]] | NDArray[np.floating],
        thumbnails: Sequence[bytes],
    ) -> None:
        """Insert people with their embeddings and, unless they are empty, thumbnails."""
        halves = np.asarray(vectors, np.float16)
        people = ((id, *row) for id, row in zip(ids, rows, strict=True))
        embeddings = ((id, half.tobytes()) for id, half in zip(ids, halves, strict=True))
        jpegs = ((id, jpeg) for id, jpeg in zip(ids, thumbnails, strict=True) if jpeg)
        self._execute_many(_INSERT_PERSON, people)
        self._execute_many("INSERT INTO embeddings VALUES (?, ?)", embeddings)
        self._execute_many("INSERT INTO thumbnails VALUES (?, ?)", jpegs)

    def new_ids(self, count: int) -> range:
        """Reserve ids for people who are written in this transaction; no id is given twice."""
        (last,) = self._one("SELECT people FROM counter")
        self.execute("UPDATE counter SET people = ?", last + count)
        return range(last + 1, last + 1 + count)

    def _insert(self, table: str, **values: object) -> int:
        text = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"
        return int(self.execute(text, *values.values()).lastrowid or 0)

    def _now(self) -> float:
        """When a picture is added now: not before retention last trusted the clock."""
        return max(time.time(), float(self._one("SELECT coalesce(clock, 0) FROM keeping")[0]))


def _picture(found: FoundPeople | StoredPerson, added: float) -> PictureRow:
    width, height = map(int, found.size)
    return PictureRow(found.frame, found.position, found.time, added, width, height)
