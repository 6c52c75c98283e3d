"""The vector index of a store, derived from it.

Exact search scans all matching people in half precision, one part of the store a thread, and scores
the best again in full precision. Approximate search scans only the people whose nearest centroid is
near the query. When the store changes, only what changed is read again.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from personsearch.engines.engine import Ranking
from personsearch.engines.index_lists import write_lists
from personsearch.engines.index_parts import FEW, Part, Snapshot, load, refreshed, worth_loading
from personsearch.processors import usable_processors
from personsearch.store import EVERYONE, Filters, Store, open_store
from personsearch.store.filters import Mask
from personsearch.store.index_files import IndexFile
from personsearch.types import FloatArray

MANY = 1_000_000  # from so many people on, search is approximate where that is prepared

_MORE = 8  # candidates beyond those asked for
_QUERIES = 256  # at once
_BLOCK = 4096
_PROBES = 16  # centroids nearest to a query whose people are scanned
_SHARE = 0.5  # of all people that have to match for approximate search
_CACHED = 32  # filters by file
_NUMBERS = 1 << 22  # of candidates' embeddings at once
_ERROR, _ERROR_WEIGHTED = 2e-5, 1.2e-3  # of scores in float32, and of products in float16

_One = TypeVar("_One")
_Other = TypeVar("_Other")
_Found = tuple[NDArray[np.int64], FloatArray]


class PeopleIndex:
    """The index of a store, for several threads.

    Args:
        opened: returns the calling thread's own store, open for reading.
        exact: see `StoreEngine`.
    """

    def __init__(
        self, folder: Path, opened: Callable[[], Store], *, exact: bool | None = None
    ) -> None:
        self.folder, self.exact = folder, exact
        self._opened = opened
        self._snapshot: Snapshot | None = None
        self._pinned = threading.local()
        self._lock, self._preparing = threading.Lock(), threading.Lock()
        self._files: dict[Filters, tuple[bytes, NDArray[np.int64] | None]] = {}
        self._threads = usable_processors()
        self._pool = ThreadPoolExecutor(self._threads, initializer=_limit_faiss_threads)
        self._loading: threading.Thread | None = None
        self._tried = False  # to prepare

    def close(self) -> None:
        """Stop the threads."""
        if self._loading is not None:
            self._loading.join()
        self._pool.shutdown()

    # Searching.

    def search(
        self, queries: FloatArray, *, top: int, filters: Filters, without: Sequence[int] = ()
    ) -> list[Ranking]:
        """Rank the matching people for each query (Q, D), and return the `top` best."""
        if self.exact is False and not self._tried:
            self._tried = True
            self.prepare()
        snapshot = self.current()
        selected = self._select(snapshot, filters, without)
        if not selected or top < 1:
            none = np.zeros(0, np.float32)
            return [Ranking(np.zeros(0, np.int64), none, none) for _ in queries]
        weighted = any(one.part.weights is not None for one in selected)
        error = np.linalg.norm(queries, axis=1).clip(1.0)
        error *= _ERROR_WEIGHTED if weighted else _ERROR
        lists = self._inverted_lists(snapshot, selected)
        step = _QUERIES if lists is None else min(_QUERIES, -(-len(queries) // self._threads))
        chunks = [slice(begin, begin + step) for begin in range(0, len(queries), max(step, 1))]
        ran: Iterable[list[Ranking]]
        if lists is None:
            ran = (self._search_all(selected, queries[c], top, error[c]) for c in chunks)
        else:
            ran = self._map(
                lambda c: _search_lists(selected, queries[c], top, error[c], lists), chunks
            )
        return [ranking for rankings in ran for ranking in rankings]

    def count(self, filters: Filters = EVERYONE) -> int:
        """Number of matching people."""
        return sum(one.count for one in self._select(self.current(), filters))

    def by_file(self) -> dict[int, int]:
        """Number of people by file."""
        found: Counter[int] = Counter()
        for part in self.current().parts:
            files = part.rows.files if part.alive is None else part.rows.files[part.alive]
            rows, counts = np.unique(files, return_counts=True)
            found.update(dict(zip(rows.tolist(), counts.tolist(), strict=True)))
        return dict(found)

    def _select(
        self, snapshot: Snapshot, filters: Filters, without: Sequence[int] = ()
    ) -> "list[_Selection]":
        files = self._matching_files(snapshot, filters)
        left = np.asarray(without, np.int64)
        found = [_Selection(part, part.matching(filters, files, left)) for part in snapshot.parts]
        return [one for one in found if one.count]

    def _matching_files(self, snapshot: Snapshot, filters: Filters) -> NDArray[np.int64] | None:
        key = filters.of_files()
        if key is None:
            return None
        known = self._files.get(key)
        if known is None or known[0] != snapshot.token:
            known = (snapshot.token, self._opened().matching_files(key))
            self._files = dict([*self._files.items()][1 - _CACHED :]) | {key: known}
        return known[1]

    def _inverted_lists(self, snapshot: Snapshot, selected: "list[_Selection]") -> IndexFile | None:
        """Inverted lists whose centroids decide which people are scanned; None for all people."""
        total, matching = sum(map(len, snapshot.parts)), sum(one.count for one in selected)
        if self.exact or (self.exact is None and total < MANY) or matching < _SHARE * total:
            return None
        return snapshot.inverted_lists

    def _search_all(
        self, selected: "list[_Selection]", queries: FloatArray, top: int, error: FloatArray
    ) -> list[Ranking]:
        """Exact search."""
        wanted = top + _MORE
        found = list(self._map(lambda one: one.best(queries, wanted), selected))
        while True:
            least = _least(found, top) - error
            # Where the worst candidate could still be among the top, so could people beyond it.
            again = [
                k
                for k, (rows, scores) in enumerate(found)
                if rows.shape[1] < selected[k].count and (scores[:, -1] >= least).any()
            ]
            if not again:
                return _rank(selected, found, queries, top, least)
            wanted *= 8
            for k in again:
                found[k] = selected[k].best(queries, wanted)

    def _map(self, function: Callable[[_One], _Other], items: Sequence[_One]) -> Iterable[_Other]:
        return self._pool.map(function, items) if len(items) > 1 else map(function, items)

    # Keeping up with the store.

    def current(self) -> Snapshot:
        """The store at its last commit, or at the one that this thread has pinned."""
        pinned: Snapshot | None = getattr(self._pinned, "snapshot", None)
        if pinned is not None:
            return pinned
        store = self._opened()
        snapshot = self._snapshot
        if snapshot is not None and snapshot.head == store.head():
            return snapshot
        with self._lock:
            snapshot = self._snapshot
            if snapshot is None or store.token(snapshot.revision) != snapshot.token:
                snapshot = load(self.folder, store)
            else:
                with store.snapshot():
                    snapshot = refreshed(snapshot, store)
                self._load_again(snapshot)
            self._snapshot = snapshot
            return snapshot

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Hold the calling thread's store and this index at one commit."""
        if getattr(self._pinned, "snapshot", None) is not None:
            yield
            return
        store, snapshot = self._opened(), self.current()
        with store.snapshot():
            self._pinned.snapshot = refreshed(snapshot, store)
            try:
                yield
            finally:
                self._pinned.snapshot = None

    def forget(self) -> None:
        """Delete whoever was erased from memory: files that hold them are written and mapped anew.

        Searches go on meanwhile.
        """
        if self._loading is not None:
            self._loading.join()
        if self._snapshot is None:
            return
        snapshot = self.current()
        if any(part.alive is not None for part in snapshot.parts):
            with self._lock:
                self._load_again(snapshot, always=True)

    def _load_again(self, snapshot: Snapshot, always: bool = False) -> None:
        """Load in the background, where too many people are in memory only."""
        running = self._loading is not None and self._loading.is_alive()
        if running or not (always or worth_loading(self.folder, snapshot)):
            return

        def work() -> None:
            try:
                with open_store(self.folder) as store:
                    found = load(self.folder, store)
                    if snapshot.inverted_lists and write_lists(self.folder, store, found):
                        found = load(self.folder, store)
            except Exception:  # searches go on with what there is, and report the error
                return
            with self._lock:
                self._snapshot = found

        self._loading = threading.Thread(target=work, name="index", daemon=True)
        self._loading.start()

    def prepare(self) -> bool:
        """Prepare approximate search; return whether it is available. See `StoreEngine.prepare`."""
        with self._preparing:
            store = self._opened()
            found = self.current()
            if any(part.alive is not None for part in found.parts):
                found = load(self.folder, store)
            if write_lists(self.folder, store, found):
                found = load(self.folder, store)
            with self._lock:
                self._snapshot = found
            return found.inverted_lists is not None


