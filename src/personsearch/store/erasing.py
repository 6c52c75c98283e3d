"""Erasing people from a store for good, and retention.

Whatever removes people is one path, `Erasing._erase`: a line in the audit log, without which nobody
is erased; the transaction; overwriting of all copies; a line with the number of views.

SQLite overwrites a row that is deleted, but not the copies that it left in free pages when it moved
the row, nor those in its write-ahead log. Every erasure therefore ends with `compact`.

The SHA-256 of the files whose people were erased is kept, so that a copy under another name is left
out, too.
"""

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from personsearch.errors import PictureError, StoreError
from personsearch.media.contents import content_of
from personsearch.store.audit import DONE, AuditLog, user_of_this_machine
from personsearch.store.clock import DAY, Clock
from personsearch.store.filters import Filters, selection
from personsearch.store.people import FileState, ModelIdentity
from personsearch.store.reading import AMONG, FILES, JOINED, OLDER, Reading
from personsearch.types import FileStamp

_NOTED = 600.0  # seconds between two notes of the trusted clock

_log = logging.getLogger(__name__)


class Erasing(Reading):
    """What can be erased from a store that is open for writing; `caller` is for the audit log."""

    def __init__(
        self,
        folder: Path,
        connection: sqlite3.Connection,
        model: ModelIdentity,
        caller: str | None = None,
    ) -> None:
        super().__init__(folder, connection, model)
        self.audit, self.caller = AuditLog(folder), caller or user_of_this_machine()

    def log(self, action: str, details: Mapping[str, Any]) -> None:
        """Write a line to the audit log, or raise `StoreError`."""
        self.audit.append(action, self.caller, details)

    def erase(self, filters: Filters) -> int:
        """Erase the matching people with embeddings and thumbnails; return the number of views.

        Nothing of them stays in the store's folder. Selecting one view of a track by id erases the
        whole track. Their files count as indexed, so that they do not come back unless a file
        changes, and copies of the files are left out. Filters that restrict nothing raise
        `StoreError`.
        """
        if filters.everyone:
            raise StoreError(
                f"{self.folder}: no person, picture, source or time was named; to erase everyone, "
                "delete the folder"
            )
        where, values = filters.sql()
        self.learn_contents(self._column(f"SELECT DISTINCT p.file FROM {JOINED} {where}", *values))

        def delete() -> None:
            ids = json.dumps(self._column(f"SELECT h.id FROM {JOINED} {where}", *values))
            if filters.people is not None:
                tracks = f"(SELECT track FROM people WHERE id {AMONG})"
                query = f"SELECT id FROM people WHERE id {AMONG} OR track IN {tracks}"
                ids = json.dumps(self._column(query, ids, ids))
            query = f"SELECT DISTINCT p.file FROM {JOINED} WHERE h.id {AMONG}"
            self.note_contents(self._column(query, ids))
            self.execute(f"DELETE FROM people WHERE id {AMONG}", ids)

        return self._erase(delete, "erase", filters.described())

    def erase_files(self, source: str, names: Sequence[str] | None = None) -> int:
        """Erase files of a source and the people in them; return the number of people.

        The files stay known by name and content as erased, so that indexing leaves them out from
        then on, under any name; see `unerase`. `names` None stands for all files, an empty list for
        none; an unknown source or file raises `StoreError`.
        """
        details: dict[str, Any] = {"source": source}
        if names is not None:
            details["pictures"] = list(selection("names", names) or ())
        self.learn_contents(self._files(source, names))

        def delete() -> None:
            files = self._files(source, names)  # a changed file may have got another row
            self.note_contents(files)
            self._execute_many("DELETE FROM pictures WHERE file = ?", ((one,) for one in files))
            state = f"UPDATE files SET state = '{FileState.ERASED}', reason = '' WHERE id = ?"
            self._execute_many(state, ((one,) for one in files))

        return self._erase(delete, "erase", details)

    def _files(self, source: str, names: Sequence[str] | None) -> list[int]:
        """Ids of files of a source; `StoreError` if one is unknown."""
        known = self.known_files(source)
        if not known:
            raise StoreError(f"{self.folder}: has no source {source!r}")
        chosen = selection("names", known if names is None else names) or ()
        if unknown := [name for name in chosen if name not in known]:
            raise StoreError(f"{self.folder}: source {source!r} has no file {unknown[0]!r}")
        return [known[name].id for name in chosen]

    def unerase(self, source: str, names: Sequence[str] | None = None) -> int:
        """Let indexing add erased files again; return their number.

        These are files that were erased, copies of them, and files of which people were erased;
        for `names` and errors see `erase_files`. Nobody comes back before the files are indexed.
        """
        files = json.dumps(self._files(source, names))
        noted = "content IN (SELECT content FROM erased)"
        erased = self._column(
            f"SELECT id FROM files WHERE id {AMONG} AND (state = 'erased' OR {noted})", files
        )
        if not erased:
            raise StoreError(f"{self.folder}: nothing of source {source!r} was erased")
        details = {"source": source} | ({} if names is None else {"pictures": list(names)})
        self.log("unerase", details)
        contents = f"(SELECT content FROM files WHERE id {AMONG})"
        these = json.dumps(erased)
        with self.writing():
            every = f"(id {AMONG} OR content IN {contents})"
            self.execute(f"DELETE FROM erased WHERE content IN {contents}", these)
            # Without a stamp, a file that still shows others counts as changed.
            reset = "UPDATE files SET bytes = -1, changed = 0, content = NULL"
            self.execute(f"{reset} WHERE state != 'erased' AND {every}", these, these)
            self.execute(f"DELETE FROM files WHERE state = 'erased' AND {every}", these, these)
        return len(erased)

    def learn_contents(self, files: Sequence[int]) -> None:
        """Note the contents of files that version 0.1 indexed, as far as they are there as then."""
        rows = self._all(
            f"SELECT f.id, s.place, f.name, f.bytes, f.changed FROM {FILES} "
            f"WHERE f.content IS NULL AND s.here AND s.place LIKE '/%' AND f.id {AMONG}",
            json.dumps([int(one) for one in files]),
        )
        found = []
        for file, source, name, size, changed in rows:
            path = Path(source, name) if name else Path(source)
            try:
                status = path.stat()
                if FileStamp(status.st_size, status.st_mtime_ns) == FileStamp(size, changed):
                    found.append((content_of(path, source), file))
            except (OSError, PictureError):
                continue
        if found:
            with self.writing():
                self._execute_many("UPDATE files SET content = ? WHERE id = ?", found)

    def note_contents(self, files: Iterable[int]) -> None:
        """Note in this transaction that the contents of files were erased."""
        query = (
            "INSERT OR IGNORE INTO erased SELECT content, ? FROM files "
            "WHERE id = ? AND content NOT NULL"
        )
        now = time.time()
        self._execute_many(query, ((now, one) for one in files))

    def forget_files(self, source: str, names: Sequence[str], action: str = "prune") -> int:
        """Erase files as if they had never been indexed; return the number of people.

        Unlike after `erase_files`, indexing adds them again if they come back. `action` is that of
        the line in the audit log, of which there is none where the files show nobody.
        """
        known = self.known_files(source)
        there = [name for name in names if name in known]
        files = [(known[name].id, known[name].state) for name in there]

        def delete() -> None:
            # What was erased meanwhile is not forgotten.
            self._execute_many("DELETE FROM files WHERE id = ? AND state = ?", files)

        query = f"SELECT count(*) FROM {JOINED} WHERE f.id {AMONG}"
        if self._one(query, json.dumps([one for one, _ in files]))[0]:
            return self._erase(delete, action, {"source": source, "pictures": there})
        with self.writing():
            delete()
        return 0

    def set_retention(self, days: float | None) -> None:
        """Set the days, above zero, after which `expire` erases pictures; None to keep them."""
        if days is not None and not (0 < days < float("inf")):
            raise StoreError(
                f"{self.folder}: the retention is {days} days, expected a number above 0"
            )
        self.log("retention", {"days": days, "before": self.retention()})
        with self.writing():
            self.execute("UPDATE keeping SET days = ?", days)
            self._trust(time.time())

    def expire(self, now: float | None = None) -> int:
        """Erase pictures older than the retention time; return the number of people in them.

        Age counts from when a picture was taken or added, whichever was earlier. Its file counts as
        indexed, so that it does not come back unless it changes. Copies that an interrupted erasure
        left behind are overwritten, too. While another process reads, copies stay in the log, which
        raises `StoreError`. `now` is in seconds since 1970; None for this machine's clock, by which
        nobody is erased while it is doubted: see `clock`.
        """
        if now is None:
            now = self._clock_now()
            if now is None:
                if not self.scrubbed():
                    self.compact()
                return 0
        oldest = self._oldest(now)
        text = f"DELETE FROM pictures AS p WHERE {OLDER}"
        if self.outdated(now):
            details = {"days": self.retention(), "before": oldest}
            return self._erase(lambda: self.execute(text, oldest), "expire", details)
        if self._one(f"SELECT count(*) FROM pictures p WHERE {OLDER}", oldest)[0]:
            with self.writing():  # pictures that show nobody
                self.execute(text, oldest)
        if not self.scrubbed():
            self.compact()
        return 0

    def trust_clock(self) -> None:
        """Let retention go by this machine's clock, even if it was doubted."""
        now = time.time()
        self.log("retention", {"days": self.retention(), "trusted": now})
        with self.writing():
            self._trust(now)

    def _clock_now(self) -> float | None:
        """The time by which retention goes; None while the clock is doubted, with a warning."""
        now = time.time()
        if self.retention() is None:
            return now
        trusted, doubted = self._one(
            "SELECT coalesce(clock, (SELECT max(added) FROM pictures), made), doubted "
            "FROM keeping, model"
        )
        before = Clock(trusted, doubted)
        clock = before.at(now, self.created_at())
        if clock.doubt:
            _log.warning("%s: %s", self.folder, clock.doubt)
        if clock.doubted is not None and clock.doubted != doubted:
            with self.writing():
                self.execute("UPDATE keeping SET doubted = ?", clock.doubted)
        elif clock.doubted is None and (doubted is not None or abs(now - trusted) > _NOTED):
            with self.writing():
                self._trust(now)
        return None if clock.doubt else now

    def _trust(self, now: float) -> None:
        self.execute("UPDATE keeping SET clock = ?, doubted = NULL", now)
        self.execute("UPDATE model SET made = min(made, ?)", now)
        self.execute("UPDATE pictures SET added = ? WHERE added > ?", now, now + DAY)

    def _erase(
        self,
        delete: Callable[[], object],
        action: str,
        details: Mapping[str, Any],
        *,
        compact: bool = True,
    ) -> int:
        """Delete in one transaction between two lines of the audit log, then overwrite all copies.

        Returns the number of views of people. Without `compact` copies stay until the next erasure.
        """
        if compact:
            self.check_room()
        self.log(action, details)
        with self.writing(erasing=True):
            before = self.count()
            delete()
            self.execute(
                "DELETE FROM tracks WHERE id NOT IN (SELECT track FROM people WHERE track NOT NULL)"
            )
            erased = before - self.count()
            self.mark_erased()
        try:
            if compact:
                self.compact()
        finally:
            self.log(DONE[action], {**details, "views": erased})
        return erased

    def mark_erased(self) -> None:
        """Note in this transaction that people were erased, and that `compact` has to follow."""
        self.execute("UPDATE keeping SET unscrubbed = 1, erasure = randomblob(16)")
