"""API keys of a store, kept as hashes in STORE/keys.json.

A key is 256 random bits, so one SHA-256 is enough: it cannot be guessed. A revoked key stays in the
file, so that its name is not used again. Making and revoking are lines in the audit log, by which a
store without its file of keys is known to have had some.
"""

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from filelock import FileLock
from pydantic import TypeAdapter

from personsearch.durable import replace_file
from personsearch.errors import StoreError
from personsearch.store.audit import AuditLog
from personsearch.store.rights import private_folder

KEYS, LOCK = "keys.json", "keys.lock"
SCOPES = ("search", "index", "erase", "audit")
"""Permissions of keys."""
PREFIX = "psk_"
NO_KEY = "local"
"""Name of callers without a key, so that of no key."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Key:
    """A key; `hash` is the SHA-256 of its secret, times are in seconds since 1970."""

    name: str
    scopes: tuple[str, ...]
    hash: str
    made: float
    revoked: float | None = None


_FILE = TypeAdapter(dict[Literal["keys"], tuple[Key, ...]])


class Keys:
    """The keys of a store; read again when the file changes, so that revoking works at once."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._path = self.folder / KEYS
        self._read_at: tuple[int, int, int] | None = None
        self._keys: tuple[Key, ...] = ()
        self._made: bool | None = None  # whether there ever were any, once it is known

    def all(self) -> tuple[Key, ...]:
        """Return every key, revoked ones included; `StoreError` if the file is damaged."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._read_at, self._keys = None, ()
            return ()
        at = (status.st_ino, status.st_mtime_ns, status.st_size)
        if at != self._read_at:
            self._keys, self._read_at = self._read(), at
        return self._keys

    def were_made(self) -> bool:
        """Return whether there are keys or ever were: deleting the file opens nothing.

        `StoreError` if the audit log was changed, so that nobody knows.
        """
        if self.all():
            self._made = True
        elif self._made is None:
            self._made = AuditLog(self.folder).has("key made")
        return self._made

    def valid(self) -> list[Key]:
        """Return the keys that are not revoked."""
        return [key for key in self.all() if key.revoked is None]

    def holder(self, secret: str) -> Key | None:
        """Return the valid key of a secret, or None; in constant time."""
        given = _hash(secret)
        # Every key is compared, whichever is found.
        found = [
            key for key in self.valid() if hmac.compare_digest(key.hash.encode(), given.encode())
        ]
        return found[0] if found else None

    def make(self, name: str, scopes: Sequence[str], *, caller: str | None = None) -> str:
        """Make a key; return its secret, which is kept nowhere.

        `caller` is for the audit log, by default the user of this machine.

        Raises:
            StoreError: an invalid or used name, an unknown scope, or no right to write.
        """
        if not _NAME.fullmatch(name):
            raise StoreError(
                f"{name!r} is not a name for a key; expected up to 64 letters, digits, dots, "
                "dashes or underscores"
            )
        if name.casefold() == NO_KEY:
            raise StoreError(
                f"{name!r} stands for requests without a key; choose another name for this one"
            )
        unknown = [f"unknown scope {scope!r}" for scope in scopes if scope not in SCOPES]
        if unknown or not scopes:
            problem = unknown[0] if unknown else "no scope is given"
            raise StoreError(f"{problem}; expected some of {', '.join(SCOPES)}")
        secret = PREFIX + secrets.token_urlsafe(32)
        with self._changing() as keys:
            if any(key.name == name for key in keys):
                raise StoreError(f"{self._path}: has a key named {name!r}; choose another name")
            ordered = tuple(scope for scope in SCOPES if scope in scopes)
            self._log("key made", caller, {"key": name, "scopes": list(ordered)})
            keys.append(Key(name, ordered, _hash(secret), round(time.time(), 3)))
        return secret

    def revoke(self, name: str, *, caller: str | None = None) -> None:
        """Revoke a key, from now on; `StoreError` if there is no valid key of that name.

        The line in the audit log comes second: a key is revoked even if it cannot be written.
        """
        with self._changing() as keys:
            valid = {key.name: row for row, key in enumerate(keys) if key.revoked is None}
            if name not in valid:
                names = ", ".join(valid) or "none"
                raise StoreError(f"{self._path}: has no valid key named {name!r}; it has: {names}")
            row = valid[name]
            keys[row] = replace(keys[row], revoked=round(time.time(), 3))
        self._log("key revoked", caller, {"key": name})

    def _log(self, action: str, caller: str | None, details: dict[str, object]) -> None:
        AuditLog(self.folder).append(action, caller, details)

    def _read(self) -> tuple[Key, ...]:
        try:
            return _FILE.validate_json(self._path.read_bytes(), strict=True)["keys"]
        except (ValueError, KeyError):
            raise StoreError(
                f"{self._path}: is damaged; restore a backup, or delete it and make new keys"
            ) from None

    @contextmanager
    def _changing(self) -> Iterator[list[Key]]:
        private_folder(self.folder)
        with FileLock(self.folder / LOCK, mode=0o600):
            keys = list(self.all())
            yield keys
            plain = {"keys": [asdict(key) for key in keys]}
            replace_file(self._path, json.dumps(plain, indent=1), mode=0o600)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
