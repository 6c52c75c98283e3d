"""The engine over a store on this machine: SQLite keeps the people, this process ranks them."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from personsearch.engines import index_parts
from personsearch.engines.engine import Engine, PersonRecord, Ranking
from personsearch.engines.index import PeopleIndex
from personsearch.store import (
    EVERYONE,
    NO_ID,
    Filters,
    ModelIdentity,
    Store,
    StoredPerson,
    open_store,
)
from personsearch.types import FloatArray


class StoreEngine(Engine):
    """An engine over a store, which has to exist; its threads share one index.

    Args:
        model: makes the queries; None for the store's own. Another one raises `StoreError`.
        exact: True to score all matching people always. False for approximate search, prepared when
            it is first needed, unless a filter leaves few people. None for approximate search above
            a million people, once `prepare` was called.
    """

    def __init__(
        self, folder: Path | str, model: ModelIdentity | None = None, *, exact: bool | None = None
    ) -> None:
        self.folder, self.uri = Path(folder), str(folder)
        self._given = model
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._local = threading.local()
        self._groups: tuple[tuple[int, bytes], dict[str, int], dict[str, int]] | None = None
        self.model = self.store.model
        self._index = PeopleIndex(self.folder, lambda: self.store, exact=exact)

    @property
    def store(self) -> Store:
        """The store, open for reading in this thread."""
        found: Store | None = getattr(self._local, "store", None)
        if found is None or (found.replaced() and not found.in_transaction):
            with self._lock:
                found = self._stack.enter_context(open_store(self.folder, model=self._given))
            self._local.store = found
        return found

    def snapshot(self) -> AbstractContextManager[None]:
        return self._index.pinned()

    def close(self) -> None:
        self._index.close()
        self._stack.close()
        self._local = threading.local()

    def _upsert(self, records: Sequence[PersonRecord]) -> None:
        with open_store(self.folder, write=True) as store:
            store.put([(one.person, one.vector, one.thumbnail) for one in records])

    def erase(self, filters: Filters, *, caller: str | None = None) -> int:
        with open_store(self.folder, write=True, caller=caller) as store:
            return store.erase(filters)

    def erase_files(
        self, source: str, names: Sequence[str] | None = None, *, caller: str | None = None
    ) -> int:
        with open_store(self.folder, write=True, caller=caller) as store:
            return store.erase_files(source, names)

    def _search(
        self, queries: FloatArray, top: int, filters: Filters, without: Sequence[int]
    ) -> list[Ranking]:
        return self._index.search(queries, top=top, filters=filters, without=without)

    def prepare(self) -> bool:
        """Prepare approximate search; return whether it is available.

        This takes a minute or two for a million people, during which others can search, and leaves
        files in the store's folder. Without the right to write there, or with fewer than 20,480
        people, search stays exact.
        """
        return self._index.prepare()

    def find(self, ids: Sequence[int]) -> dict[int, StoredPerson]:
        return self.store.find_people(ids)

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float16]:
        return self.store.vectors(ids)

    def thumbnail(self, person: int) -> bytes:
        return self.store.thumbnail(person)

    def track_members(self, track: int) -> list[int]:
        return self.store.track_members(track)

    def people_in(self, path: Path) -> list[int]:
        return self.store.people_in(path)

    def count(self, filters: Filters = EVERYONE) -> int:
        # SQLite finds ids quickly; for all other filters the index has the columns at hand.
        if filters.people is None:
            return self._index.count(filters)
        return self.store.count(filters)

    def cameras(self) -> dict[str, int]:
        return dict(self._grouped()[0])

    def sources(self) -> dict[str, int]:
        return dict(self._grouped()[1])

    def erasure(self) -> bytes:
        return self.store.erasure()

    def forget(self) -> None:
        self._index.forget()

    def _grouped(self) -> tuple[dict[str, int], dict[str, int]]:
        """Number of people by camera and by source, counted again when the store has changed."""
        store = self.store  # opening it takes the lock
        groups = self._groups
        if groups is not None and groups[0] == store.head():
            return groups[1:]
        with self.snapshot():
            head, people, files = store.head(), self._index.by_file(), store.file_sources()
        cameras: Counter[str] = Counter()
        sources: Counter[str] = Counter()
        for file, camera, source in files:
            if count := people.get(file):
                sources[source] += count
                if camera is not None:
                    cameras[camera] += count
        found = dict(sorted(cameras.items())), dict(sorted(sources.items()))
        self._groups = (head, *found)
        return found

    def iterate(self, *, after: int = 0, batch: int = 1024) -> Iterator[list[PersonRecord]]:
        while ids := self.store.ids_after(after, batch):
            people = self.store.people(ids)
            rows = zip(people, self.vectors(ids), self.store.thumbnails(ids), strict=True)
            yield [PersonRecord(*row) for row in rows]
            after = ids[-1]


def write_index(folder: Path | str) -> None:
    """Write the index files that make the first search of a large store quick."""
    with open_store(folder) as store:
        if len(store.ids_after(NO_ID, index_parts.SMALL)) < index_parts.SMALL:
            return
    with StoreEngine(folder) as engine:
        engine.count()
