"""Admission by the memory that pictures take, in turn among callers, for a limited time."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")

PATIENCE = 15.0
"""Seconds that a request waits for room before it is refused."""
SHARE = 0.75
"""The largest part of a gate's room that one caller takes; the rest is there for others."""


class Place:
    """Room that a request holds until it is released."""

    def __init__(self, gate: "Gate", caller: str, size: int) -> None:
        self._gate, self._caller, self._size = gate, caller, size

    def release(self) -> None:
        """Give the room back; nothing happens the second time."""
        self._gate._give_back(self._caller, self._size)
        self._size = 0


class Gate:
    """A bounded amount of memory, or of threads, for the requests of one event loop.

    Free room goes to the waiting caller who holds least, and nobody overtakes a larger picture that
    waits for its room. No caller holds more than `SHARE` of all room. A single request for more
    counts as that much.
    """

    def __init__(self, room: int) -> None:
        self._room, self._share = room, int(room * SHARE)
        self._held: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[tuple[int, asyncio.Future[None]]]] = OrderedDict()

    @property
    def held(self) -> int:
        """Bytes that are taken."""
        return self._held.total()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return sum(len(queue) for queue in self._waiting.values())

    async def enter(self, caller: str, size: int) -> Place:
        """Wait for room of `size`; 429 if there is none in time."""
        size = min(size, self._share)
        admitted = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append((size, admitted))
        self._admit()
        place = Place(self, caller, size)
        try:
            await asyncio.wait_for(asyncio.shield(admitted), PATIENCE)
        except BaseException as error:
            if admitted.done():
                place.release()
            else:
                admitted.cancel()
                self._admit()  # those behind may be smaller
            if not isinstance(error, TimeoutError):
                raise
            text = "the server has no room for this request now; send it again later"
            raise HTTPException(429, text, {"retry-after": "10"}) from None
        return place

    def _admit(self) -> None:
        while self._waiting:
            for caller, queue in list(self._waiting.items()):
                while queue and queue[0][1].cancelled():
                    queue.popleft()
                if not queue:
                    del self._waiting[caller]
            allowed = [
                caller
                for caller, queue in self._waiting.items()
                if self._held[caller] + queue[0][0] <= self._share
            ]
            if not allowed:
                return
            caller = min(allowed, key=lambda name: self._held[name])
            size, admitted = self._waiting[caller][0]
            if self.held + size > self._room:
                return
            self._waiting[caller].popleft()
            self._waiting.move_to_end(caller)
            self._held[caller] += size
            admitted.set_result(None)

    def _give_back(self, caller: str, size: int) -> None:
        self._held[caller] -= size
        if not self._held[caller]:
            del self._held[caller]
        self._admit()


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Return what `work` returns; cancel it and raise `ClientDisconnect` if the client leaves.

    The body of the request has to be read before.
    """
    working, gone = asyncio.ensure_future(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
