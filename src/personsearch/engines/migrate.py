"""Copies everyone from one engine to another, and proves that they are there.

People go in ascending order of their ids and keep them, so what was copied is known by the largest
id that is there: after a kill the same call goes on from there. Should a batch have been cut, the
counts tell, and every batch is looked at once more.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from personsearch.engines.engine import Engine, PersonRecord
from personsearch.errors import StoreError
from personsearch.store import Filters

_BATCH = 512

Progress = Callable[[str, int, int], None]
"""Called with (``copying``, ``checking`` or ``comparing``, people done, people in all)."""


@dataclass
class MigrationReport:
    """What a migration did.

    Attributes:
        people: in both, at the end.
        copied: written now.
        compared: read from both sides and equal in everything; all of them.
        seconds: that it took.
    """

    people: int = 0
    copied: int = 0
    compared: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return dict(vars(self))


def migrate(
    source: Engine, target: Engine, *, batch: int = _BATCH, progress: Progress | None = None
) -> MigrationReport:
    """Copies everyone, then reads both sides and compares.

    What only a store in a folder knows of its files stays behind: which were indexed, could not be
    read, or were erased. Nobody may write to either side meanwhile.

    Args:
        source: from which people are read.
        target: to which they go; empty, or what an earlier call has left.
        batch: people written at once.
        progress: called after each batch.

    Raises:
        StoreError: another model, other people in the target, or someone who came out different.
    """
    if source.model.fingerprint != target.model.fingerprint or (
        (source.model.dim, source.model.weighted) != (target.model.dim, target.model.weighted)
    ):
        raise StoreError(
            f"{target.uri}: was made by model {target.model.name!r} "
            f"({target.model.fingerprint[:12]}), {source.uri} by {source.model.name!r} "
            f"({source.model.fingerprint[:12]}); migrate into an empty store"
        )
    began = time.perf_counter()
    report = MigrationReport(people=source.count())
    there = target.count()
    after = largest_id(target) if there else 0
    _copy(source, target, report, batch, after, there, progress)
    if target.count() != report.people:
        _fill(source, target, report, batch, progress)
    _compare(source, target, report, batch, progress)
    report.seconds = time.perf_counter() - began
    return report


def largest_id(engine: Engine) -> int:
    """The largest id there is; 0 if nobody is there."""
    least, most = 0, (1 << 63) - 1
    while least < most:
        middle = least + (most - least) // 2
        found = next(engine.iterate(after=middle, batch=1), None)
        if found:
            least = found[0].person.id
        else:
            most = middle
    return least


def _copy(
    source: Engine,
    target: Engine,
    report: MigrationReport,
    batch: int,
    after: int,
    done: int,
    progress: Progress | None,
) -> None:
    """Everyone above an id."""
    for records in source.iterate(after=after, batch=batch):
        report.copied += target.upsert(records)
        if progress:
            progress("copying", done + report.copied, report.people)


def _fill(
    source: Engine,
    target: Engine,
    report: MigrationReport,
    batch: int,
    progress: Progress | None,
) -> None:
    """Batches of which someone is missing: one was cut, or other people were in the target.

    Raises:
        StoreError: still not as many are there as were read.
    """
    seen = 0
    for records in source.iterate(batch=batch):
        there = target.count(Filters(people=[one.person.id for one in records]))
        if there != len(records):
            report.copied += target.upsert(records) - there
        seen += len(records)
        if progress:
            progress("checking", seen, report.people)
    if (found := target.count()) != seen:
        raise StoreError(
            f"{target.uri}: has {found} people, {source.uri} has {seen}; others were there, or "
            "somebody writes; migrate into an empty store while nobody does"
        )
    report.people = seen


def _compare(
    source: Engine,
    target: Engine,
    report: MigrationReport,
    batch: int,
    progress: Progress | None,
) -> None:
    """Reads everyone from both sides.

    Raises:
        StoreError: someone is not the same.
    """
    chained = itertools.chain.from_iterable
    mine, theirs = chained(source.iterate(batch=batch)), chained(target.iterate(batch=batch))
    for one, other in itertools.zip_longest(mine, theirs):
        if one is None or other is None or not same(one, other):
            named = other if one is None else one
            raise StoreError(
                f"{target.uri}: person {named.person.id} is not as in {source.uri}; migrate "
                "into an empty store while nobody writes"
            )
        report.compared += 1
        if progress and not report.compared % batch:
            progress("comparing", report.compared, report.people)


def same(one: PersonRecord, other: PersonRecord) -> bool:
    """Whether all that is kept of two people is equal, to the last bit."""
    arrays = ((one.vector, other.vector), (one.person.box, other.person.box))
    plain = [{**vars(record.person), "box": None} for record in (one, other)]
    return (
        all(np.array_equal(a, b) for a, b in arrays)
        and one.thumbnail == other.thumbnail
        and plain[0] == plain[1]
    )
