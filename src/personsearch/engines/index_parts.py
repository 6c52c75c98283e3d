"""The parts of an index: a store's people, read from the database or mapped from files.

Full parts of 262,144 people lie in files; newer people, and small stores, are in memory only.
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
from personsearch.store.index_files import LISTS, ROWS, IndexFile, Span, locked
from personsearch.types import FloatArray

PART = 262_144  # people in a full part
SMALL = 20_480  # the fewest people that are written to a file
FEW = 4096  # so many people are scored one by one, without faiss

_BLOCK = 4096
_COLUMNS = tuple(EmbeddingRows.__dataclass_fields__)


@dataclass(frozen=True, eq=False)
class Part:
    """Some people of a store."""

    rows: EmbeddingRows  # the people
    # (N,) float32 factors of their similarities; None for an unweighted model
    weights: FloatArray | None
    scanner: Any = None  # faiss's index of them, in that order; None where they are few
    # (N,) False for people who are no longer in the store; None where all are
    alive: Mask | None = None
    span: Span | None = None  # of the file that they are mapped from; None in memory
    checksum: int = 0  # of that file
    inverted_lists: IndexFile | None = None  # the people by nearest centroid, if that file exists

    def __len__(self) -> int:
        return len(self.rows.ids)

    def matching(
        self, filters: Filters, files: NDArray[np.int64] | None, without: NDArray[np.int64]
    ) -> Mask | None:
        """(N,) whether each row matches, see `Filters.mask`; None where all do."""
        found = filters.mask(self.rows, files, without)
        return self.alive if found is None else found if self.alive is None else found & self.alive


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A store at some commit."""

    # revision, token: of the store's commit
    revision: int
    token: bytes
    # all people, ascending by id except for those inserted among older ones since
    parts: tuple[Part, ...]

    @property
    def head(self) -> tuple[int, bytes]:
        """Revision and token, as `Store.head` gives them."""
        return self.revision, self.token

    @property
    def last(self) -> int:
        """The largest id."""
        return max((int(part.rows.ids[-1]) for part in self.parts if len(part)), default=NO_ID)

    @property
    def inverted_lists(self) -> IndexFile | None:
        """Inverted lists with the centroids that all parts' lists share."""
        found = (part.inverted_lists for part in self.parts)
        return next((one for one in found if one is not None), None)


def load(folder: Path, store: Store) -> Snapshot:
    """Load a store's people: from files that are up to date, else from the database.

    Missing files are written, if the folder is writable. Call it outside of a transaction: people
    who were erased since it began would be written, too.
    """
    head = store.head()
    writable = _may_write(folder) and len(store.ids_after(NO_ID, SMALL)) == SMALL
    mapped: list[Part] = []
    useless: list[Span] = []
    for span in index_files.spans(folder):
        part = _mapped(folder, store, span)
        if part is None or (mapped and span[0] < _span(mapped[-1])[1]):
            useless.append(span)
        else:
            mapped.append(part)
    # The last file is written again, until it is full, when the store has grown.
    if writable and mapped and len(mapped[-1]) < PART:
        end = _span(mapped[-1])[1]
        if len(store.ids_after(end, SMALL)) == SMALL:
            useless.append(_span(mapped.pop()))
    parts: list[Part] = []
    loose: list[EmbeddingRows] = []
    begin = NO_ID
    for part in [*mapped, None]:
        end = LAST_ID if part is None else _span(part)[0]
        while begin < end:
            new, begin = _read(folder, store, (begin, end), writable)
            if isinstance(new, Part):
                parts.append(new)
            elif len(new.ids):
                loose.append(new)
        if part is not None:
            parts.append(part)
            begin = _span(part)[1]
    if loose:
        parts.append(in_memory(_joined(loose), store.model.weighted))
    if writable and useless:
        _delete(folder, set(useless) - {part.span for part in parts if part.span})
    return Snapshot(*head, _with_common_centroids(parts))


def _read(
    folder: Path, store: Store, span: Span, writable: bool
) -> tuple[Part | EmbeddingRows, int]:
    """The first people of a span without a file, and the last id that was read."""
    # With the lock nobody is erased before the file is written; without it, there is no file.
    with locked(folder) if writable else nullcontext(False) as held:
        with store.snapshot():
            head = store.head()
            rows = store.rows(after=span[0], last=span[1], limit=PART)
        complete = len(rows.ids) < PART
        if held and len(rows.ids) >= min(SMALL, PART):
            end = span[1] if complete and span[1] < LAST_ID else int(rows.ids[-1])
            part = _written(folder, store, rows, (span[0], end), head)
            return part, span[1] if complete else end
    if complete:
        return rows, span[1]
    return in_memory(rows, store.model.weighted), int(rows.ids[-1])


