"""Filters of people, with the forms that SQLite, NumPy and Milvus evaluate, side by side.

A field that is None restricts nothing. An empty selection, such as ``cameras=[]``, selects nobody.
"""

import json
import operator
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import StoreError
from personsearch.store.people import EmbeddingRows

Mask = NDArray[np.bool_]

_SELECTIONS = (
    # field, SQL column, Milvus column
    ("cameras", "f.camera", "camera"),
    ("sources", "s.place", "source"),
    ("names", "f.name", "name"),
    ("people", "h.id", "id"),
)
_BOUNDS = (
    # field, comparison, SQL column, NumPy column, Milvus column
    ("since", ">=", "p.time", "times", "time"),
    ("until", "<", "p.time", "times", "time"),
    ("min_score", ">=", "h.score", "scores", "score"),
    ("min_height", ">=", "h.y2 - h.y1", "heights", "height"),
)
_COMPARE = {">=": operator.ge, "<": operator.lt}
_LARGEST = sys.float_info.max  # stands for infinity, which Milvus and JSON do not have


@dataclass(frozen=True)
class Filters:
    """Which people are selected; a text for a list, or a bound of NaN, raises `StoreError`."""

    cameras: Sequence[str] | None = None  # names of cameras
    # since, until: seconds since 1970, until excluded; people without a time are left out
    since: float | None = None
    until: float | None = None
    min_score: float | None = None  # of the detection
    min_height: float | None = None  # of the box, in pixels
    sources: Sequence[str] | None = None  # folders, files or live cameras as they were indexed
    names: Sequence[str] | None = None  # files inside the sources
    people: Sequence[int] | None = None  # ids

    def __post_init__(self) -> None:
        for name, *_ in _SELECTIONS:
            values = selection(name, getattr(self, name))
            if values is not None:
                plain = _person_id if name == "people" else _text
                values = tuple(plain(name, value) for value in values)
            object.__setattr__(self, name, values)
        # SQLite finds any number less than a text or bytes, so that only plain floats get there.
        for name, *_ in _BOUNDS:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _bound(name, value))

    @property
    def everyone(self) -> bool:
        """Whether nobody is left out; a least score or height of zero leaves nobody out."""
        selected = any(getattr(self, name) is not None for name, *_ in _SELECTIONS)
        timed = self.since not in (None, -_LARGEST) or self.until not in (None, _LARGEST)
        least = max(self.min_score or 0.0, self.min_height or 0.0)
        return not (selected or timed or least > 0)

    def of_files(self) -> "Filters | None":
        """The part that files decide; None where no file is left out."""
        part = Filters(cameras=self.cameras, sources=self.sources, names=self.names)
        return None if part == EVERYONE else part

    def sql(self) -> tuple[str, list[Any]]:
        """A WHERE clause over people h, pictures p, files f and sources s, and its values."""
        parts: list[str] = []
        values: list[Any] = []
        for name, column, _ in _SELECTIONS:
            if (wanted := getattr(self, name)) is not None:
                parts.append(f"{column} IN (SELECT value FROM json_each(?))")
                values.append(json.dumps(wanted))
        for name, comparison, column, _, _ in _BOUNDS:
            if (bound := getattr(self, name)) is not None:
                parts.append(f"{column} {comparison} ?")
                values.append(bound)
        return (f"WHERE {' AND '.join(parts)}" if parts else "", values)

    def mask(
        self, rows: EmbeddingRows, files: NDArray[np.int64] | None, without: NDArray[np.int64]
    ) -> Mask | None:
        """(N,) the selected rows; None where all are.

        `files` are the ids of the files that `of_files` selects, None for all; `without` are ids of
        people to leave out.
        """
        parts: list[Mask] = [] if files is None else [np.isin(rows.files, files)]
        for name, comparison, _, column, _ in _BOUNDS:
            if (bound := getattr(self, name)) is not None:
                parts.append(_COMPARE[comparison](getattr(rows, column), bound))
        if self.people is not None:
            parts.append(np.isin(rows.ids, np.array(self.people, np.int64)))
        if len(without):
            kept = np.isin(rows.ids, without, invert=True)
            parts += [] if kept.all() else [kept]
        return np.logical_and.reduce(parts) if parts else None

    def milvus(self, without: Sequence[int] = ()) -> tuple[str, Mapping[str, Any]]:
        """A boolean expression of Milvus with ``{name}`` for each value, and the values."""
        parts: list[str] = []
        values: dict[str, Any] = {}
        for name, _, column in _SELECTIONS:
            wanted = getattr(self, name)
            if wanted:
                parts.append(f"{column} in {{{name}}}")
                values[name] = list(wanted)
            elif wanted is not None:  # a server refuses an empty list
                return "id < {first}", {"first": 0}
        for name, comparison, _, _, column in _BOUNDS:
            if (bound := getattr(self, name)) is not None:
                parts.append(f"{column} {comparison} {{{name}}}")
                values[name] = bound
        if len(without):
            parts.append("id not in {without}")
            values["without"] = [int(one) for one in without]
        return " and ".join(parts), values

    def described(self) -> dict[str, Any]:
        """The fields that are given, as plain values."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
            if value is not None
        }


def selection(name: str, values: Iterable[Any] | None) -> tuple[Any, ...] | None:
    """Return the values of a selection; None where it was not given."""
    # The letters of a text would be taken for values.
    if isinstance(values, str) and values:
        raise StoreError(f"{name} is the text {values!r}, expected a list such as [{values!r}]")
    return None if values is None else tuple(values)


def _person_id(name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number < 2**63:
        raise StoreError(f"{name} has {value!r}, expected ids of people")
    return number


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str | os.PathLike):
        raise StoreError(f"{name} has {value!r}, expected texts")
    return str(value)


def _bound(name: str, value: Any) -> float:
    if isinstance(value, str | bytes) or not hasattr(value, "__float__") or value != value:
        raise StoreError(f"{name} is {value!r}, expected a number")
    return min(max(float(value), -_LARGEST), _LARGEST)


EVERYONE = Filters()  # nobody is left out
