"""Erasing people from a store for good, and retention.

SQLite overwrites a row that is deleted, but not the copies that it left in free pages when it moved
the row, nor those in its write-ahead log. Every erasure therefore ends with `compact`.
"""

import json
from collections.abc import Callable, Sequence

from personsearch.errors import StoreError
from personsearch.store.filters import Filters, selection
from personsearch.store.people import FileState
from personsearch.store.reading import JOINED, OLDER, Reading


class Erasing(Reading):
    """What can be erased from a store that is open for writing."""

    def erase(self, filters: Filters) -> int:
        """Erase the matching people with embeddings and thumbnails; return the number of views.

        Nothing of them stays in the store's folder. Selecting one view of a track by id erases the
        whole track. Their files count as indexed, so that they do not come back unless a file
        changes. Filters that restrict nothing raise `StoreError`.
        """
        if filters.everyone:
            raise StoreError(
                f"{self.folder}: no person, picture, source or time was named; to erase everyone, "
                "delete the folder"
            )
        where, values = filters.sql()

        def delete() -> None:
            ids = self._column(f"SELECT h.id FROM {JOINED} {where}", *values)
            named = "(SELECT value FROM json_each(?1))"
            tracks = f"SELECT track FROM people WHERE id IN {named}"
            whole = "" if filters.people is None else f" OR track IN ({tracks})"
            self.execute(f"DELETE FROM people WHERE id IN {named}{whole}", json.dumps(ids))

        return self._erase(delete)

    def erase_files(self, source: str, names: Sequence[str] | None = None) -> int:
        """Erase files of a source and the people in them; return the number of people.

        The files stay known by name as erased, so that indexing leaves them out from then on.
        `names` None stands for all files, an empty list for none; an unknown source or file raises
        `StoreError`.
        """
        known = self.known_files(source)
        if not known:
            raise StoreError(f"{self.folder}: has no source {source!r}")
        chosen = selection("names", known if names is None else names) or ()
        if unknown := [name for name in chosen if name not in known]:
            raise StoreError(f"{self.folder}: source {source!r} has no file {unknown[0]!r}")
        files = [(known[name].id,) for name in chosen]

        def delete() -> None:
            self._execute_many("DELETE FROM pictures WHERE file = ?", files)
            state = f"UPDATE files SET state = '{FileState.ERASED}', reason = '' WHERE id = ?"
            self._execute_many(state, files)

        return self._erase(delete)

    def forget_files(self, source: str, names: Sequence[str]) -> int:
        """Erase files as if they had never been indexed; return the number of people.

        Unlike after `erase_files`, indexing adds them again if they come back.
        """
        known = self.known_files(source)
        files = [(known[name].id,) for name in names if name in known]
        return self._erase(lambda: self._execute_many("DELETE FROM files WHERE id = ?", files))

    def set_retention(self, days: float | None) -> None:
        """Set the days, above zero, after which `expire` erases pictures; None to keep them."""
        if days is not None and not (0 < days < float("inf")):
            raise StoreError(
                f"{self.folder}: the retention is {days} days, expected a number above 0"
            )
        with self.writing():
            self.execute("UPDATE keeping SET days = ?", days)

    def expire(self, now: float | None = None) -> int:
        """Erase pictures older than the retention time; return the number of people in them.

        Age counts from when a picture was taken or, if that is unknown, added. Its file counts as
        indexed, so that it does not come back unless it changes. Copies that an interrupted erasure
        left behind are overwritten, too. While another process reads, copies stay in the log, which
        raises `StoreError`. `now` is in seconds since 1970; None for this moment.
        """
        oldest = self._oldest(now)
        if self._one(f"SELECT count(*) FROM pictures p WHERE {OLDER}", oldest)[0]:
            text = f"DELETE FROM pictures AS p WHERE {OLDER}"
            return self._erase(lambda: self.execute(text, oldest))
        if not self.scrubbed():
            self.compact()
        return 0

    def _erase(self, delete: Callable[[], object]) -> int:
        """Delete in one transaction, then overwrite all copies; return the number of people."""
        self.check_room()
        with self.writing(erasing=True):
            before = self.count()
            delete()
            self.execute(
                "DELETE FROM tracks WHERE id NOT IN (SELECT track FROM people WHERE track NOT NULL)"
            )
            erased = before - self.count()
            self.mark_erased()
        self.compact()
        return erased

    def mark_erased(self) -> None:
        """Note in this transaction that `compact` has to follow, if need be in another process."""
        self.execute("UPDATE keeping SET unscrubbed = 1")

    def compact(self) -> None:
        """Rewrite the database without copies of erased people, and give room back to the disk.

        No room on the disk for a copy, or another process that reads, raises `StoreError`.
        """
        self.vacuum()
        self.execute("UPDATE keeping SET unscrubbed = 0")
