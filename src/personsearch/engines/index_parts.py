"""What the index is made of: parts of a store's people, from the database or mapped from files.

Parts of 262,144 people lie in files; who came since, and small stores, are in memory alone.
"""

import os
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.store import LAST_ID, NO_ID, EmbeddingRows, Filters, Store, index_files
from personsearch.store.filters import Mask
from personsearch.store.index_files import LISTS, ROWS, IndexFile, locked
from personsearch.types import FloatArray

PART = 262_144
"""People in a full part."""
SMALL = 20_480
"""So many people who are in no file yet are worth one."""
FEW = 4096
"""So many people are scored one by one, without faiss."""

_BLOCK = 4096
_COLUMNS = tuple(EmbeddingRows.__dataclass_fields__)
Span = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Part:
    """Some people of a store.

    Attributes:
        rows: who.
        weights: (N,) float32 by which similarities are multiplied; None where they are not.
        scanner: faiss's index of them, in that order; None where they are few.
        alive: (N,) False where someone is no longer in the store; None where everyone is.
        span: first < id <= second, if they are mapped from a file; None in memory.
        checksum: of that file.
        lists: them by the nearest of some means, if that file is there.
    """

    rows: EmbeddingRows
    weights: FloatArray | None
    scanner: Any = None
    alive: Mask | None = None
    span: Span | None = None
    checksum: int = 0
    lists: IndexFile | None = None

    def __len__(self) -> int:
        return len(self.rows.ids)

    def meant(
        self, filters: Filters, files: NDArray[np.int64] | None, without: NDArray[np.int64]
    ) -> Mask | None:
        """(N,) who is meant; None where everyone is.

        Args:
            filters: of which cameras, sources and names are not looked at.
            files: rows of the files that these leave; None for all.
            without: ids of people who are not meant.
        """
        found = filters.mask(self.rows, files, without)
        if found is None or self.alive is None:
            return self.alive if found is None else found
        both: Mask = found & self.alive
        return both


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A store as it was at some change.

    Attributes:
        changes: of the store.
        parts: everyone, ascending by id but for those who were put among them since.
    """

    changes: int
    parts: tuple[Part, ...]

    @property
    def last(self) -> int:
        """The largest id."""
        return max((int(part.rows.ids[-1]) for part in self.parts if len(part)), default=NO_ID)

    @property
    def lists(self) -> IndexFile | None:
        """One that has the means that all others have, too."""
        return next((part.lists for part in self.parts if part.lists is not None), None)


def load(folder: Path, store: Store) -> Snapshot:
    """Everyone in a store: from files where they are right, else from the database.

    What is missing is written, if the folder can be.
    """
    changes = store.revision()
    files = _may_write(folder) and len(store.ids_after(NO_ID, SMALL)) == SMALL
    there: list[Part] = []
    useless: list[Span] = []
    for span in index_files.spans(folder):
        part = _mapped(folder, store, span, changes)
        if part is None or (there and span[0] < _span(there[-1])[1]):
            useless.append(span)
        else:
            there.append(part)
    # What was written of a store that has grown since is written again, until it is full.
    if files and there and len(there[-1]) < PART:
        end = _span(there[-1])[1]
        if len(store.ids_after(end, SMALL)) == SMALL:
            useless.append(_span(there.pop()))
    parts: list[Part] = []
    loose: list[EmbeddingRows] = []
    begin = NO_ID
    for part in [*there, None]:
        end = LAST_ID if part is None else _span(part)[0]
        while begin < end:
            new, begin = _read(folder, store, (begin, end), files)
            if isinstance(new, Part):
                parts.append(new)
            elif len(new.ids):
                loose.append(new)
        if part is not None:
            parts.append(part)
            begin = _span(part)[1]
    if loose:
        parts.append(in_memory(_joined(loose), store.model.weighted))
    if files and useless:
        _delete(folder, set(useless) - {part.span for part in parts if part.span})
    return Snapshot(changes, _of_equal_means(parts))


def _read(folder: Path, store: Store, span: Span, files: bool) -> tuple[Part | EmbeddingRows, int]:
    """The first people of a span that no file holds, and the last id that is read then."""
    # With the lock nobody is erased before the file is written; without, there is no file.
    with locked(folder) if files else nullcontext(False) as mine:
        changes = store.revision()
        rows = store.rows(after=span[0], last=span[1], limit=PART)
        whole = len(rows.ids) < PART
        if mine and len(rows.ids) >= min(SMALL, PART):
            end = span[1] if whole and span[1] < LAST_ID else int(rows.ids[-1])
            part = _written(folder, store, rows, (span[0], end), changes)
            return part, span[1] if whole else end
    if whole:
        return rows, span[1]
    return in_memory(rows, store.model.weighted), int(rows.ids[-1])


def refreshed(snapshot: Snapshot, store: Store, changes: int) -> Snapshot:
    """The store as it is now, of which only what changed since is read."""
    touched = store.blocks_since(snapshot.changes)
    parts: list[Part] = []
    loose: list[EmbeddingRows] = []
    for part in snapshot.parts:
        gone = np.isin(part.rows.ids >> 10, touched) if len(touched) else np.zeros(0, bool)
        if not gone.any():
            if part.span is not None or len(part) >= PART:
                parts.append(part)
            else:
                loose.append(part.rows)
        elif part.span is None:
            loose.append(_chosen(part.rows, ~gone))
        else:
            parts.append(replace(part, alive=~gone if part.alive is None else part.alive & ~gone))
    last = snapshot.last
    for block in touched.tolist():
        if block << 10 <= last:
            loose.append(store.rows(after=(block << 10) - 1, last=min((block << 10) + 1023, last)))
    while len((new := store.rows(after=last, limit=PART)).ids):
        loose.append(new)
        last = int(new.ids[-1])
    loose = [rows for rows in loose if len(rows.ids)]
    same = [part for part in snapshot.parts if len(loose) == 1 and part.rows is loose[0]]
    if loose:
        parts += same or [in_memory(_joined(loose), store.model.weighted)]
    return Snapshot(changes, tuple(parts))


def worth_loading(folder: Path, snapshot: Snapshot) -> bool:
    """Whether more than is good is only in memory, or still mapped though it was erased."""
    loose = sum(len(part) for part in snapshot.parts if part.span is None)
    dead = any(part.alive is not None for part in snapshot.parts)
    return (dead or loose >= 2 * SMALL) and _may_write(folder)


def in_memory(rows: EmbeddingRows, weighted: bool) -> Part:
    """Rows as a part."""
    weights = rows.scores.astype(np.float32) if weighted else None
    if len(rows.ids) <= FEW:
        return Part(rows, weights)
    scanner = _scanner(rows, weights)
    # One copy is enough where the two are the same.
    return Part(rows if weighted else replace(rows, vectors=_codes(scanner)), weights, scanner)


def _scanner(rows: EmbeddingRows, weights: FloatArray | None) -> Any:
    """Faiss's index of what people are ranked by."""
    import faiss

    codes = np.ascontiguousarray(rows.vectors)
    if weights is not None:
        codes = codes.copy()
        for begin in range(0, len(codes), _BLOCK):
            some = slice(begin, begin + _BLOCK)
            codes[some] *= weights[some, None]
    found = faiss.IndexScalarQuantizer(
        codes.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    faiss.copy_array_to_vector(codes.view(np.uint8).ravel(), found.codes)
    found.ntotal, found.is_trained = len(codes), True
    return found


def _codes(scanner: Any) -> NDArray[np.float16]:
    """(N, D), without a copy; for as long as the index lives."""
    import faiss

    flat = faiss.rev_swig_ptr(scanner.codes.data(), scanner.codes.size())
    found: NDArray[np.float16] = flat.view(np.float16).reshape(-1, scanner.d)
    return found


def _joined(several: Sequence[EmbeddingRows]) -> EmbeddingRows:
    if len(several) == 1:
        return several[0]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(one, name) for one in several]) for name in _COLUMNS
    }
    rows = EmbeddingRows(**columns)
    return rows if (np.diff(rows.ids) > 0).all() else _chosen(rows, np.argsort(rows.ids))


