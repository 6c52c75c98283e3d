"""The connection to a store's database: opening, transactions, and SQLite's errors in one line."""

import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import StoreError
from personsearch.store import index_files
from personsearch.store.locks import BUSY, PATIENCE, Turn, impatient, poll
from personsearch.store.people import ModelIdentity
from personsearch.store.rights import read_only

DATABASE = "people.sqlite"

_READERS = 10.0  # seconds in which those who read the old pages of the log have to finish
_TOKENS = 65_536  # of so many commits at least
_MARGIN = 1 << 20  # bytes beyond what is computed
_TEMPORARY_FOLDER = threading.Lock()  # SQLite has one for the whole process


class Connection:
    """An open database of a store; not for several threads at once.

    Nothing is held between transactions: whatever was read may have changed when the next one
    begins, so a transaction reads again what it relies on.
    """

    patience = PATIENCE  # seconds that a transaction waits for those of others

    def __init__(self, folder: Path, connection: sqlite3.Connection, model: ModelIdentity) -> None:
        self.folder, self.model = folder, model
        self._connection, self._inode = connection, _file_at(folder)

    def replaced(self) -> bool:
        """Whether another file has taken the place of the database, as when a backup is restored.

        What is read from here, or written, is of a file that nobody else sees.
        """
        return self._inode != _file_at(self.folder)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction or a snapshot has begun."""
        return self._connection.in_transaction

    def revision(self) -> int:
        """Number of the last committed transaction."""
        return int(self._one("SELECT changes FROM counter")[0])

    def head(self) -> tuple[int, bytes]:
        """Revision and token of the last committed transaction."""
        revision, token = self._one(
            "SELECT c.changes, coalesce(t.token, x'') FROM counter c "
            "LEFT JOIN commits t ON t.changes = c.changes"
        )
        return int(revision), bytes(token)

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
        """A transaction, all or nothing; `erasing` deletes all that was derived from the rows.

        It waits for its turn among all who write, threads and processes; after `patience` seconds
        it raises a `StoreError` that names the process that writes.
        """
        with reported(self.folder):
            with Turn(self.folder, self.patience) as turn:
                turn.begin(self._connection)
            try:
                if self.replaced():
                    raise StoreError(
                        f"{self.folder}: the database was replaced or removed while it was open; "
                        "run the same command again"
                    )
                yield
                touched = self.blocks_since(self.revision())
                self._connection.execute("UPDATE counter SET changes = changes + 1")
                self._connection.execute(
                    "INSERT INTO commits SELECT changes, randomblob(16) FROM counter"
                )
                self._thin_tokens()
                # Before the rows are gone from here, so that no copy can outlive them.
                with index_files.without_blocks(self.folder, touched, centroids_too=erasing):
                    self._connection.execute("COMMIT")
            except BaseException:
                if self.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        if len(touched):
            self._truncate_log(0.0)

    def _thin_tokens(self) -> None:
        """Delete tokens of old commits that no index file notes."""
        revision = self.revision()
        if revision % _TOKENS == 0:
            noted = json.dumps(index_files.noted_revisions(self.folder))
            self._connection.execute(
                "DELETE FROM commits WHERE changes <= ? "
                "AND changes NOT IN (SELECT value FROM json_each(?))",
                (revision - _TOKENS, noted),
            )

    def query(self, text: str, *values: Any) -> Iterator[Any]:
        """Rows of a query, one after the other."""
        with reported(self.folder):
            # Not `yield from`, which closes the cursor, perhaps when the connection is closed.
            for row in self._connection.execute(text, values):  # noqa: UP028
                yield row

    def execute(self, text: str, *values: Any) -> sqlite3.Cursor:
        """Run one statement, of a transaction if it writes."""
        with reported(self.folder):
            return self._connection.execute(text, values)

    def _execute_many(self, text: str, rows: Iterable[Any]) -> None:
        with reported(self.folder):
            self._connection.executemany(text, rows)

    def _all(self, text: str, *values: Any) -> list[Any]:
        with reported(self.folder):
            return self._connection.execute(text, values).fetchall()

    def _one(self, text: str, *values: Any) -> Any:
        with reported(self.folder):
            return self._connection.execute(text, values).fetchone()

    def _column(self, text: str, *values: Any) -> list[Any]:
        return [value for (value,) in self._all(text, *values)]

    def _truncate_log(self, patience: float) -> bool:
        """Empty the write-ahead log, which holds old pages; False while others read them."""

        def attempt() -> bool:
            return not self._one("PRAGMA wal_checkpoint(TRUNCATE)")[0]

        with impatient(self._connection):
            return poll(attempt, time.monotonic() + patience)

    def compact(self) -> None:
        """Rewrite the database without copies of erased people, empty its log, and note that.

        The temporary copy lies in the store's folder. Too little room there for it raises
        `StoreError` before anything is changed; so does a reader that does not finish in 10 s,
        after which the log still holds old pages.
        """
        self.check_room()
        with reported(self.folder), Turn(self.folder, self.patience) as turn:
            turn.begin(self._connection)  # others see who writes
            self._connection.execute("ROLLBACK")
            with self._temporary_files_here():
                turn.run(self._connection, "VACUUM")
            emptied = self._truncate_log(_READERS)
            if emptied:  # in the same turn: nobody erased anyone meanwhile
                turn.run(self._connection, "UPDATE keeping SET unscrubbed = 0")
        if not emptied:
            raise StoreError(
                f"{self.folder}: another process is reading the store, so its log still holds "
                "copies of erased people; end that process and run the same command again"
            )

    def check_room(self) -> None:
        """Raise `StoreError` if the disk has no room for the two copies that `compact` makes."""
        pages = self._one("PRAGMA page_count")[0] - self._one("PRAGMA freelist_count")[0]
        needed = 2 * pages * self._one("PRAGMA page_size")[0] + _MARGIN
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise StoreError(
                f"{self.folder}: the disk has {free >> 20} MB left, overwriting erased people "
                f"needs {-(-needed >> 20)} MB; make room and run the same command again. Nothing "
                "was changed"
            )

    @contextmanager
    def _temporary_files_here(self) -> Iterator[None]:
        # The environment's SQLITE_TMPDIR is read once, when SQLite is loaded.
        where = str(self.folder.resolve()).replace("'", "''")
        with _TEMPORARY_FOLDER:
            self._connection.execute(f"PRAGMA temp_store_directory = '{where}'")
            try:
                yield
            finally:
                self._connection.execute("PRAGMA temp_store_directory = ''")


def connect(folder: Path, write: bool) -> sqlite3.Connection:
    """Open the database in a folder; on read-only media without its log and locks."""
    path = Path.cwd() / folder / DATABASE  # SQLite would take a relative "file:x" for a URI
    frozen = not write and read_only(folder)
    log = path.with_name(f"{DATABASE}-wal")
    if frozen and log.exists() and log.stat().st_size:
        raise StoreError(
            f"{folder}: its last changes are still in SQLite's log, which cannot be read on "
            "read-only media; copy the folder to a disk that can be written to"
        )
    with reported(folder):
        if write:
            _create(path)
        # A reader, too, opens for writing where it may: SQLite's log has an index in shared memory.
        # One thread at a time uses it, but another may close it.
        connection = sqlite3.connect(
            f"file:{quote(os.fsencode(path))}?mode=ro&immutable=1" if frozen else path,
            uri=frozen,
            timeout=BUSY,
            isolation_level=None,
            check_same_thread=False,
        )
        settings = ("foreign_keys = ON", "secure_delete = ON", "trusted_schema = OFF")
        for setting in (*settings, *([] if write else ["query_only = ON"])):
            connection.execute(f"PRAGMA {setting}")
    return connection


def _create(path: Path) -> None:
    """Create a database that only its owner may read; SQLite gives its log the same rights."""
    # Only if there is none: closing a file that SQLite has open would lose this process's locks.
    with suppress(OSError):  # SQLite reports the others
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _file_at(folder: Path) -> tuple[int, int] | None:
    """Device and number of a database's file; None if there is none."""
    try:
        status = (folder / DATABASE).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


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
