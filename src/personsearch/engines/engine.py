"""The interface of the engines, which keep people and rank them by similarity."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from personsearch.engines.state import state_folder
from personsearch.errors import StoreError
from personsearch.store import EVERYONE, Filters, ModelIdentity, StoredPerson
from personsearch.store.audit import AuditLog
from personsearch.store.people import in_order
from personsearch.types import FloatArray


@dataclass(frozen=True, eq=False)
class PersonRecord:
    """All that is kept of a person."""

    person: StoredPerson  # where and when the person was seen
    vector: NDArray[np.float16]  # (D,) float16 embedding of unit length
    thumbnail: bytes  # JPEG; empty if there is none


@dataclass(frozen=True, eq=False)
class Ranking:
    """The people most similar to a query, best first; equals by ascending id."""

    ids: NDArray[np.int64]  # (N,) int64
    similarities: FloatArray  # (N,) float32 cosines
    rank_scores: FloatArray  # (N,) float32, the order

    @classmethod
    def best(
        cls, ids: NDArray[np.int64], similarities: FloatArray, rank_scores: FloatArray, top: int
    ) -> Self:
        """The `top` best of N candidates."""
        order = np.lexsort((ids, -rank_scores))[: max(top, 0)]
        return cls(ids[order], similarities[order], rank_scores[order])


class Engine(ABC):
    """Keeps people and ranks them by similarity; for several threads."""

    uri: str  # the folder, server or file, as the user named it
    model: ModelIdentity  # makes the embeddings
    _audit: AuditLog | None = None

    @property
    def audit(self) -> AuditLog:
        """The log to which every erasure is written; by default in the `state_folder`."""
        if self._audit is None:
            self._audit = AuditLog(state_folder(self.uri))
        return self._audit

    @audit.setter
    def audit(self, log: AuditLog) -> None:
        self._audit = log

    def upsert(self, records: Sequence[PersonRecord]) -> int:
        """Add people, or replace those of the same id; return their number.

        An embedding of another length raises `StoreError`.
        """
        for record in records:
            if record.vector.shape != (self.model.dim,):
                raise StoreError(
                    f"{self.uri}: received an embedding of shape {record.vector.shape}, expected "
                    f"({self.model.dim},)"
                )
        self._upsert(records)
        return len(records)

    @abstractmethod
    def _upsert(self, records: Sequence[PersonRecord]) -> None: ...

    def delete(self, ids: Sequence[int], *, caller: str | None = None) -> int:
        """Erase people with every view of their tracks; return the number of views."""
        return self.erase(Filters(people=ids), caller=caller) if len(ids) else 0

    @abstractmethod
    def erase(self, filters: Filters, *, caller: str | None = None) -> int:
        """Erase the matching people; return the number of views.

        Selecting one view of a track by id erases the whole track. `caller` is for the audit log,
        by default the user of this machine. Filters that restrict nothing raise `StoreError`.
        """

    @abstractmethod
    def erase_files(
        self, source: str, names: Sequence[str] | None = None, *, caller: str | None = None
    ) -> int:
        """Erase files of a source with everyone in them; return the number of views.

        `names` None stands for all files, an empty list for none; an unknown source or file raises
        `StoreError`.
        """

    def search(
        self,
        queries: FloatArray,
        *,
        top: int = 20,
        filters: Filters = EVERYONE,
        without: Sequence[int] = (),
    ) -> list[Ranking]:
        """Rank the matching people for each query (Q, D), and return the `top` best.

        Queries of another length than the embeddings raise `StoreError`.
        """
        queries = np.asarray(queries, np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.model.dim:
            raise StoreError(
                f"{self.uri}: received queries of shape {queries.shape}, expected "
                f"(Q, {self.model.dim})"
            )
        return self._search(queries, top, filters, without)

    @abstractmethod
    def _search(
        self, queries: FloatArray, top: int, filters: Filters, without: Sequence[int]
    ) -> list[Ranking]: ...

    def snapshot(self) -> AbstractContextManager[None]:
        """A block in which all reads of this thread see one state of the archive.

        So whoever a search finds can be read. Keep it short: in a store, copies of erased people
        are overwritten after it. This engine may have none: then a person who is erased between
        two calls is there in the first and not in the second.
        """
        return nullcontext()

    def get(self, ids: Sequence[int]) -> list[StoredPerson]:
        """The people with these ids, in their order; `GoneError` if one is not there."""
        return in_order(self.uri, ids, self.find(ids))

    @abstractmethod
    def find(self, ids: Sequence[int]) -> dict[int, StoredPerson]:
        """Those of these people who are there, by id."""

    @abstractmethod
    def vectors(self, ids: Sequence[int]) -> NDArray[np.float16]:
        """Embeddings (N, D) of these ids, in their order; `GoneError` if one is not there."""

    @abstractmethod
    def thumbnail(self, person: int) -> bytes:
        """A person's thumbnail as JPEG; empty if there is none."""

    @abstractmethod
    def track_members(self, track: int) -> list[int]:
        """Ids of the views of a track, ascending."""

    @abstractmethod
    def people_in(self, path: Path) -> list[int]:
        """Ids of the people in a photo or video file, under any source."""

    @abstractmethod
    def count(self, filters: Filters = EVERYONE) -> int:
        """Number of matching people."""

    @abstractmethod
    def cameras(self) -> dict[str, int]:
        """Number of people by camera."""

    @abstractmethod
    def sources(self) -> dict[str, int]:
        """Number of people by source."""

    @abstractmethod
    def iterate(self, *, after: int = 0, batch: int = 1024) -> Iterator[list[PersonRecord]]:
        """The people whose id is larger than `after`, ascending, in batches."""

    def erasure(self) -> bytes:
        """Random token that every erasure renews; empty if the engine has none."""
        return b""

    def forget(self) -> None:
        """Delete from memory whoever was erased, also by other processes."""
        return

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