def _chosen(rows: EmbeddingRows, which: NDArray[Any]) -> EmbeddingRows:
    return EmbeddingRows(**{name: getattr(rows, name)[which] for name in _COLUMNS})


def _span(part: Part) -> Span:
    assert part.span is not None
    return part.span


# Files.


def _about(store: Store, span: Span) -> dict[str, Any]:
    """By which it is seen that a file holds these people of this store."""
    model = store.model
    about = {"fingerprint": model.fingerprint, "dim": model.dim, "weighted": model.weighted}
    return {**about, "made": store.created_at(), "span": list(span)}


def _written(folder: Path, store: Store, rows: EmbeddingRows, span: Span, changes: int) -> Part:
    """Rows as a file; in memory if that cannot be written. With the lock only."""
    weighted = store.model.weighted
    # Where weights are in the file's codes, the embeddings themselves are beside them.
    columns = {name: getattr(rows, name) for name in _COLUMNS if name != "vectors" or weighted}
    scanner = _scanner(rows, rows.scores.astype(np.float32) if weighted else None)
    about = {**_about(store, span), "changes": changes}
    with suppress(OSError):
        index_files.write(index_files.place(folder, span, ROWS), scanner, columns, about)
        del scanner
        part = _mapped(folder, store, span, changes)
        if part is not None:
            return part
    return in_memory(rows, weighted)


