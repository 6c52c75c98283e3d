"""What keeps people and finds those who are alike: the interface of every engine.

`store_engine.py` is one over a store on this machine; others lie on a server.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from personsearch.store import EVERYONE, Filters, ModelIdentity, StoredPerson
from personsearch.types import FloatArray


@dataclass(frozen=True, eq=False)
class PersonRecord:
    """All that is kept of a person.

    Attributes:
        person: who, where and when.
        vector: (D,) float16 of unit length.
        thumbnail: as JPEG; empty if there is none.
    """

    person: StoredPerson
    vector: NDArray[np.float16]
    thumbnail: bytes


@dataclass(frozen=True, eq=False)
class Ranking:
    """Who is most like a query, best first; of equals the lower id first.

    Attributes:
        ids: (N,) int64.
        similarities: (N,) float32, cosines.
        rank_scores: (N,) float32, by which they are ranked.
    """

    ids: NDArray[np.int64]
    similarities: FloatArray
    rank_scores: FloatArray


class Engine(Protocol):
    """Keeps people and finds those who are alike."""

    @property
    def place(self) -> str:
        """Where the people are kept, for messages."""

    @property
    def model(self) -> ModelIdentity:
        """Which model made the embeddings."""

    def upsert(self, records: Sequence[PersonRecord]) -> int:
        """Adds people, or replaces those of the same id; says how many."""

    def delete(self, ids: Sequence[int]) -> int:
        """Erases people; says how many there were."""

    def erase(self, filters: Filters) -> int:
        """Erase the matching people, each with the whole track; return the number of views.

        Raises:
            StoreError: the filters select everyone.
        """

    def erase_files(self, source: str, names: Sequence[str] | None = None) -> int:
        """Erase files of a source with everyone in them; return the number of views.

        Args:
            source: as it was indexed.
            names: of its files; None for all of them.

        Raises:
            StoreError: there is no such source or file.
        """

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
            StoreError: queries of another length than the embeddings.
        """

    def get(self, ids: Sequence[int]) -> list[StoredPerson]:
        """The people of some ids, in their order.

        Raises:
            StoreError: there is none of that id.
        """

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float16]:
        """Embeddings (N, D) of some ids, in their order.

        Raises:
            StoreError: there is none of that id.
        """

    def thumbnail(self, person: int) -> bytes:
        """A person's picture as JPEG; empty if there is none."""

    def track_members(self, track: int) -> list[int]:
        """Ids of the views of a track."""

    def people_in(self, path: Path) -> list[int]:
        """Ids of everyone in a photo or video file."""

    def count(self, filters: Filters = EVERYONE) -> int:
        """How many people are meant."""

    def cameras(self) -> dict[str, int]:
        """People by camera."""

    def sources(self) -> dict[str, int]:
        """People by source."""

    def iterate(self, *, after: int = 0, batch: int = 1024) -> Iterator[list[PersonRecord]]:
        """Everyone whose id is larger than `after`, ascending, in batches."""

    def close(self) -> None:
        """Gives back what is open."""