def refreshed(snapshot: Snapshot, store: Store) -> Snapshot:
    """Bring a snapshot up to the commit that a transaction sees, reading only what changed.

    The snapshot has to be of an earlier commit of the same database, see `Store.token`.
    """
    head = store.head()
    if head == snapshot.head:
        return snapshot
    touched = store.blocks_since(snapshot.revision)
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
    return Snapshot(*head, tuple(parts))


def worth_loading(folder: Path, snapshot: Snapshot) -> bool:
    """Whether too many people are in memory only, or mapped although they were erased."""
    loose = sum(len(part) for part in snapshot.parts if part.span is None)
    dead = any(part.alive is not None for part in snapshot.parts)
    return (dead or loose >= 2 * SMALL) and _may_write(folder)


def in_memory(rows: EmbeddingRows, weighted: bool) -> Part:
    """Make a part of rows."""
    weights = rows.scores.astype(np.float32) if weighted else None
    if len(rows.ids) <= FEW:
        return Part(rows, weights)
    scanner = _scanner(rows, weights)
    # Unweighted vectors are the scanner's codes: one copy is enough.
    return Part(rows if weighted else replace(rows, vectors=_codes(scanner)), weights, scanner)


def _scanner(rows: EmbeddingRows, weights: FloatArray | None) -> Any:
    """Faiss's index of the vectors, each multiplied by its weight."""
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
    """(N, D), without a copy; valid as long as the index lives."""
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


# Files. Their descriptions keep the keys of version 0.1: "changes" is the store's revision, "means"
# the checksum of the centroids. "token" is that of the revision: a file is used only by a database
# that has this commit, which a restored backup or another copy of the store may not have.


def _about(store: Store, span: Span) -> dict[str, Any]:
    """The description of a file that holds these people of this store."""
    model = store.model
    about = {"fingerprint": model.fingerprint, "dim": model.dim, "weighted": model.weighted}
    return {**about, "span": list(span)}


def _written(
    folder: Path, store: Store, rows: EmbeddingRows, span: Span, head: tuple[int, bytes]
) -> Part:
    """Write rows to a file and map it, with the lock only; in memory if that fails."""
    weighted = store.model.weighted
    # Where the file's codes are weighted, the embeddings themselves are beside them.
    columns = {name: getattr(rows, name) for name in _COLUMNS if name != "vectors" or weighted}
    scanner = _scanner(rows, rows.scores.astype(np.float32) if weighted else None)
    about = {**_about(store, span), "changes": head[0], "token": head[1].hex()}
    with suppress(OSError):
        index_files.write(index_files.path_of(folder, span, ROWS), scanner, columns, about)
        del scanner
        part = _mapped(folder, store, span)
        if part is not None:
            return part
    return in_memory(rows, weighted)


def _mapped(folder: Path, store: Store, span: Span) -> Part | None:
    """Map a file; None if it does not hold the store's people."""
    file = index_files.read(index_files.path_of(folder, span, ROWS))
    if file is None:
        return None
    about, written = _about(store, span), int(file.about.get("changes", -1))
    token = store.token(written)
    if token is None or token.hex() != file.about.get("token"):
        return None
    if any(file.about.get(key) != value for key, value in about.items()):
        return None
    if index_files.touches(span, store.blocks_since(written)):
        return None
    columns: dict[str, Any] = {"vectors": _codes(file.index), **file.columns}
    rows = EmbeddingRows(**columns)
    if not len(rows.ids):
        return None
    weights = rows.scores.astype(np.float32) if store.model.weighted else None
    lists = index_files.read(index_files.path_of(folder, span, LISTS))
    if lists is not None and lists.about.get("rows") != file.checksum:
        lists = None
    return Part(rows, weights, file.index, None, span, file.checksum, lists)


def _may_write(folder: Path) -> bool:
    path = folder / index_files.FOLDER
    return os.access(path if path.exists() else folder, os.W_OK | os.X_OK)


def _delete(folder: Path, spans: set[Span]) -> None:
    with locked(folder) as held:
        for span in spans if held else ():
            for suffix in (ROWS, LISTS):
                with suppress(OSError):
                    index_files.path_of(folder, span, suffix).unlink(missing_ok=True)


def _with_common_centroids(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Keep the inverted lists of the most common centroids: others cannot be searched together."""
    found = [part.inverted_lists for part in parts]
    centroids = [None if one is None else one.about["means"] for one in found]
    known = [one for one in centroids if one is not None]
    common = max(known, key=known.count, default=None)
    return tuple(
        part if one == common else replace(part, inverted_lists=None)
        for part, one in zip(parts, centroids, strict=True)
    )
