"""The audit log of a store: a chain of lines that say who searched and erased what.

    STORE/audit.jsonl       one JSON object a line, appended only
    STORE/audit.head.json   number and length of the lines, and the hash of the last one
    STORE/audit.lock        held while a line is appended
    STORE/people.sqlite     number of the lines and hash of the last one, once more

A line that is changed, removed, inserted or moved breaks the chain of hashes. Lines cut off the
end, lines written behind it, another log and a deleted log differ from the second file or from the
database. Somebody who can write all three can write another log; an anchor, which is the head as it
was noted elsewhere, detects that, too.

A line counts once the second file notes it. The database follows when it can be written: while an
erasure rewrites it, it notes fewer lines than there are, never more.
"""

import getpass
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from filelock import FileLock

from personsearch.durable import sync
from personsearch.errors import StoreError
from personsearch.parsing import parse_json
from personsearch.store.connection import DATABASE, connect, reported

LOG, HEAD, LOCK = "audit.jsonl", "audit.head.json", "audit.lock"
BEGINNING = "0" * 64  # the hash of the line before the first one
RESTARTED = "log restarted"  # action of the first line of a log that replaces a damaged one
DONE = {
    "erase": "erased",
    "expire": "expired",
    "prune": "pruned",
    "replace": "replaced",
    "merge": "merged",
    "import": "imported",
}
"""By action of the line before a change, that of the line after it."""

_POLL = 0.002  # seconds between two attempts to lock; every search waits for its line
_PATIENCE = 100  # milliseconds that a line waits for the database, which may be rewritten meanwhile
_QUOTED = 2000  # characters of removed lines that are kept in the log
_BLOCK = 1 << 16
_HEAD_BYTES = 256
_TEXTS = ("who", "action", "previous")
_FIELDS: dict[str, Any] = {"time": (int, float), "details": dict} | dict.fromkeys(_TEXTS, str)


@dataclass(frozen=True)
class AuditEntry:
    """A line of the log."""

    time: float  # seconds since 1970
    who: str  # name of a key, ``local``, or the user of this machine who ran a command
    action: str  # such as ``search``
    details: Mapping[str, Any]  # ids, counts and filters; never an embedding or a picture
    previous: str  # SHA-256 of the line before
    hash: str  # SHA-256 of this line


class Noted(NamedTuple):
    """Number of lines, and the hash of the last one."""

    lines: int
    head: str


@dataclass(frozen=True)
class Anchor:
    """The head of a log at some time, as it is noted elsewhere."""

    time: float  # seconds since 1970
    lines: int
    head: str  # hash of the last line
    store: str = ""  # folder of the log, for the reader


@dataclass(frozen=True)
class _Head:
    count: int
    bytes: int
    hash: str
    last: int  # offset of the last line

    def after(self, entry: AuditEntry, size: int) -> "_Head":
        return _Head(self.count + 1, self.bytes + size, entry.hash, self.bytes)


