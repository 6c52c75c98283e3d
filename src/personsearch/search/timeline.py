"""Where and when a person was seen: matches of a search, joined to sightings at each camera."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personsearch.search.people_search import Match

GAP = 300.0
"""The most seconds between two views at one camera that are one sighting."""


@dataclass(frozen=True, eq=False)
class Sighting:
    """The person at one camera over some time, or in one file where pictures have no time."""

    camera: str | None  # None where not known
    begin: float | None  # seconds since 1970; None where the pictures have no time
    end: float | None
    path: Path | None  # the file, where the pictures have no time
    first: float | None  # seconds from the start of that file, if it is a video
    last: float | None
    matches: tuple[Match, ...]  # most similar first

    @property
    def similarity(self) -> float:
        """Similarity of the most similar view."""
        return self.matches[0].similarity

    @property
    def probability(self) -> float | None:
        """Probability that the most similar view is the person; None if not calibrated."""
        return self.matches[0].probability

    def as_json(self) -> dict[str, Any]:
        """Plain values; the views by their ids in the store."""
        return {
            "camera": self.camera,
            "begin": self.begin,
            "end": self.end,
            "path": None if self.path is None else str(self.path),
            "first": self.first,
            "last": self.last,
            "similarity": self.similarity,
            "probability": self.probability,
            "chance": self.probability,  # deprecated: the name of version 0.1
            "people": [match.person.id for match in self.matches],
        }


def timeline(
    matches: Sequence[Match],
    *,
    min_similarity: float = -1.0,
    min_probability: float | None = None,
    gap: float = GAP,
) -> list[Sighting]:
    """Return sightings in the order of time; those without a time come last, by file.

    Views at one camera that are at most `gap` seconds apart are one sighting; a track in a video
    lasts from its first view to its last. Matches below `min_similarity`, and below or without
    `min_probability`, are left out.
    """
    spans = sorted(
        (_span(one) for one in matches if _reaches(one, min_similarity, min_probability)),
        key=lambda span: (span.group, span.start, span.stop),
    )
    found: list[Sighting] = []
    for _, group in itertools.groupby(spans, key=lambda span: span.group):
        joined: list[_Span] = []
        for span in group:
            if joined and span.start - max(one.stop for one in joined) > gap:
                found.append(_sighting(joined))
                joined = []
            joined.append(span)
        found.append(_sighting(joined))
    return sorted(found, key=_order)


def _reaches(match: Match, similarity: float, probability: float | None) -> bool:
    if probability is not None and (match.probability is None or match.probability < probability):
        return False
    return match.similarity >= similarity


@dataclass(frozen=True, eq=False)
class _Span:
    """A match over its time: seconds since 1970 where `dated`, else from the start of its file."""

    match: Match
    dated: bool
    group: tuple[Any, ...]
    start: float
    stop: float


def _span(match: Match) -> _Span:
    person = match.person
    first = last = position = person.position or 0.0
    if person.track is not None:
        first, last = person.track.first, person.track.last
    camera = (person.camera is not None, person.camera or "")
    if person.time is None:
        return _Span(match, False, (1, *camera, str(person.path)), first, last)
    began = person.time - position
    return _Span(match, True, (0, *camera, ""), began + first, began + last)


def _sighting(spans: Iterable[_Span]) -> Sighting:
    ordered = sorted(spans, key=lambda span: (-span.match.similarity, span.match.person.id))
    best = ordered[0]
    start, stop = min(span.start for span in ordered), max(span.stop for span in ordered)
    matches = tuple(span.match for span in ordered)
    person = best.match.person
    if best.dated:
        return Sighting(person.camera, start, stop, None, None, None, matches)
    first, last = (None, None) if person.position is None else (start, stop)
    return Sighting(person.camera, None, None, person.path, first, last, matches)


def _order(sighting: Sighting) -> tuple[Any, ...]:
    if sighting.begin is not None and sighting.end is not None:
        return (0, sighting.begin, sighting.end, sighting.camera or "", "", 0.0)
    return (1, 0.0, 0.0, sighting.camera or "", str(sighting.path), sighting.first or 0.0)
