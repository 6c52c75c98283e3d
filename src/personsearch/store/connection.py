"""The connection to a store's database: opening, transactions, and SQLite's errors in one line."""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from personsearch.errors import StoreError
from personsearch.store import index_files
from personsearch.store.people import ModelIdentity

DATABASE, LOCK = "people.sqlite", "writer.lock"


class Connection:
    """An open database of a store; not for several threads at once."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, model: ModelIdentity) -> None:
        self.folder, self.model = folder, model
        self._connection = connection

    def revision(self) -> int:
        """Number of the last committed transaction."""
        return int(self._one("SELECT changes FROM counter")[0])

    def token(self, revision: int) -> bytes | None:
        """Random token of a commit; None if this database never had it, or no longer notes it.

        A copy or a restored backup that was written to has the same revisions with other tokens.
        """
        found = self._one("SELECT token FROM commits WHERE changes = ?", revision)
        return None if found is None else bytes(found[0])

    def blocks_since(self, revision: int) -> NDArray[np.int64]:
        """Blocks of 1,024 ids (id // 1024) in which rows were deleted, replaced or inserted.

        Rows that were only appended to all others are not counted.
        """
        rows = self._all("SELECT block FROM blocks WHERE changes > ?", revision)
        return np.array([block for (block,) in rows], np.int64)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A read transaction: what others write meanwhile is not visible."""
        self.execute("BEGIN")
        try:
            yield
        finally:
            self.execute("ROLLBACK")

    @contextmanager
    def writing(self, erasing: bool = False) -> Iterator[None]:
        """A transaction, all or nothing; `erasing` deletes all that was derived from the rows."""
        with reported(self.folder):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                touched = self.blocks_since(self.revision())
                self._connection.execute("UPDATE counter SET changes = changes + 1")
                self._connection.execute(
                    "INSERT INTO commits SELECT changes, randomblob(16) FROM counter"
                )
                # Before the rows are gone from here, so that no copy can outlive them.
                with index_files.without_blocks(self.folder, touched, centroids_too=erasing):
                    self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        if len(touched) and not erasing:
            self._truncate_log()

    def query(self, text: str, *values: Any) -> Iterator[Any]:
        """Rows of a query, one after the other."""
        with reported(self.folder):
            yield from self._connection.execute(text, values)

    def execute(self, text: str, *values: Any) -> sqlite3.Cursor:
        """Run one statement, of a transaction if it writes."""
        with reported(self.folder):
            return self._connection.execute(text, values)

    def _execute_many(self, text: str, rows: Iterable[Any]) -> None:
        with reported(self.folder):
            self._connection.executemany(text, rows)

    def _all(self, text: str, *values: Any) -> list[Any]:
        return list(self.query(text, *values))

    def _one(self, text: str, *values: Any) -> Any:
        with reported(self.folder):
            return self._connection.execute(text, values).fetchone()

    def _column(self, text: str, *values: Any) -> list[Any]:
        return [value for (value,) in self._all(text, *values)]

    def _truncate_log(self) -> bool:
        """Empty the write-ahead log, which holds old pages; False while others read it."""
        return not self._one("PRAGMA wal_checkpoint(TRUNCATE)")[0]


def connect(folder: Path, write: bool) -> sqlite3.Connection:
    """Open the database in a folder."""
    with reported(folder):
        # A reader, too, opens for writing where it may: SQLite's log has an index in shared memory.
        # One thread at a time uses it, but another may close it.
        connection = sqlite3.connect(
            folder / DATABASE, timeout=10.0, isolation_level=None, check_same_thread=False
        )
        settings = ("foreign_keys = ON", "secure_delete = ON", "trusted_schema = OFF")
        for setting in (*settings, *([] if write else ["query_only = ON"])):
            connection.execute(f"PRAGMA {setting}")
    return connection


@contextmanager
def write_lock(folder: Path) -> Iterator[None]:
    """Hold the right to write, which one process at a time has."""
    path = folder / LOCK
    # Read first: some versions of filelock empty the file that they fail to lock.
    holder = path.read_text().strip() if path.is_file() else ""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError(
            f"{folder}: process {holder or 'unknown'} is writing to this store; wait until it has "
            "finished, or end it"
        ) from None
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be locked ({error.strerror}); check the folder's owner and rights"
        ) from None
    try:
        path.write_text(str(os.getpid()))
        yield
    finally:
        lock.release()


@contextmanager
def reported(folder: Path) -> Iterator[None]:
    """Raise SQLite's errors as a `StoreError` of one line."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{folder}: {_explained(error)}") from None
    except UnicodeDecodeError:  # SQLite's message quotes damaged text
        raise StoreError(f"{folder}: {_explained(sqlite3.DatabaseError(_NOT_TEXT))}") from None


_NOT_TEXT = "decode to UTF-8"


def _explained(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_FULL":
        return "the disk is full; make room and run the same command again, nothing is lost"
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or _NOT_TEXT in str(error):
        return f"the database is damaged ({error}); take a backup, or index again into a new one"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "another process is writing; wait until it has finished"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return f"cannot be written ({error}); check the folder's owner and rights"
    if name.startswith("SQLITE_IOERR"):
        return (
            f"the disk cannot be read or written ({error}); make room or repair it, and run the "
            "same command again"
        )
    if name.startswith("SQLITE_CONSTRAINT_UNIQUE"):
        return f"the row is there already ({error})"
    return f"SQLite reports: {error}"
