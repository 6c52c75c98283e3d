"""Locks of a store: one run indexes it at a time, and all who write take turns.

    STORE/writer.lock    held by a run that indexes: files, watched folders or cameras
    STORE/turn.lock      held while a process waits for SQLite's write lock

A process takes the turn before it waits for SQLite's write lock, and gives it back when its
transaction has begun. A process that writes one transaction after the other therefore waits behind
everyone who came meanwhile, and an erasure begins after the present transaction.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from personsearch.errors import StoreError

INDEXING, TURN = "writer.lock", "turn.lock"
PATIENCE = 30.0  # seconds that a transaction waits
BUSY = 10.0  # seconds that SQLite waits by itself, where no turn is taken

_POLL = 0.003  # seconds between two attempts
_DIGITS = 20  # of a process id


class Turn:
    """The next place among all who write to a store; for one `with` block.

    Raises:
        StoreError: other processes wrote for `patience` seconds; the message names the last one.
    """

    def __init__(self, folder: Path, patience: float = PATIENCE) -> None:
        self.folder = folder
        self._until = time.monotonic() + patience

    def __enter__(self) -> Self:
        path = self.folder / TURN
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unlockable(path, error) from None
        try:
            self._poll(self._lock)
        except BaseException:
            os.close(self._file)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)  # a forked process may hold the file open
        os.close(self._file)

    def begin(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction that writes, as soon as the present one has ended."""
        self.run(connection, "BEGIN IMMEDIATE")
        os.pwrite(self._file, b"%-*d" % (_DIGITS, os.getpid()), 0)

    def run(self, connection: sqlite3.Connection, statement: str) -> None:
        """Run a statement that needs SQLite's write lock, as soon as it is free."""

        def attempt() -> bool:
            try:
                connection.execute(statement)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname.startswith("SQLITE_BUSY"):
                    return False
                raise
            return True

        # Here and not inside of SQLite, where Ctrl-C would wait for the end.
        with impatient(connection):
            self._poll(attempt)

    def _lock(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _poll(self, attempt: Callable[[], bool]) -> None:
        if not poll(attempt, self._until):
            writer = os.pread(self._file, _DIGITS, 0).decode(errors="replace").strip()
            raise _writing(self.folder, writer)


def poll(attempt: Callable[[], bool], until: float) -> bool:
    """Try until it succeeds, or until that time of `time.monotonic`; return whether it did."""
    while not attempt():
        if time.monotonic() > until:
            return False
        time.sleep(_POLL)
    return True


@contextmanager
def impatient(connection: sqlite3.Connection) -> Iterator[None]:
    """Let SQLite fail at once, instead of waiting by itself."""
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY * 1000)}")


@contextmanager
def indexing_lock(folder: Path) -> Iterator[None]:
    """Hold the right to index into a store, which one run at a time has; others still write."""
    path = folder / INDEXING
    # Read first: some versions of filelock empty the file that they fail to lock.
    holder = path.read_text().strip() if path.is_file() else ""
    lock = FileLock(path, mode=0o600)
    try:
        lock.acquire(timeout=0)
        path.write_text(str(os.getpid()))
    except Timeout:
        raise _writing(folder, holder) from None
    except OSError as error:
        raise _unlockable(path, error) from None
    try:
        yield
    finally:
        lock.release()


def _writing(folder: Path, process: str) -> StoreError:
    return StoreError(
        f"{folder}: process {process or 'unknown'} is writing to this store; wait until it has "
        "finished, or end it"
    )


def _unlockable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{path}: cannot be locked ({error.strerror}); check the folder's owner and rights"
    )
