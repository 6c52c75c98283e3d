"""State that the routes share: archive, keys, rate limits, metrics, and items in memory."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

from personsearch.errors import PersonSearchError
from personsearch.search.archive import Archive
from personsearch.web.keys import NO_KEY, SCOPES, Keys
from personsearch.web.limits import Buckets
from personsearch.web.metrics import Metrics
from personsearch.web.uploads import Result, ShortMemory, Upload

T = TypeVar("T")


@dataclass(frozen=True)
class Caller:
    """The sender of a request, with the name and scopes of the key."""

    name: str
    scopes: tuple[str, ...]


LOCAL = Caller(NO_KEY, SCOPES)
"""Everyone on this machine, as long as no key was made."""


@dataclass(frozen=True)
class Settings:
    """Settings of a server.

    Attributes:
        hosts: allowed host names, besides IP addresses.
        keys_needed: even if none was made, because others can reach the server.
        burst, rate: requests at once, and each second, of one caller.
        wrong_burst, wrong_rate: the same for requests with a wrong key, by address.
    """

    hosts: frozenset[str] = frozenset({"localhost"})
    keys_needed: bool = False
    burst: float = 600.0
    rate: float = 60.0
    wrong_burst: float = 10.0
    wrong_rate: float = 0.5


class Service:
    """A served archive."""

    def __init__(self, archive: Archive, settings: Settings) -> None:
        self.archive, self.folder, self.settings = archive, archive.state, settings
        self.keys, self.metrics = Keys(archive.state), Metrics()
        self.uploads: ShortMemory[Upload] = ShortMemory()
        self.results: ShortMemory[Result] = ShortMemory(count=256)
        self.requests = Buckets(settings.burst, settings.rate)
        self.wrong_keys = Buckets(settings.wrong_burst, settings.wrong_rate)
        self.network: Literal["loading", "ready", "failed"] = "loading"
        self.problem = ""
        # Each thread opens the store for itself, so the number of threads is fixed and small.
        self._store = ThreadPoolExecutor(4, thread_name_prefix="store")
        self._heavy = ThreadPoolExecutor(2, thread_name_prefix="pictures")

    def warm(self) -> None:
        """Load the network in the background."""
        threading.Thread(target=self._warm, name="network", daemon=True).start()

    def _warm(self) -> None:
        try:
            _ = self.archive.network
            self.network = "ready"
        except PersonSearchError as error:
            self.network, self.problem = "failed", str(error)

    async def run(self, work: Callable[[], T], *, heavy: bool = False) -> T:
        """Run in a thread: store work, or (`heavy`) work with pictures and the network."""
        pool = self._heavy if heavy else self._store
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    def keys_needed(self) -> bool:
        """Return whether requests need a key: once one was made, even if it was revoked."""
        return self.settings.keys_needed or bool(self.keys.all())

    def close(self) -> None:
        """Delete everything in memory, and stop the threads."""
        self.uploads.clear()
        self.results.clear()
        self._store.shutdown(cancel_futures=True)
        self._heavy.shutdown(cancel_futures=True)