@dataclass(frozen=True, eq=False)
class _Selection:
    """A part, and the mask of its matching rows; None where all match."""

    part: Part
    mask: Mask | None

    @cached_property
    def count(self) -> int:
        return len(self.part) if self.mask is None else int(np.count_nonzero(self.mask))

    @cached_property
    def selector(self) -> Any:
        """The mask in faiss's form."""
        import faiss

        bits = None if self.mask is None else np.packbits(self.mask, bitorder="little")
        return None if bits is None else faiss.IDSelectorBitmap(bits)

    def best(self, queries: FloatArray, wanted: int) -> _Found:
        """Rows and scores (Q, k) of the best, descending, row -1 for none; of all if few match."""
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

    def best_in_lists(
        self, queries: FloatArray, wanted: int, nearest: NDArray[np.int64], cosines: FloatArray
    ) -> _Found:
        """As `best`, but only among the people of the nearest centroids (Q, M)."""
        import faiss

        if self.part.inverted_lists is None:
            return self.best(queries, wanted)
        settings = faiss.SearchParametersIVF(nprobe=nearest.shape[1], sel=self.selector)
        scores = np.empty((len(queries), wanted), np.float32)
        rows = np.empty((len(queries), wanted), np.int64)
        given, found = map(faiss.swig_ptr, (nearest, cosines)), map(faiss.swig_ptr, (scores, rows))
        self.part.inverted_lists.index.search_preassigned_c(
            len(queries), faiss.swig_ptr(queries), wanted, *given, *found, False, settings
        )
        return rows, scores


