"""Query pictures and results, kept in memory for a short time, never written to disk."""

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, Protocol, Self, TypeVar

from personsearch.search.people_search import Match
from personsearch.store import StoredPerson
from personsearch.types import Detections, FloatArray


class Kept(Protocol):
    """An item of a `ShortMemory`: it belongs to a caller, and has an approximate size."""

    @property
    def owner(self) -> str: ...

    @property
    def bytes(self) -> int: ...


Item = TypeVar("Item", bound=Kept)


@dataclass(eq=False)
class Upload:
    """A query picture of `owner`: the file, and its (width, height) after EXIF rotation.

    `embeddings` (D,) are those of the boxes that were searched by.
    """

    owner: str
    data: bytes
    size: tuple[int, int]
    people: Detections
    embeddings: dict[tuple[float, ...], FloatArray] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return len(self.data)

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Found:
    """A hit of a result: an id and numbers, and nothing else of the person."""

    person: int
    similarity: float
    rank_score: float
    probability: float | None


@dataclass(eq=False)
class Result:
    """The hits of a search, best first, for a report; `query` is as in the audit log."""

    owner: str
    time: float
    query: dict[str, object]
    hits: list[Found]

    @classmethod
    def of(
        cls, owner: str, time: float, query: dict[str, object], matches: Sequence[Match]
    ) -> Self:
        """Keep what a report needs of matches, best first."""
        hits = [Found(m.person.id, m.similarity, m.rank_score, m.probability) for m in matches]
        return cls(owner, time, query, hits)

    def matches(self, people: Mapping[int, StoredPerson]) -> dict[int, Match]:
        """Return the matches by rank, from 1, of those people who are still there."""
        return {
            rank: Match(people[hit.person], hit.similarity, hit.rank_score, hit.probability)
            for rank, hit in enumerate(self.hits, start=1)
            if hit.person in people
        }

    @property
    def bytes(self) -> int:
        return 1000 + 200 * len(self.hits)


class ShortMemory(Generic[Item]):
    """A cache bounded in number, bytes and seconds since the last use.

    The oldest item of the owner who takes most goes first, so that nobody loses theirs to others.
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
        self._taken = 0  # bytes
        self._lock = threading.Lock()

    def put(self, item: Item) -> str:
        """Keep an item, whose size does not change; return its token."""
        token = secrets.token_urlsafe(18)
        with self._lock:
            self._expire()
            self._add(token, item)
            while len(self._items) > 1 and (
                len(self._items) > self._count or self._taken > self._room
            ):
                self._remove(self._least_missed())
        return token

    def get(self, token: str, owner: str) -> Item | None:
        """Return an item, if it is still there and belongs to the owner."""
        with self._lock:
            item = self._pop(token, owner)
            if item is not None:
                self._add(token, item)
            return item

    def drop(self, token: str, owner: str) -> bool:
        """Delete an item; return whether it was there."""
        with self._lock:
            return self._pop(token, owner) is not None

    def __iter__(self) -> Iterator[Item]:
        with self._lock:
            return iter([item for _, item in self._items.values()])

    def clear(self) -> None:
        with self._lock:
            self._items.clear()
            self._taken = 0

    def __len__(self) -> int:
        with self._lock:
            self._expire()
            return len(self._items)

    def _pop(self, token: str, owner: str) -> Item | None:
        self._expire()
        _, item = self._items.get(token, (0, None))
        if item is None or item.owner != owner:
            return None
        return self._remove(token)

    def _add(self, token: str, item: Item) -> None:
        self._items[token] = (self._clock(), item)
        self._taken += item.bytes

    def _remove(self, token: str) -> Item:
        item = self._items.pop(token)[1]
        self._taken -= item.bytes
        return item

    def _least_missed(self) -> str:
        """Return the oldest item, but the newest, of the owner who takes most."""
        older = [(token, item) for token, (_, item) in self._items.items()][:-1]
        taken: dict[str, float] = {}
        for _, item in older:
            share = 1 / self._count + item.bytes / self._room
            taken[item.owner] = taken.get(item.owner, 0.0) + share
        return max(older, key=lambda one: taken[one[1].owner])[0]

    def _expire(self) -> None:
        oldest = self._clock() - self.seconds
        while self._items and next(iter(self._items.values()))[0] <= oldest:
            self._remove(next(iter(self._items)))
