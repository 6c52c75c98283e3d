"""A search request, checked once: the same for the command line, the API and Python."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from personsearch.errors import DataError, StoreError
from personsearch.search.query import QueryPicture, check_corners
from personsearch.search.reranking import Rerank
from personsearch.store import EVERYONE, Filters
from personsearch.types import FloatArray

Box = Sequence[float]
"""x1, y1, x2, y2 in pixels."""
Example = tuple[QueryPicture | Path | str, Box | None]
"""A picture that shows the person, and the box; None for the highest-scoring person in it."""


@dataclass(frozen=True)
class Origin:
    """The picture (by the hash of its file) and box of an embedding, for the audit log."""

    sha256: str
    box: Box

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        box = [round(float(side), 2) for side in self.box]
        return {"picture_sha256": self.sha256, "box": box}


@dataclass(frozen=True, eq=False, kw_only=True)
class SearchRequest:
    """A search of an archive: examples of a person, filters, and how matches are ranked.

    People named by id, with every view of their tracks, and everyone in a query picture that is
    indexed are left out of the matches.

    Raises:
        StoreError: no example at all.
        DataError: a field with an impossible value.
    """

    pictures: Sequence[Example] = ()  # that show the person
    people: Sequence[int] = ()  # ids in the archive that show the person, too
    unlike: Sequence[int] = ()  # ids in the archive that show others
    embeddings: FloatArray | None = None  # (N, D) of more examples
    origins: Sequence[Origin] = ()  # where the embeddings come from, if that is known
    filters: Filters = EVERYONE
    top: int = 20  # the most matches
    grouped: bool = True  # of a track in a video, only the most similar view
    one_a_file: bool = False  # of a photo or video, only the most similar person
    rerank: Rerank | None = None  # rank the best few hundred again
    expected: float = 1.0  # how many of the searched are assumed to be the person (probabilities)

    def __post_init__(self) -> None:
        if self.embeddings is not None:
            embeddings = np.asarray(self.embeddings, np.float32)
            if embeddings.ndim != 2:
                raise DataError(f"embeddings have the shape {embeddings.shape}, expected (N, D)")
            object.__setattr__(self, "embeddings", embeddings)
        if not (len(self.pictures) or len(self.people) or self.num_embeddings):
            raise StoreError(
                "no example of the person; expected a picture, a person of the archive, or an "
                "embedding"
            )
        for _, box in self.pictures:
            if box is not None:
                check_corners(box)
        if self.top < 1:
            raise DataError(f"top is {self.top}, expected at least 1")
        if self.rerank is not None and self.rerank not in get_args(Rerank):
            raise DataError(f"rerank is {self.rerank!r}, expected {' or '.join(get_args(Rerank))}")
        if not 0 < self.expected < math.inf:
            raise DataError(f"expected is {self.expected}, expected a number above 0")

    @property
    def num_embeddings(self) -> int:
        """How many embeddings are given."""
        return 0 if self.embeddings is None else len(self.embeddings)

    def as_json(self) -> dict[str, Any]:
        """The part of the audit line that needs no pictures; never an embedding."""
        plain = {
            "people": [int(one) for one in self.people],
            "unlike": [int(one) for one in self.unlike],
            "filters": self.filters.described(),
            "top": self.top,
        }
        unknown = self.num_embeddings - len(self.origins)
        return plain | ({"embeddings": unknown} if unknown else {})