def _search_lists(
    selected: list[_Selection], queries: FloatArray, top: int, error: FloatArray, lists: IndexFile
) -> list[Ranking]:
    """Approximate search."""
    import faiss

    queries = np.ascontiguousarray(queries)
    quantizer = faiss.downcast_index(lists.index.quantizer)
    cosines, nearest = quantizer.search(queries, min(_PROBES, quantizer.ntotal))
    found = [one.best_in_lists(queries, top + _MORE, nearest, cosines) for one in selected]
    return _rank(selected, found, queries, top, _least(found, top) - error)


def _least(found: list[_Found], top: int) -> FloatArray:
    """(Q,) the score of the last of the top; minus infinity where there are fewer."""
    scores = np.concatenate([np.where(rows < 0, -np.inf, s) for rows, s in found], axis=1)
    if scores.shape[1] < top:
        return np.full(len(scores), -np.inf, np.float32)
    least: FloatArray = np.partition(scores, -top, axis=1)[:, -top]
    return least


def _rank(
    selected: list[_Selection],
    found: list[_Found],
    queries: FloatArray,
    top: int,
    least: FloatArray,
) -> list[Ranking]:
    """The best of the candidates by exact scores; equals by ascending id."""
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
    for k, one in enumerate(selected):
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
            # Equal people get equal similarities, in whatever order a product was summed.
            similarity[asked[some], column[some]] = products.astype(np.float32).round(6)
    ranked = similarity * weights
    there = np.isfinite(ranked)
    return [
        Ranking.best(ids[k, mask], similarity[k, mask], ranked[k, mask], top)
        for k, mask in enumerate(there)
    ]


def _limit_faiss_threads() -> None:
    """One thread of faiss in each thread of the pool."""
    import faiss

    faiss.omp_set_num_threads(1)
