"""What the routes share: the archive, its keys and audit log, and what is kept in memory."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from personsearch.errors import PersonSearchError
from personsearch.search.archive import Archive
from personsearch.store.audit import AuditLog
from personsearch.web.keys import SCOPES, Keys
from personsearch.web.limits import Buckets
from personsearch.web.metrics import Metrics
from personsearch.web.uploads import Result, ShortMemory, Upload

T = TypeVar("T")


@dataclass(frozen=True)
class Caller:
    """Who sent a request.

    Attributes:
        name: of the key; ``local`` where none is needed.
        scopes: what they may do.
    """

    name: str
    scopes: tuple[str, ...]


LOCAL = Caller("local", SCOPES)
"""Whoever is on this machine, as long as no key was made."""


@dataclass(frozen=True)
class Settings:
    """How a server is set up.

    Attributes:
        hosts: names by which it may be called, besides addresses.
        keys_needed: even if none was made, because others can reach it.
        burst, rate: requests at once, and a second, of one caller.
        wrong_burst, wrong_rate: the same of requests with a wrong key, by address.
    """

    hosts: frozenset[str] = frozenset({"localhost"})
    keys_needed: bool = False
    burst: float = 600.0
    rate: float = 60.0
    wrong_burst: float = 10.0
    wrong_rate: float = 0.5


class Service:
    """An archive that is being served.

    Args:
        archive: open.
        folder: of its store, with the keys and the audit log.
        settings: of the server.
    """

    def __init__(self, archive: Archive, folder: Path, settings: Settings) -> None:
        self.archive, self.folder, self.settings = archive, folder, settings
        self.audit, self.keys, self.metrics = AuditLog(folder), Keys(folder), Metrics()
        self.uploads: ShortMemory[Upload] = ShortMemory()
        self.results: ShortMemory[Result] = ShortMemory(count=256)
        self.requests = Buckets(settings.burst, settings.rate)
        self.wrong_keys = Buckets(settings.wrong_burst, settings.wrong_rate)
        self.network: Literal["loading", "ready", "failed"] = "loading"
        self.problem = ""
        # Each thread opens the store by itself, so that there are few, and always the same.
        self._store = ThreadPoolExecutor(4, thread_name_prefix="store")
        self._heavy = ThreadPoolExecutor(2, thread_name_prefix="pictures")

    def warm(self) -> None:
        """Loads the network in the background."""
        threading.Thread(target=self._warm, name="network", daemon=True).start()

    def _warm(self) -> None:
        try:
            _ = self.archive.network
            self.network = "ready"
        except PersonSearchError as error:
            self.network, self.problem = "failed", str(error)

    async def run(self, work: Callable[[], T], *, heavy: bool = False) -> T:
        """Does something in a thread: with the store, or (heavy) with pictures and the network."""
        pool = self._heavy if heavy else self._store
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    def keys_needed(self) -> bool:
        """Whether a request needs a key: as soon as one was made, even if it was revoked."""
        return self.settings.keys_needed or bool(self.keys.all())

    def close(self) -> None:
        """Forgets what is in memory, and ends the threads."""
        self.uploads.clear()
        self.results.clear()
        self._store.shutdown(cancel_futures=True)
        self._heavy.shutdown(cancel_futures=True)
