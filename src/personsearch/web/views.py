"""Views of people: each is in the audit log before it is sent, as part of a search or as a line."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Literal

Kind = Literal["records", "thumbnails", "pictures", "clips"]
"""What is viewed of a person."""

SECONDS = 900.0
"""Seconds for which a search, or a line, stands for further views of the same people."""
_MOST = 100_000  # people whose views need no further line

Write = Callable[[str, Mapping[str, list[int]]], Awaitable[None]]


class Views:
    """Notes who was shown to whom, for the requests of one event loop.

    Every view of a person whom a search returned to the same caller is covered by the line of that
    search. Any other view is written as a line. Views that are requested while a line is written
    share the next one, so a page of thumbnails takes a few lines and not one each.

    Args:
        write: writes a line for a caller, with the ids of people by kind; it is on the disk when
            this returns.
    """

    def __init__(self, write: Write, clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._covered: OrderedDict[tuple[str, int, Kind | None], float] = OrderedDict()
        self._next: dict[str, _Line] = {}
        self._writing: asyncio.Task[None] | None = None

    def returned(self, caller: str, people: Iterable[int]) -> None:
        """Note that a search in the log returned these people to a caller."""
        for person in people:
            self._cover((caller, person, None))

    async def see(self, caller: str, person: int, kind: Kind) -> None:
        """Return as soon as a view is in the log; raise what writing the line raises."""
        oldest = self._clock() - SECONDS
        keys = ((caller, person, None), (caller, person, kind))
        if any(self._covered.get(key, oldest) > oldest for key in keys):
            return
        line = self._next.get(caller)
        if line is None:
            line = self._next[caller] = _Line()
        line.people.setdefault(kind, set()).add(person)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all())
        await asyncio.shield(line.written)
        self._cover((caller, person, kind))

    async def _write_all(self) -> None:
        while self._next:
            lines, self._next = self._next, {}
            for caller, line in lines.items():
                people: dict[str, list[int]] = {k: sorted(ids) for k, ids in line.people.items()}
                try:
                    await self._write(caller, people)
                except Exception as error:
                    line.written.set_exception(error)
                    line.written.exception()  # nobody may wait for it any more
                else:
                    line.written.set_result(None)

    def _cover(self, key: tuple[str, int, Kind | None]) -> None:
        self._covered[key] = self._clock()
        self._covered.move_to_end(key)
        while len(self._covered) > _MOST:
            self._covered.popitem(last=False)


class _Line:
    def __init__(self) -> None:
        self.people: dict[Kind, set[int]] = {}
        self.written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
