"""Query pictures that were sent, and results: in memory, for a short while, never on the disk."""

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from personsearch.search.people_search import Match
from personsearch.types import Detections, FloatArray


class Kept(Protocol):
    """What takes room."""

    @property
    def owner(self) -> str:
        """Who may have it back."""

    @property
    def bytes(self) -> int:
        """How much room, about."""


Item = TypeVar("Item", bound=Kept)


@dataclass(eq=False)
class Upload:
    """A query picture.

    Attributes:
        owner: who sent it.
        data: the picture's file, as it came.
        size: (width, height) in pixels, upright.
        people: everyone who was found in it.
        embeddings: (D,) of boxes that were searched by.
    """

    owner: str
    data: bytes
    size: tuple[int, int]
    people: Detections
    embeddings: dict[tuple[float, ...], FloatArray] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """How much room it takes."""
        return len(self.data)

    @property
    def sha256(self) -> str:
        """Of the picture's file."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(eq=False)
class Result:
    """What a search found, for a report.

    Attributes:
        owner: who searched.
        when: seconds since 1970.
        asked: what was searched by, as it is written to the audit log.
        matches: best first.
    """

    owner: str
    when: float
    asked: dict[str, object]
    matches: list[Match]

    @property
    def bytes(self) -> int:
        """How much room it takes, about."""
        return 1000 + 1000 * len(self.matches)


class ShortMemory(Generic[Item]):
    """Keeps a bounded number of items of bounded room for a bounded time; the oldest goes first.

    Args:
        count: items.
        room: bytes of all of them.
        seconds: since an item was last used.
        clock: seconds; for tests.
    """

    def __init__(
        self,
        count: int = 64,
        room: int = 256 * 1024 * 1024,
        seconds: float = 900.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count, self._room, self.seconds, self._clock = count, room, seconds, clock
        self._items: OrderedDict[str, tuple[float, Item]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, item: Item) -> str:
        """Keeps an item; the token by which it is had back."""
        token = secrets.token_urlsafe(18)
        with self._lock:
            self._forget()
            self._items[token] = (self._clock(), item)
            while len(self._items) > 1 and (
                len(self._items) > self._count or self._taken() > self._room
            ):
                self._items.popitem(last=False)
        return token

    def get(self, token: str, owner: str) -> Item | None:
        """The item, if it is still there and the owner's."""
        with self._lock:
            self._forget()
            found = self._items.get(token)
            if found is None or found[1].owner != owner:
                return None
            self._items[token] = (self._clock(), found[1])
            self._items.move_to_end(token)
            return found[1]

    def drop(self, token: str, owner: str) -> bool:
        """Forgets an item; whether it was there."""
        with self._lock:
            found = self._items.get(token)
            if found is None or found[1].owner != owner:
                return False
            del self._items[token]
            return True

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._items.clear()

    def __len__(self) -> int:
        with self._lock:
            self._forget()
            return len(self._items)

    def _taken(self) -> int:
        return sum(item.bytes for _, item in self._items.values())

    def _forget(self) -> None:
        oldest = self._clock() - self.seconds
        while self._items:
            token = next(iter(self._items))
            if self._items[token][0] > oldest:
                break
            del self._items[token]
