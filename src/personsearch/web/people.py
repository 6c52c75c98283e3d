"""Schemas of people, matches and timelines."""

from collections.abc import Sequence

from starlette.exceptions import HTTPException

from personsearch.engines.engine import Engine
from personsearch.search.people_search import Match
from personsearch.store import Filters, StoredPerson
from personsearch.web.schemas import CameraLine, Hit, Person, Sighting, Span


def to_person(person: StoredPerson) -> Person:
    """Return a person, with the addresses of their pictures."""
    address = f"/api/v1/people/{person.id}"
    track, video = person.track, person.frame is not None
    return Person(
        id=str(person.id),
        source=person.source,
        name=person.name,
        camera=person.camera,
        time=person.time,
        frame=person.frame,
        position=person.position,
        width=person.size[0],
        height=person.size[1],
        box=[round(float(side), 2) for side in person.box],
        score=round(float(person.score), 4),
        track=None if track is None else Span(**vars(track)),
        video=video,
        thumbnail=f"{address}/thumbnail",
        picture=f"{address}/picture",
        clip=f"{address}/clip" if video else None,
    )


def to_hits(matches: Sequence[Match]) -> list[Hit]:
    """Return matches with their ranks."""
    return [
        Hit(
            rank=rank,
            similarity=round(match.similarity, 6),
            rank_score=round(match.rank_score, 6),
            probability=match.probability,
            person=to_person(match.person),
        )
        for rank, match in enumerate(matches, start=1)
    ]


def time_span(person: StoredPerson) -> tuple[float, float] | None:
    """Return when a person was seen first and last, in seconds since 1970; None if not known."""
    if person.time is None:
        return None
    if person.track is None or person.position is None:
        return person.time, person.time
    start = person.time - person.position
    return start + person.track.first, start + person.track.last


def to_timeline(matches: Sequence[Match]) -> list[CameraLine]:
    """Return the sightings of the matches by camera; those without a time are left out."""
    lines: dict[str | None, list[Sighting]] = {}
    for rank, match in enumerate(matches, start=1):
        span = time_span(match.person)
        if span is not None:
            sighting = Sighting(
                person=str(match.person.id),
                rank=rank,
                since=span[0],
                until=span[1],
                similarity=round(match.similarity, 6),
            )
            lines.setdefault(match.person.camera, []).append(sighting)
    return [
        CameraLine(camera=camera, sightings=sorted(lines[camera], key=lambda one: one.since))
        for camera in sorted(lines, key=lambda name: (name is None, name or ""))
    ]


def check_people_exist(engine: Engine, ids: Sequence[int]) -> None:
    """Answer 404 unless all ids exist."""
    if not ids or engine.count(Filters(people=ids)) == len(set(ids)):
        return
    for one in ids:
        if not engine.count(Filters(people=[one])):
            raise HTTPException(404, f"there is no person {one}; they may have been erased")