def _mapped(folder: Path, store: Store, span: Span, changes: int) -> Part | None:
    """A file as a part, if it holds what the store holds."""
    file = index_files.read(index_files.place(folder, span, ROWS))
    if file is None:
        return None
    about, written = _about(store, span), int(file.about.get("changes", LAST_ID))
    if written > changes or any(file.about.get(key) != value for key, value in about.items()):
        return None
    touched = store.blocks_since(written)
    if ((touched >= (span[0] + 1) >> 10) & (touched <= span[1] >> 10)).any():
        return None
    columns: dict[str, Any] = {"vectors": _codes(file.index), **file.columns}
    rows = EmbeddingRows(**columns)
    if not len(rows.ids) or not _same(store, rows):
        return None
    weights = rows.scores.astype(np.float32) if store.model.weighted else None
    lists = index_files.read(index_files.place(folder, span, LISTS))
    if lists is not None and lists.about.get("rows") != file.checksum:
        lists = None
    return Part(rows, weights, file.index, span=span, checksum=file.checksum, lists=lists)


def _same(store: Store, rows: EmbeddingRows) -> bool:
    """Whether some people are those of the database; it may have been put back from a copy."""
    some = np.unique(np.linspace(0, len(rows.ids) - 1, 32).astype(int))
    ids, vectors = store.embeddings(Filters(people=rows.ids[some].tolist()))
    return np.array_equal(ids, rows.ids[some]) and np.array_equal(vectors, rows.vectors[some])


def _may_write(folder: Path) -> bool:
    place = folder / index_files.FOLDER
    return os.access(place if place.exists() else folder, os.W_OK | os.X_OK)


def _delete(folder: Path, spans: set[Span]) -> None:
    with locked(folder) as mine:
        for span in spans if mine else ():
            for suffix in (ROWS, LISTS):
                with suppress(OSError):
                    index_files.place(folder, span, suffix).unlink(missing_ok=True)


def _of_equal_means(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Lists are searched together only where they have the same means."""
    means = [part.lists.about["means"] for part in parts if part.lists is not None]
    common = max(means, key=means.count, default=None)
    return tuple(
        replace(part, lists=None)
        if part.lists is not None and part.lists.about["means"] != common
        else part
        for part in parts
    )
