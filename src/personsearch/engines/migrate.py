"""Copies everyone from one engine to another, and compares both.

People are copied in ascending order of their ids and keep them, so the largest id in the target
tells what was copied: after a kill the same call continues there. If a batch was cut, the counts
differ, and every batch is checked once more.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
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
    """The result of a migration."""

    people: int = 0  # in both, at the end
    copied: int = 0  # people written by this call
    compared: int = 0  # people read from both sides and equal in everything; all of them
    seconds: float = 0.0  # duration

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return asdict(self)


def migrate(
    source: Engine, target: Engine, *, batch: int = _BATCH, progress: Progress | None = None
) -> MigrationReport:
    """Copy everyone, then read and compare both sides.

    What only a store in a folder knows of its files stays behind: which were indexed, unreadable or
    erased. Nobody may write to either side meanwhile. The target is empty, or left by an
    interrupted call; another model, other people in it, or a person who differs raise `StoreError`.
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
    tell = progress or (lambda *_: None)
    there = target.count()
    for records in source.iterate(after=largest_id(target) if there else 0, batch=batch):
        report.copied += target.upsert(records)
        tell("copying", there + report.copied, report.people)
    if target.count() != report.people:
        _fill(source, target, report, batch, tell)
    _compare(source, target, report, batch, tell)
    report.seconds = time.perf_counter() - began
    return report


def largest_id(engine: Engine) -> int:
    """Return the largest id; 0 if nobody is there."""
    least, most = 0, (1 << 63) - 1
    while least < most:
        middle = least + (most - least) // 2
        found = next(engine.iterate(after=middle, batch=1), None)
        if found:
            least = found[0].person.id
        else:
            most = middle
    return least


def _fill(
    source: Engine, target: Engine, report: MigrationReport, batch: int, tell: Progress
) -> None:
    """Write the batches that are incomplete in the target."""
    seen = 0
    for records in source.iterate(batch=batch):
        there = target.count(Filters(people=[one.person.id for one in records]))
        if there != len(records):
            report.copied += target.upsert(records) - there
        seen += len(records)
        tell("checking", seen, report.people)
    if (found := target.count()) != seen:
        raise StoreError(
            f"{target.uri}: has {found} people, {source.uri} has {seen}; others were there, or "
            "another process writes; migrate into an empty store while none does"
        )
    report.people = seen


def _compare(
    source: Engine, target: Engine, report: MigrationReport, batch: int, tell: Progress
) -> None:
    chained = itertools.chain.from_iterable
    mine, theirs = chained(source.iterate(batch=batch)), chained(target.iterate(batch=batch))
    for one, other in itertools.zip_longest(mine, theirs):
        if one is None or other is None or not same(one, other):
            person = (one or other).person
            raise StoreError(
                f"{target.uri}: person {person.id} is not as in {source.uri}; migrate into an "
                "empty store while no process writes"
            )
        report.compared += 1
        if not report.compared % batch:
            tell("comparing", report.compared, report.people)


def same(one: PersonRecord, other: PersonRecord) -> bool:
    """Whether all that is kept of two people is equal, to the last bit."""
    plain = [{**vars(record.person), "box": None} for record in (one, other)]
    return (
        np.array_equal(one.vector, other.vector)
        and np.array_equal(one.person.box, other.person.box)
        and one.thumbnail == other.thumbnail
        and plain[0] == plain[1]
    )
