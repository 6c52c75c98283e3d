"""The audit log of a store: a chain of lines that say who searched and erased what.

    STORE/audit.jsonl       one JSON object a line, appended only
    STORE/audit.head.json   number and length of the lines, and the hash of the last one
    STORE/audit.lock        held while a line is appended

A line that is changed, removed, inserted or moved breaks the chain of hashes. Lines cut off the end
are detected by the second file. Somebody who can write both files can write another log; a head
hash noted elsewhere detects that, too.
"""

import getpass
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from personsearch.durable import replace_file
from personsearch.errors import StoreError
from personsearch.parsing import parse_json

LOG, HEAD, LOCK = "audit.jsonl", "audit.head.json", "audit.lock"
BEGINNING = "0" * 64  # the hash of the line before the first one

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

    def append(self, action: str, who: str, details: Mapping[str, Any]) -> AuditEntry:
        """Append a line, which is on the disk when this returns.

        A last line that was torn by a crash is removed first, which is logged, too. An end that was
        changed, or a log that cannot be written, raises `StoreError`.
        """
        try:
            with self._locked() as log:
                head = self._repair(log)
                entry, _ = self._add(log, head, action, who, details)
                return entry
        except OSError as error:
            raise StoreError(
                f"{self._log}: cannot be written ({error.strerror}); nothing is searched or erased "
                "without a line in it"
            ) from None

    def entries(self) -> Iterator[AuditEntry]:
        """The lines, oldest first; `StoreError` at one that is damaged."""
        for number, line in enumerate(self._lines(), start=1):
            entry = _parsed(line)
            if entry is None:
                raise StoreError(f"{self._log}: line {number} is damaged; run the audit check")
            yield entry

    def head(self) -> str:
        """Hash of the last line, to note elsewhere."""
        found = BEGINNING
        for line in self._lines():
            found = _hash(line)
        return found

    def verify(self, head: str | None = None) -> str:
        """Return what is wrong with the log; empty if it is complete and has the line `head`."""
        try:
            known = self._read_head()
        except StoreError as error:
            return str(error)
        previous, count, size, seen = BEGINNING, 0, 0, head in (None, BEGINNING)
        for count, line in enumerate(self._lines(), start=1):
            entry = _parsed(line)
            if entry is None:
                return f"line {count} is damaged or torn"
            if entry.previous != previous:
                return f"line {count} does not follow the line before it"
            previous = entry.hash
            size += len(line)
            seen = seen or previous == head
            if known and count == known.count and previous != known.hash:
                return f"line {count} is not the line that was written there"
        if known is None and count:
            return f"{HEAD} is missing"
        if known is not None and count < known.count:
            return f"{known.count - count} lines are missing at the end"
        if not seen:
            return f"no line has the hash {head}: it was noted from another log"
        return ""

    def _lines(self) -> Iterator[bytes]:
        try:
            with self._log.open("rb") as log:
                yield from log
        except FileNotFoundError:
            return

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        descriptor = os.open(self._log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        # Not a lock of the log itself: some versions of filelock empty the file that they lock.
        with os.fdopen(descriptor, "r+b", buffering=0) as log, FileLock(self.folder / LOCK):
            yield log

    def _read_head(self) -> _Head | None:
        try:
            return _Head(**parse_json(self._head.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            raise StoreError(f"{self._head}: is damaged") from None

    def _write_head(self, head: _Head) -> None:
        replace_file(self._head, json.dumps(asdict(head)), mode=0o600)

    def _repair(self, log: Any) -> _Head:
        """Return the head, after the remains of a crash were repaired."""
        head, size = self._read_head(), log.seek(0, os.SEEK_END)
        if head is None and not size:
            # Written before the first line, so that a missing head shows tampering.
            head = _Head(0, 0, BEGINNING, 0)
            self._write_head(head)
        log.seek(0 if head is None else head.last)
        if head is None or size < head.bytes or _changed(log, head):
            raise StoreError(
                f"{self._log}: its end was changed since the last line was written; see: "
                f"personsearch audit check. Keep {LOG} and {HEAD} as evidence; without them a new "
                "log begins"
            )
        # Lines behind the noted end were written before a crash, but not noted.
        log.seek(head.bytes)
        for line in log.read().splitlines(keepends=True):
            entry = _parsed(line)
            if entry is None or entry.previous != head.hash:
                os.ftruncate(log.fileno(), head.bytes)
                torn = {"bytes": size - head.bytes}
                return self._add(log, head, "torn line removed", "personsearch", torn)[1]
            head = head.after(entry, len(line))
        return head

    def _add(
        self, log: Any, head: _Head, action: str, who: str, details: Mapping[str, Any]
    ) -> tuple[AuditEntry, _Head]:
        plain = {
            "time": round(time.time(), 3),
            "who": who,
            "action": action,
            "details": dict(details),
            "previous": head.hash,
        }
        line = json.dumps(plain, allow_nan=False).encode() + b"\n"
        log.write(line)
        os.fsync(log.fileno())
        entry = _parsed(line)
        assert entry is not None
        now = head.after(entry, len(line))
        self._write_head(now)
        return entry, now


def _changed(log: Any, head: _Head) -> bool:
    """Whether the last line was changed; `log` is positioned at its beginning."""
    return bool(head.count) and _hash(log.read(head.bytes - head.last)) != head.hash


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


def log_expired(folder: Path | str, who: str, views: int) -> None:
    """Log that people older than the retention time were erased, unless there were none."""
    if views:
        AuditLog(folder).append("expired", who, {"views": views})
