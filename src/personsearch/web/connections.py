"""Limits on connections, which hold before a key is read.

A client that sends its headers slowly, or nothing at all, keeps a connection but no place: it is
closed after some seconds, or at once where others need the room.
"""

import asyncio
import resource
from collections import Counter
from functools import partial
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

HEADER_SECONDS = 10.0
"""Seconds within which the headers of a request have to arrive, also the first ones."""
READ_SECONDS = 30.0
"""Seconds within which a client has to read some more of an answer."""
MAX_HEADERS = 16 * 1024
"""The most bytes of a request's headers."""
MAX_CONNECTIONS = 3000
"""The most connections at once; fewer where the system allows fewer open files."""
_OTHER_FILES = 256  # open files that are no connections: databases, pictures, models


class BoundedProtocol(H11Protocol):
    """A connection that is closed when it keeps the server waiting.

    Args:
        most: connections at once. One more closes some that have waited longest for a request, of
            the address that has most of them; where none waits, it is refused. An address whose
            requests take half of all connections is refused another.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        most: int = MAX_CONNECTIONS,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._most = most
        self._deadline: asyncio.TimerHandle | None = None
        self._since, self._unsent, self._lost = 0.0, 0, False

    @property
    def _idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""

    # Like uvicorn's, which narrows the type that asyncio declares.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > self._most and not self._make_room():
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch()

    def _make_room(self) -> bool:
        """Close some idle connections; return whether this one may stay."""
        others: list[BoundedProtocol] = [
            one for one in self.connections if isinstance(one, BoundedProtocol) and one is not self
        ]
        held = Counter(one._address for one in others)
        busy = Counter(one._address for one in others if not one._idle)
        if busy[self._address] >= self._most // 2:
            return False
        idle = [one for one in others if one._idle and one._deadline is not None]
        if not idle:
            return False
        idle.sort(key=lambda one: (-held[one._address], one._since))
        for one in idle[: max(1, self._most // 50)]:  # several, since sorting takes its time
            one.transport.abort()
            # Its `connection_lost` runs later; until then it must not be chosen again.
            self.connections.discard(one)
        return True

    def _watch(self) -> None:
        """Set a deadline where the client has to act: to send a request, or to read an answer."""
        unsent = 0 if self._lost else self.transport.get_write_buffer_size()
        waiting = self._idle or self.flow.write_paused
        if self._lost or not waiting:
            self._unwatch()
        elif self._deadline is None:
            self._since, self._unsent = self.loop.time(), unsent
            seconds = READ_SECONDS if unsent else HEADER_SECONDS
            self._deadline = self.loop.call_later(seconds, self._late)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if 0 < self.transport.get_write_buffer_size() < self._unsent:  # slow, but reading
            self._watch()
        else:
            self.transport.abort()


def room_for_connections(most: int = MAX_CONNECTIONS) -> int:
    """Return how many connections this process may hold; raises its own limit of open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return most if soft == resource.RLIM_INFINITY else max(min(most, soft - _OTHER_FILES), 16)


def server_config(app: Any) -> Config:
    """Return the configuration of a server with these limits."""
    most = room_for_connections()
    return Config(
        app,
        # Declared as a class; uvicorn only calls it.
        http=partial(BoundedProtocol, most=most),  # type: ignore[arg-type]
        ws="none",
        h11_max_incomplete_event_size=MAX_HEADERS,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=10,
    )