class AuditLog:
    """The audit log in a folder, for several threads and processes at once."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._log, self._head = self.folder / LOG, self.folder / HEAD

    def append(self, action: str, who: str | None, details: Mapping[str, Any]) -> AuditEntry:
        """Append a line, which is on the disk when this returns; `who` None: this machine's user.

        What stands behind the last line that was noted comes from a call that did not return: it is
        removed first, and quoted in a line. An end that was changed, or a log that cannot be
        written, raises `StoreError`.
        """
        who = who or user_of_this_machine()
        with self._locked(), self._opened() as log, self._database() as database:
            head = self._repair(log, _noted_in(database))
            entry, head = self._add(log, head, action, who, details)
            _note(database, Noted(head.count, head.hash))
            return entry

    def logged(
        self, action: str, who: str | None, details: Mapping[str, Any], change: Callable[[], int]
    ) -> int:
        """Make a change between two lines, the first of which has to be written; return its result.

        `change` returns the number of views of people erased. `action` is a key of `DONE`.
        """
        self.append(action, who, details)
        views = change()
        self.append(DONE[action], who, {**details, "views": views})
        return views

    def restart(self, who: str | None = None) -> list[str]:
        """Begin a new log instead of a damaged one; return the names of the files that are kept.

        The first line of the new log says what was wrong, and what the database noted. A log that
        is complete raises `StoreError`.
        """
        problem = self.verify()
        if not problem:
            raise StoreError(f"{self._log}: is complete; there is no reason to begin a new one")
        with self._locked(), self._database() as database:
            noted = _noted_in(database) or Noted(0, BEGINNING)
            kept = []
            for path in (self._log, self._head):
                if path.exists():
                    name = f"{path.name}.{time.time_ns()}.damaged"
                    path.rename(path.with_name(name))
                    kept.append(name)
            details = {"problem": problem, **noted._asdict(), "kept": kept}
            # The database follows last: until then, the log counts as damaged.
            with self._opened() as log:
                first = _Head(0, 0, BEGINNING, 0)
                _, head = self._add(log, first, RESTARTED, who or user_of_this_machine(), details)
            _note(database, Noted(head.count, head.hash))
        return kept

    def entries(self) -> Iterator[AuditEntry]:
        """The lines, oldest first; `StoreError` at one that is damaged."""
        for number, line in enumerate(self._lines(), start=1):
            entry = _parsed(line)
            if entry is None:
                raise StoreError(f"{self._log}: line {number} is damaged; run the audit check")
            yield entry

    def has(self, action: str) -> bool:
        """Whether there is a line of an action; `StoreError` if lines are missing or damaged."""
        if not self._log.exists():
            with self._database() as database:
                noted = _noted_in(database)
            if self._head.exists() or (noted and noted.lines):
                raise self._changed()
            return False
        with self._locked(), self._log.open("rb", buffering=0) as log, self._database() as database:
            self._intact(log, _noted_in(database))
        quoted = json.dumps(action).encode()
        for number, line in enumerate(self._lines(), start=1):
            if quoted not in line:  # quicker than to parse each line
                continue
            entry = _parsed(line)
            if entry is None:
                raise StoreError(f"{self._log}: line {number} is damaged; run the audit check")
            if entry.action == action:
                return True
        return False

    def head(self) -> str:
        """Hash of the last line, to note elsewhere."""
        found = BEGINNING
        for line in self._lines():
            found = _hash(line)
        return found

    def anchor(self) -> Anchor:
        """The head, to note elsewhere; `StoreError` unless the log is complete."""
        if problem := self.verify():
            raise StoreError(f"{self._log}: the audit log was changed: {problem}")
        with self._locked():
            head = self._read_head() or _Head(0, 0, BEGINNING, 0)
        folder = str(self.folder.absolute())
        return Anchor(round(time.time(), 3), head.count, head.hash, folder)

    def verify(self, head: str | None = None, anchors: Sequence[Anchor] = ()) -> str:
        """Return what is wrong with the log; empty if it is complete.

        It has to have a line with the hash `head`, and the last lines of all anchors.
        """
        try:
            known, noted, end = self._ends()
        except StoreError as error:
            return str(error)
        # By number of a line, the hashes that it has to have, and where they are noted.
        wanted = [(one.lines, one.head, "that was anchored") for one in anchors]
        wanted += [(noted.lines, noted.head, "that the database notes")] if noted else []
        wanted += [(known.count, known.hash, "that was written there")] if known else []
        previous, count, size, seen = BEGINNING, 0, 0, head in (None, BEGINNING)
        for line in self._lines():
            if size >= end:
                break  # written meanwhile
            count += 1
            entry = _parsed(line)
            if entry is None:
                return f"line {count} is damaged or torn"
            if entry.previous != previous:
                return f"line {count} does not follow the line before it"
            previous = entry.hash
            size += len(line)
            seen = seen or previous == head
            for number, expected, what in wanted:
                if count == number and previous != expected:
                    return f"line {count} is not the line {what}"
        if known is None and not count and noted is not None and noted.lines:
            return f"{LOG} and {HEAD} are missing; the database notes {noted.lines} lines"
        if known is None and count:
            return f"{HEAD} is missing"
        for number, _, what in sorted(wanted, reverse=True):
            if count < number:
                missing = number - count
                return f"{missing} lines are missing at the end, up to line {number} {what}"
        if known is not None and count > known.count:
            more = count - known.count
            return f"{more} lines are behind the noted end: of a crash, or of somebody else"
        return "" if seen else f"no line has the hash {head}: it was noted from another log"

    def _ends(self) -> tuple[_Head | None, Noted | None, int]:
        """What the second file and the database note, and the length of the log."""
        with self._locked(), self._database() as database:
            size = self._log.stat().st_size if self._log.exists() else 0
            return self._read_head(), _noted_in(database), size

    def _lines(self) -> Iterator[bytes]:
        try:
            with self._log.open("rb") as log:
                yield from log
        except FileNotFoundError:
            return

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Not a lock of the log itself: some versions of filelock empty the file that they lock.
        lock = FileLock(self.folder / LOCK, mode=0o600)
        # A folder that is missing, or on read-only media, has nobody who appends.
        held = os.access(self.folder, os.W_OK)
        try:
            with lock.acquire(poll_interval=_POLL) if held else nullcontext():
                yield
        except OSError as error:
            raise StoreError(
                f"{self._log}: cannot be written ({error.strerror}); nothing is searched or erased "
                "without a line in it"
            ) from None

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        descriptor = os.open(self._log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as log:
            yield log

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection | None]:
        """The database of the store in the folder; None where people are kept elsewhere."""
        if not (self.folder / DATABASE).is_file():
            yield None
            return
        writable = os.access(self.folder, os.W_OK)
        with reported(self.folder), closing(connect(self.folder, writable)) as database:
            yield database

    def _read_head(self) -> _Head | None:
        try:
            head = _Head(**parse_json(self._head.read_bytes()))
            numbers = (head.count, head.bytes, head.last)
            if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
                raise ValueError
            return _Head(*numbers[:2], str(head.hash), head.last)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            raise StoreError(f"{self._head}: is damaged") from None

    def _intact(self, log: BinaryIO, noted: Noted | None) -> _Head:
        """Return the head; `StoreError` if lines that were noted are missing or changed."""
        head, size = self._read_head(), log.seek(0, os.SEEK_END)
        if head is None or size < head.bytes or not _fits(log, head, noted):
            raise self._changed()
        return head

    def _changed(self) -> StoreError:
        return StoreError(
            f"{self._log}: its end was changed since the last line was written; see: personsearch "
            "audit check. Begin a new log, which says so, with: personsearch audit restart"
        )

    def _repair(self, log: BinaryIO, noted: Noted | None) -> _Head:
        """Return the head, after the remains of a crash were removed."""
        size = log.seek(0, os.SEEK_END)
        if not size and not (noted and noted.lines) and not self._head.exists():
            # Written before the first line, so that a missing head shows tampering.
            self._write_head(_Head(0, 0, BEGINNING, 0))
        head = self._intact(log, noted)
        if size == head.bytes:
            return head
        # The calls that wrote it did not return: nobody got an answer, and nobody was erased.
        log.seek(head.bytes)
        rest = log.read()
        os.ftruncate(log.fileno(), head.bytes)
        action = "unnoted lines removed" if rest.endswith(b"\n") else "torn line removed"
        quoted = rest[:_QUOTED].decode("utf-8", "replace")
        return self._add(log, head, action, "personsearch", {"bytes": len(rest), "text": quoted})[1]

    def _add(
        self, log: BinaryIO, head: _Head, action: str, who: str, details: Mapping[str, Any]
    ) -> tuple[AuditEntry, _Head]:
        plain = {
            "time": round(time.time(), 3),
            "who": who,
            "action": action,
            "details": dict(details),
            "previous": head.hash,
        }
        line = json.dumps(plain, allow_nan=False).encode() + b"\n"
        entry = _parsed(line)
        assert entry is not None
        now = head.after(entry, len(line))
        try:
            left = memoryview(line)
            while left:  # a full disk takes a part first
                left = left[log.write(left) :]
            os.fsync(log.fileno())
            self._write_head(now)
        except OSError:
            with suppress(OSError):
                os.ftruncate(log.fileno(), head.bytes)
                self._write_head(head)
            raise
        return entry, now

    def _write_head(self, head: _Head) -> None:
        # In place and within one sector of a disk, which is written whole or not: renaming another
        # file would need two more flushes, and every search waits for them.
        text = json.dumps(asdict(head)).ljust(_HEAD_BYTES - 1) + "\n"
        new = not self._head.exists()
        descriptor = os.open(self._head, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(descriptor, text.encode(), 0)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            sync(self.folder)


def _fits(log: BinaryIO, head: _Head, noted: Noted | None) -> bool:
    """Whether the log has the last line of its head, and the one that the database notes."""
    if head.count and _hash_at(log, head, head.count) != head.hash:
        return False
    if noted is None or not noted.lines:
        return True
    return noted.lines <= head.count and _hash_at(log, head, noted.lines) == noted.head


def _hash_at(log: BinaryIO, head: _Head, number: int) -> str:
    """Hash of a line, searched from the end, near which it is."""
    behind, window = head.count - number, _BLOCK
    while True:
        begin = max(0, head.bytes - window)
        log.seek(begin)
        lines = log.read(head.bytes - begin).split(b"\n")[:-1]
        if len(lines) > behind + 1 or (begin == 0 and len(lines) > behind):
            return _hash(lines[-1 - behind] + b"\n")
        if begin == 0:
            return ""
        window *= 4


def _noted_in(database: sqlite3.Connection | None) -> Noted | None:
    """What the database notes; None if nothing, as before the first line."""
    if database is None:
        return None
    try:
        row = database.execute("SELECT audit_lines, audit_head FROM keeping").fetchone()
    except sqlite3.OperationalError as error:
        if "no such" in str(error):  # an older schema
            return None
        raise
    return None if row is None or row[0] is None else Noted(*row)


def _note(database: sqlite3.Connection | None, noted: Noted) -> None:
    """Note the end in the database, unless another process is writing to it for long."""
    if database is None:
        return
    database.execute(f"PRAGMA busy_timeout = {_PATIENCE}")
    database.execute("PRAGMA synchronous = NORMAL")  # it may lag behind, so no sync of its own
    with suppress(sqlite3.OperationalError):
        database.execute("UPDATE keeping SET audit_lines = ?, audit_head = ?", noted)


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _parsed(line: bytes) -> AuditEntry | None:
    if not line.endswith(b"\n"):
        return None
    try:
        plain = parse_json(line)
    except ValueError:
        return None
    fits = isinstance(plain, dict) and set(plain) == set(_FIELDS)
    if not fits or not all(isinstance(plain[name], kind) for name, kind in _FIELDS.items()):
        return None
    return AuditEntry(**plain, hash=_hash(line))


def user_of_this_machine() -> str:
    """Return the name of the user who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers
        return f"uid {os.getuid()}"
