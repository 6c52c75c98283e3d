"""The engine over a store on this machine: SQLite keeps the people, this process scores them."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from personsearch.engines import index_parts
from personsearch.engines.engine import PersonRecord, Ranking
from personsearch.engines.index import PeopleIndex
from personsearch.errors import StoreError
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

_BLOCK = 65_536


class StoreEngine:
    """An engine over a store. May be used from several threads, which share one index.

    Args:
        folder: of the store.
        model: that searches; None for whichever made the store.
        exact: True to score everyone who is meant always. False to look only where those who are
            alike should be, prepared when it is first needed, unless a filter leaves few. None for
            that above a million people, once `prepare` was called.

    Raises:
        StoreError: there is no store, or one made by another model.
    """

    def __init__(
        self,
        folder: Path | str,
        model: ModelIdentity | None = None,
        *,
        exact: bool | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._given = model
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._local = threading.local()
        self._groups: tuple[int, dict[str, int], dict[str, int]] | None = None
        self._model = self.store.model
        self._index = PeopleIndex(self.folder, lambda: self.store, exact=exact)

    @property
    def store(self) -> Store:
        """The store, open for reading in this thread."""
        found: Store | None = getattr(self._local, "store", None)
        if found is None:
            with self._lock:
                found = self._stack.enter_context(open_store(self.folder, model=self._given))
            self._local.store = found
        return found

    def close(self) -> None:
        """Closes what every thread has open."""
        self._index.close()
        self._stack.close()
        self._local = threading.local()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def place(self) -> str:
        """The store's folder."""
        return str(self.folder)

    @property
    def model(self) -> ModelIdentity:
        """Which model made the embeddings."""
        return self._model

    def upsert(self, records: Sequence[PersonRecord]) -> int:
        """Adds people, or replaces those of the same id; says how many.

        Raises:
            StoreError: another process writes, or an embedding has another length.
        """
        with open_store(self.folder, write=True) as store:
            for record in records:
                if record.vector.shape != (self.model.dim,):
                    raise StoreError(
                        f"{self.folder}: an embedding of shape {record.vector.shape} came, "
                        f"expected ({self.model.dim},)"
                    )
            store.put([(one.person, one.vector, one.thumbnail) for one in records])
        return len(records)

    def delete(self, ids: Sequence[int]) -> int:
        """Erases people with every view of their tracks; says how many views there were."""
        return self.erase(Filters(people=[int(one) for one in ids])) if len(ids) else 0

    def erase(self, filters: Filters) -> int:
        """Erase the matching people, each with the whole track; return the number of views."""
        with open_store(self.folder, write=True) as store:
            return store.erase(filters)

    def erase_files(self, source: str, names: Sequence[str] | None = None) -> int:
        """Erase files of a source, or all, with everyone in them; return the number of views."""
        with open_store(self.folder, write=True) as store:
            return store.erase_files(source, names)

    def search(
        self,
        queries: FloatArray,
        *,
        top: int = 20,
        filters: Filters = EVERYONE,
        without: Sequence[int] = (),
    ) -> list[Ranking]:
        """The `top` most alike of those who are meant, for each query (Q, D).

        Raises:
            StoreError: queries of another length than the store's embeddings.
        """
        queries = np.asarray(queries, np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.model.dim:
            raise StoreError(
                f"{self.folder}: queries of shape {queries.shape} came, expected "
                f"(Q, {self.model.dim})"
            )
        return self._index.search(queries, top=top, filters=filters, without=without)

    def prepare(self) -> bool:
        """Prepares approximate search; says whether it is.

        That takes a minute or two for a million people, in which others can search; what it needs
        lies in the store's folder from then on. Without the right to write there, or with fewer
        than 20,480 people, search stays exact.
        """
        return self._index.prepare()

    def get(self, ids: Sequence[int]) -> list[StoredPerson]:
        """The people of some ids, in their order.

        Raises:
            StoreError: there is none of that id.
        """
        return self.store.people(ids)

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float16]:
        """Embeddings (N, D) of some ids, in their order.

        Raises:
            StoreError: there is none of that id.
        """
        return self.store.vectors(ids)

    def thumbnail(self, person: int) -> bytes:
        """A person's picture as JPEG; empty if there is none."""
        return self.store.thumbnail(person)

    def track_members(self, track: int) -> list[int]:
        """Ids of the views of a track."""
        return self.store.track_members(track)

    def people_in(self, path: Path) -> list[int]:
        """Ids of everyone in a photo or video file, wherever it was indexed from."""
        return self.store.people_in(path)

    def count(self, filters: Filters = EVERYONE) -> int:
        """How many people are meant."""
        # Who is named is found by number; for all others the index has the columns at hand.
        if filters.people is None:
            return self._index.count(filters)
        return self.store.count(filters)

    def cameras(self) -> dict[str, int]:
        """People by camera."""
        return dict(self._grouped()[0])

    def sources(self) -> dict[str, int]:
        """People by source."""
        return dict(self._grouped()[1])

    def _grouped(self) -> tuple[dict[str, int], dict[str, int]]:
        """People by camera and by source, counted again when the store has changed."""
        changes = self.store.revision()
        with self._lock:
            if self._groups is not None and self._groups[0] == changes:
                return self._groups[1:]
        people = self._index.by_file()
        cameras: Counter[str] = Counter()
        sources: Counter[str] = Counter()
        for file, camera, source in self.store.file_sources():
            if count := people.get(file):
                sources[source] += count
                if camera is not None:
                    cameras[camera] += count
        found = dict(sorted(cameras.items())), dict(sorted(sources.items()))
        with self._lock:
            self._groups = (changes, *found)
        return found

    def iterate(self, *, after: int = 0, batch: int = 1024) -> Iterator[list[PersonRecord]]:
        """Everyone whose id is larger than `after`, ascending, in batches."""
        while ids := self.store.ids_after(after, batch):
            people = self.store.people(ids)
            rows = zip(people, self.vectors(ids), self.store.thumbnails(ids), strict=True)
            yield [PersonRecord(*row) for row in rows]
            after = ids[-1]


def write_index(folder: Path | str) -> None:
    """Writes the files that make the first search of a large store quick; a small one has none."""
    with open_store(folder) as store:
        if len(store.ids_after(NO_ID, index_parts.SMALL)) < index_parts.SMALL:
            return
    with StoreEngine(folder) as engine:
        engine.count()


def similarities(vectors: NDArray[np.float16], queries: FloatArray) -> FloatArray:
    """Cosines (Q, N) float32 of rows (N, D) in half precision to queries (Q, D), to six digits."""
    found: FloatArray = np.empty((len(queries), len(vectors)), np.float32)
    for begin in range(0, len(vectors), _BLOCK):
        block = vectors[begin : begin + _BLOCK].astype(np.float32)
        found[:, begin : begin + _BLOCK] = queries @ block.T
    # Equal people are equally like the query, whatever order a product was summed in.
    rounded: FloatArray = found.round(6)
    return rounded
