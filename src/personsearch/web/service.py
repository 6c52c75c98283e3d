"""State that the routes share: archive, keys, rate limits, metrics, and items in memory."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeVar

from starlette.requests import Request

from personsearch.errors import PersonSearchError
from personsearch.media import apart
from personsearch.search.archive import Archive
from personsearch.web.admission import Gate, unless_gone
from personsearch.web.keys import NO_KEY, SCOPES, Keys
from personsearch.web.limits import Buckets
from personsearch.web.metrics import Metrics
from personsearch.web.uploads import Result, ShortMemory, Upload
from personsearch.web.views import Views

T = TypeVar("T")

RECEIVED = 320 * 1024 * 1024
"""Room for uploaded pictures while they arrive and are worked on, in bytes."""
OTHERS = 32 * 1024 * 1024
"""The same for all other bodies."""
DECODED = 1024 * 1024 * 1024
"""Room for decoded pictures, in bytes."""
BYTES_A_PIXEL = 24  # as decoded, as sent on, and as the network's tensor
_STORE = 4  # threads
_PICTURES = 4  # threads; each has at least its part of the room


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
        self.views = Views(self._log_views)
        self._erasure = archive.engine.erasure()
        self.requests = Buckets(settings.burst, settings.rate)
        self.wrong_keys = Buckets(settings.wrong_burst, settings.wrong_rate)
        self.network: Literal["loading", "ready", "failed"] = "loading"
        self.problem = ""
        # Each thread opens the store for itself, so the number of threads is fixed and small.
        self._store = ThreadPoolExecutor(_STORE, thread_name_prefix="store")
        self._writes = {
            kind: ThreadPoolExecutor(1, thread_name_prefix=kind) for kind in ("erase", "add")
        }
        self._stop = threading.Event()
        self._heavy = ThreadPoolExecutor(_PICTURES, "pictures", apart.stop_by, (self._stop,))
        self.received, self.others, self.decoded = Gate(RECEIVED), Gate(OTHERS), Gate(DECODED)
        self.searches = Gate(_STORE - 1)  # a thread is left for what is quick

    def warm(self) -> None:
        """Load the network in the background."""
        threading.Thread(target=self._warm, name="network", daemon=True).start()

    def _warm(self) -> None:
        try:
            _ = self.archive.network
            self.network = "ready"
        except PersonSearchError as error:
            self.network, self.problem = "failed", str(error)

    async def run(self, work: Callable[[], T]) -> T:
        """Run quick work with the store in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._store, work)

    async def write(self, kind: Literal["erase", "add"], work: Callable[[], T]) -> T:
        """Run work that waits for its turn to write; erasures do not wait behind pictures."""
        return await asyncio.get_running_loop().run_in_executor(self._writes[kind], work)

    async def _log_views(self, caller: str, people: Mapping[str, list[int]]) -> None:
        await self.run(lambda: self.archive.log_views(people, caller=caller))

    async def heavy(
        self, request: Request, caller: Caller, pixels: int, work: Callable[[], T]
    ) -> T:
        """Run work with a picture and the network in a thread, as soon as there is room for it.

        Raises:
            HTTPException: 429, if there is no room in time.
            ClientDisconnect: the client has left; work that has not begun is not done.
        """
        size = max(pixels * BYTES_A_PIXEL, DECODED // _PICTURES)
        return await _in_turn(request, caller, self.decoded, size, self._heavy, work)

    async def search(self, request: Request, caller: Caller, work: Callable[[], T]) -> T:
        """Run a search in a thread, in turn among callers; raises what `heavy` raises."""
        return await _in_turn(request, caller, self.searches, 1, self._store, work)

    def forget_erased(self) -> None:
        """Delete the embeddings of query pictures, if any process has erased somebody since.

        The pictures stay: they are their senders', who alone can get them back.
        """
        erasure = self.archive.engine.erasure()
        if erasure != self._erasure:
            self._erasure = erasure
            for upload in self.uploads:
                upload.embeddings.clear()

    def keys_needed(self) -> bool:
        """Return whether requests need a key: once one was made, even if it was revoked."""
        return self.settings.keys_needed or self.keys.were_made()

    def close(self) -> None:
        """Delete everything in memory, and stop the threads; a picture is not decoded further."""
        self._stop.set()
        self.uploads.clear()
        self.results.clear()
        for pool in (self._store, self._heavy, *self._writes.values()):
            pool.shutdown(cancel_futures=True)


async def _in_turn(
    request: Request,
    caller: Caller,
    gate: Gate,
    size: int,
    pool: ThreadPoolExecutor,
    work: Callable[[], T],
) -> T:
    place = await unless_gone(request, gate.enter(caller.name, size))
    loop = asyncio.get_running_loop()

    def finished(_: object) -> None:
        with suppress(RuntimeError):  # the server has stopped
            loop.call_soon_threadsafe(place.release)

    # The thread keeps its place until it ends, even if nobody waits for it any more.
    running = pool.submit(work)
    running.add_done_callback(finished)
    return await unless_gone(request, asyncio.wrap_future(running))
