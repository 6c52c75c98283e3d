"""The index of a store: its people as they are searched quickest. Disposable.

Exact search scans everyone in half precision, one part of the store a thread, and scores the best
again in full precision; a filter decides who is scanned. Approximate search looks only among those
whose nearest mean is near the query, too. When the store changes, only what changed is read again.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from personsearch.engines.engine import Ranking
from personsearch.engines.index_lists import write_lists
from personsearch.engines.index_parts import (
    FEW,
    Part,
    Snapshot,
    load,
    refreshed,
    worth_loading,
)
from personsearch.processors import usable_processors
from personsearch.store import EVERYONE, Filters, Store, open_store
from personsearch.store.filters import Mask
from personsearch.store.index_files import IndexFile
from personsearch.types import FloatArray

MANY = 1_000_000
"""From so many people on, search is approximate where that is prepared."""

_MORE = 8  # candidates beyond those asked for
_QUERIES = 256  # at once
_BLOCK = 4096
_SEEN = 16  # means nearest to a query whose people are looked at
_SHARE = 0.5  # of everyone that a filter has to leave for approximate search
_REMEMBERED = 32  # filters by file
_NUMBERS = 1 << 22  # of candidates' embeddings at once
_UNSURE, _UNSURE_WEIGHTED = 2e-5, 1.2e-3  # of scores in float32, and of products in float16

_One = TypeVar("_One")
_Other = TypeVar("_Other")
_Found = tuple[NDArray[np.int64], FloatArray]


class PeopleIndex:
    """The index of a store; may be used from several threads.

    Args:
        folder: of the store.
        opened: gives the calling thread's own store, open for reading.
        exact: True to search exactly always; False for approximate search, prepared when it is
            first needed; None for approximate search above a million people, if it is prepared.
    """

    def __init__(
        self, folder: Path, opened: Callable[[], Store], *, exact: bool | None = None
    ) -> None:
        self.folder, self.exact = folder, exact
        self._opened = opened
        self._snapshot: Snapshot | None = None
        self._lock, self._preparing = threading.Lock(), threading.Lock()
        self._files: dict[Filters, tuple[int, NDArray[np.int64] | None]] = {}
        self._threads = usable_processors()
        self._pool = ThreadPoolExecutor(self._threads, initializer=_work_alone)
        self._loading: threading.Thread | None = None
        self._tried = False  # to prepare

    def close(self) -> None:
        """Ends its threads."""
        if self._loading is not None:
            self._loading.join()
        self._pool.shutdown()

    # Searching.

    def search(
        self,
        queries: FloatArray,
        *,
        top: int,
        filters: Filters = EVERYONE,
        without: Sequence[int] = (),
    ) -> list[Ranking]:
        """The `top` most alike of those who are meant, for each query (Q, D)."""
        if self.exact is False and not self._tried:
            self._tried = True
            self.prepare()
        snapshot = self.current()
        people = self._meant(snapshot, filters, without)
        if not people or top < 1:
            return [_nobody() for _ in queries]
        weighted = any(one.part.weights is not None for one in people)
        unsure = np.linalg.norm(queries, axis=1).clip(1.0)
        unsure *= _UNSURE_WEIGHTED if weighted else _UNSURE
        lists = self._lists(snapshot, people)
        step = _QUERIES if lists is None else min(_QUERIES, -(-len(queries) // self._threads))
        chunks = [slice(begin, begin + step) for begin in range(0, len(queries), max(step, 1))]
        ran: Iterable[list[Ranking]]
        if lists is None:
            ran = (self._scan(people, queries[some], top, unsure[some]) for some in chunks)
        else:
            ran = self._map(
                lambda some: _look(people, queries[some], top, unsure[some], lists), chunks
            )
        return [ranking for rankings in ran for ranking in rankings]

    def count(self, filters: Filters = EVERYONE) -> int:
        """How many people are meant."""
        return sum(one.count for one in self._meant(self.current(), filters))

    def by_file(self) -> dict[int, int]:
        """People by the row of the file that shows them."""
        found: Counter[int] = Counter()
        for part in self.current().parts:
            files = part.rows.files if part.alive is None else part.rows.files[part.alive]
            rows, counts = np.unique(files, return_counts=True)
            found.update(dict(zip(rows.tolist(), counts.tolist(), strict=True)))
        return dict(found)

    def _meant(
        self, snapshot: Snapshot, filters: Filters, without: Sequence[int] = ()
    ) -> "list[_Meant]":
        files = self._files_meant(snapshot, filters)
        left = np.asarray(without, np.int64)
        people = [_Meant(part, part.meant(filters, files, left)) for part in snapshot.parts]
        return [one for one in people if one.count]

    def _lists(self, snapshot: Snapshot, people: "list[_Meant]") -> IndexFile | None:
        """Whose means decide where is looked; None for everyone."""
        everyone = sum(map(len, snapshot.parts))
        meant = sum(one.count for one in people)
        if self.exact or (self.exact is None and everyone < MANY) or meant < _SHARE * everyone:
            return None
        return snapshot.lists

    def _scan(
        self, people: "list[_Meant]", queries: FloatArray, top: int, unsure: FloatArray
    ) -> list[Ranking]:
        """Exactly."""
        wanted = top + _MORE
        found = list(self._map(lambda one: one.best(queries, wanted), people))
        while True:
            least = _least(found, top) - unsure
            # Where the worst candidate could still be among the top, so could be who is none.
            again = [
                k
                for k, (rows, scores) in enumerate(found)
                if rows.shape[1] < people[k].count and (scores[:, -1] >= least).any()
            ]
            if not again:
                return _rank(people, found, queries, top, least)
            wanted *= 8
            for k in again:
                found[k] = people[k].best(queries, wanted)

    def _map(self, function: Callable[[_One], _Other], items: Sequence[_One]) -> Iterable[_Other]:
        return self._pool.map(function, items) if len(items) > 1 else map(function, items)

    def _files_meant(self, snapshot: Snapshot, filters: Filters) -> NDArray[np.int64] | None:
        key = filters.of_files()
        if key is None:
            return None
        known = self._files.get(key)
        if known is None or known[0] != snapshot.changes:
            known = (snapshot.changes, self._opened().matching_files(key))
            self._files = dict([*self._files.items()][1 - _REMEMBERED :]) | {key: known}
        return known[1]

    # Keeping up with the store.

    def current(self) -> Snapshot:
        """The store as it is."""
        store = self._opened()
        snapshot = self._snapshot
        if snapshot is not None and snapshot.changes == store.revision():
            return snapshot
        with self._lock:
            snapshot, changes = self._snapshot, store.revision()
            if snapshot is None or snapshot.changes > changes:
                snapshot = load(self.folder, store)
            elif snapshot.changes < changes:
                snapshot = refreshed(snapshot, store, changes)
                self._load_again(snapshot)
            self._snapshot = snapshot
            return snapshot

    def _load_again(self, snapshot: Snapshot) -> None:
        """Loads beside the searches, where too much is only in memory."""
        running = self._loading is not None and self._loading.is_alive()
        if running or not worth_loading(self.folder, snapshot):
            return

        def work() -> None:
            try:
                with open_store(self.folder) as store:
                    found = load(self.folder, store)
                    if snapshot.lists is not None and write_lists(self.folder, store, found):
                        found = load(self.folder, store)
            except Exception:  # searches go on with what there is, and say what is wrong
                return
            with self._lock:
                self._snapshot = found

        self._loading = threading.Thread(target=work, name="index", daemon=True)
        self._loading.start()

    def prepare(self) -> bool:
        """Prepares approximate search; says whether it is.

        That takes a minute or two for a million people, in which others can search. Without the
        right to write to the folder, or with fewer than 20,480 people, it stays exact.
        """
        with self._preparing:
            store = self._opened()
            found = self.current()
            if any(part.alive is not None for part in found.parts):
                found = load(self.folder, store)
            if write_lists(self.folder, store, found):
                found = load(self.folder, store)
            with self._lock:
                self._snapshot = found
            return found.lists is not None


@dataclass(frozen=True, eq=False)
class _Meant:
    """A part, and who in it is meant; everyone where that is None."""

    part: Part
    mask: Mask | None

    @cached_property
    def count(self) -> int:
        return len(self.part) if self.mask is None else int(np.count_nonzero(self.mask))

    @cached_property
    def selector(self) -> Any:
        """As faiss takes it."""
        import faiss

        bits = None if self.mask is None else np.packbits(self.mask, bitorder="little")
        return None if bits is None else faiss.IDSelectorBitmap(bits)

    def best(self, queries: FloatArray, wanted: int) -> _Found:
        """Rows and scores (Q, k) of the best, descending, row -1 for none; everyone if few."""
        if self.part.scanner is None or self.count <= FEW or 8 * wanted >= self.count:
            return self._best_of_few(queries, wanted)
        import faiss

        chosen = None if self.mask is None else faiss.SearchParameters(sel=self.selector)
        scores, rows = self.part.scanner.search(queries, wanted, params=chosen)
        return rows, scores

    def _best_of_few(self, queries: FloatArray, wanted: int) -> _Found:
        mask, part = self.mask, self.part
        rows = np.arange(len(part)) if mask is None else np.flatnonzero(mask)
        scores = np.empty((len(queries), len(rows)), np.float32)
        for begin in range(0, len(rows), _BLOCK):
            some = rows[begin : begin + _BLOCK]
            found = queries @ part.rows.vectors[some].astype(np.float32).T
            if part.weights is not None:
                found *= part.weights[some]
            scores[:, begin : begin + _BLOCK] = found
        if len(rows) <= wanted:
            return np.broadcast_to(rows, scores.shape), scores
        order = np.argpartition(-scores, wanted - 1, axis=1)[:, :wanted]
        by_score = np.argsort(-np.take_along_axis(scores, order, 1), axis=1)
        order = np.take_along_axis(order, by_score, 1)
        return rows[order], np.take_along_axis(scores, order, 1)

    def near(
        self,
        queries: FloatArray,
        wanted: int,
        nearest: NDArray[np.int64],
        cosines: FloatArray,
    ) -> _Found:
        """As `best`, but only among the people of some means (Q, M)."""
        import faiss

        if self.part.lists is None:
            return self.best(queries, wanted)
        settings = faiss.SearchParametersIVF(nprobe=nearest.shape[1], sel=self.selector)
        scores = np.empty((len(queries), wanted), np.float32)
        rows = np.empty((len(queries), wanted), np.int64)
        given, found = map(faiss.swig_ptr, (nearest, cosines)), map(faiss.swig_ptr, (scores, rows))
        self.part.lists.index.search_preassigned_c(
            len(queries), faiss.swig_ptr(queries), wanted, *given, *found, False, settings
        )
        return rows, scores


def _look(
    people: list[_Meant], queries: FloatArray, top: int, unsure: FloatArray, lists: IndexFile
) -> list[Ranking]:
    """Approximately."""
    import faiss

    queries = np.ascontiguousarray(queries)
    quantizer = faiss.downcast_index(lists.index.quantizer)
    cosines, nearest = quantizer.search(queries, min(_SEEN, quantizer.ntotal))
    found = [one.near(queries, top + _MORE, nearest, cosines) for one in people]
    return _rank(people, found, queries, top, _least(found, top) - unsure)


def _least(found: list[_Found], top: int) -> FloatArray:
    """(Q,) the score of the last of the top; minus infinity where there are fewer."""
    scores = np.concatenate([np.where(rows < 0, -np.inf, s) for rows, s in found], axis=1)
    if scores.shape[1] < top:
        return np.full(len(scores), -np.inf, np.float32)
    least: FloatArray = np.partition(scores, -top, axis=1)[:, -top]
    return least


def _rank(
    people: list[_Meant],
    found: list[_Found],
    queries: FloatArray,
    top: int,
    least: FloatArray,
) -> list[Ranking]:
    """The best of the candidates, by their true scores; of equals the lower id first."""
    rows = np.concatenate([one for one, _ in found], axis=1)
    scores = np.concatenate([one for _, one in found], axis=1)
    where = np.repeat(np.arange(len(found)), [one.shape[1] for one, _ in found])
    scores = np.where(rows < 0, -np.inf, scores).astype(np.float32)
    wanted = int((scores >= least[:, None]).sum(axis=1).max(initial=1))
    if wanted < scores.shape[1]:
        order = np.argpartition(-scores, wanted - 1, axis=1)[:, :wanted]
        rows, scores = np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
        where = where[order]
    else:
        where = np.broadcast_to(where, rows.shape)
    ids = np.full(rows.shape, -1, np.int64)
    similarity = np.full(rows.shape, -np.inf, np.float32)
    weights = np.ones(rows.shape, np.float32)
    for k, one in enumerate(people):
        part = one.part
        asked, column = np.nonzero((where == k) & (rows >= 0))
        row = rows[asked, column]
        ids[asked, column] = part.rows.ids[row]
        if part.weights is not None:
            weights[asked, column] = part.weights[row]
        step = max(1, _NUMBERS // queries.shape[1])
        for begin in range(0, len(row), step):
            some = slice(begin, begin + step)
            vectors = part.rows.vectors[row[some]].astype(np.float64)
            products = np.einsum("nd,nd->n", vectors, queries[asked[some]])
            # Equal people are equally like the query, whatever order a product was summed in.
            similarity[asked[some], column[some]] = products.astype(np.float32).round(6)
    ranked = similarity * weights
    order = np.lexsort((ids, -ranked), axis=1)[:, :top]
    there = np.isfinite(np.take_along_axis(ranked, order, 1)).sum(axis=1)
    ids = np.take_along_axis(ids, order, 1)
    similarity, ranked = (np.take_along_axis(one, order, 1) for one in (similarity, ranked))
    return [
        Ranking(ids[k, :count].copy(), similarity[k, :count].copy(), ranked[k, :count].copy())
        for k, count in enumerate(there.tolist())
    ]


def _nobody() -> Ranking:
    none = np.zeros(0, np.float32)
    return Ranking(np.zeros(0, np.int64), none, none)


def _work_alone() -> None:
    """A thread of the pool shares its work with no others: these have their own."""
    import faiss

    faiss.omp_set_num_threads(1)
