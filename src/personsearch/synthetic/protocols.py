"""Search protocols like those of CUHK-SYSU, for scenes with known visible shares.

Galleries come from other cameras than the query's, except in ``all``: the same camera shows a
person in the same light, which any colour histogram matches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from personsearch.datasets.galleries import other_cameras, other_scenes
from personsearch.datasets.protocols import Appearances, make_protocol
from personsearch.types import UNLABELLED, Query, Scene, SearchProtocol

CLEAR, HIDDEN = 0.75, 0.7
"""Smallest visible share of a query; largest visible share of an occluded query."""
SMALL_SHARE = 5
"""The smallest fifth of all labelled boxes counts as small."""
USUAL_GALLERY = 100
"""The occlusion and resolution subsets use the gallery size nearest to CUHK-SYSU's default."""

_PER_ID = 2  # queries of one identity, except where each camera has one


@dataclass(frozen=True, slots=True)
class _Sight:
    """One labelled box as a query, with its visible share and its height in pixels."""

    query: Query
    visible: float
    height: float


def make_protocols(
    scenes: Sequence[Scene],
    visible: Mapping[str, Sequence[float]],
    galleries: Sequence[int],
    rng: np.random.Generator,
) -> dict[str, SearchProtocol]:
    """Return the protocols of a test split, the usual one first.

    ``cross-camera`` has one query per identity and camera and searches all scenes of other
    cameras; ``all`` has the same queries and searches every other scene; ``gallery-N`` searches N
    scenes of other cameras, at most half of them targets; ``occlusion`` and ``resolution`` do the
    same for queries that are mostly hidden, or small. Queries without a target in their gallery
    and protocols without queries are left out.

    Args:
        scenes: the scenes of the test split, with cameras.
        visible: the visible share of each box, by scene name.
        galleries: sizes N; those above the number of scenes for some camera are left out.
        rng: random numbers.
    """
    clear, hidden, small = _queries(scenes, visible, rng)
    elsewhere: dict[int | None, list[str]] = {
        camera: [scene.name for scene in scenes if scene.camera != camera]
        for camera in {scene.camera for scene in scenes}
    }
    fewest = min((len(names) for names in elsewhere.values()), default=0)
    sizes = [size for size in galleries if size < fewest]
    usual = min(sizes or [max(1, fewest // 2)], key=lambda size: abs(size - USUAL_GALLERY))
    few = _first_of_each(clear, _PER_ID)
    shown = Appearances(scenes)
    names = [scene.name for scene in scenes]
    protocols = [
        make_protocol("cross-camera", scenes, clear, other_cameras(clear, scenes)),
        make_protocol("all", scenes, clear, other_scenes(clear, names)),
    ]
    for name, queries, size in (
        *((f"gallery-{size}", few, size) for size in sizes),
        ("occlusion", hidden, usual),
        ("resolution", small, usual),
    ):
        drawn = [_draw(query, elsewhere[query.camera], shown, size, rng) for query in queries]
        protocols.append(make_protocol(name, scenes, queries, drawn))
    answerable = (_answerable(protocol) for protocol in protocols)
    return {protocol.name: protocol for protocol in answerable if len(protocol.queries)}


def _queries(
    scenes: Sequence[Scene], visible: Mapping[str, Sequence[float]], rng: np.random.Generator
) -> tuple[list[Query], list[Query], list[Query]]:
    """Return clear queries, one per identity and camera; hidden ones; small ones."""
    sights = [
        _Sight(
            Query(scene.name, box, identity, scene.camera),
            visible[scene.name][row],
            float(box[3] - box[1]),
        )
        for scene in scenes
        for row, (box, identity) in enumerate(zip(scene.boxes, scene.ids.tolist(), strict=True))
        if identity != UNLABELLED
    ]
    heights = sorted(sight.height for sight in sights)
    limit = heights[len(heights) // SMALL_SHARE] if heights else 0.0
    mixed = [sights[int(k)] for k in rng.permutation(len(sights))]
    mixed.sort(key=lambda sight: sight.query.id)
    clear: dict[tuple[int, int | None], Query] = {}
    for sight in mixed:
        if sight.visible >= CLEAR:
            clear.setdefault((sight.query.id, sight.query.camera), sight.query)
    hidden = [sight.query for sight in mixed if sight.visible <= HIDDEN]
    small = [s.query for s in mixed if s.visible >= CLEAR and s.height <= limit]
    return list(clear.values()), _first_of_each(hidden, _PER_ID), _first_of_each(small, _PER_ID)


def _first_of_each(queries: Sequence[Query], count: int) -> list[Query]:
    taken: dict[int, list[Query]] = {}
    for query in queries:
        taken.setdefault(query.id, []).append(query)
    return [query for same in taken.values() for query in same[:count]]


def _draw(
    query: Query, names: Sequence[str], shown: Appearances, size: int, rng: np.random.Generator
) -> list[str]:
    """Draw `size` names, those with the target first and at most half of all."""
    targets = shown.targets(query, names)
    others = [name for name in names if name not in targets]
    wanted = [name for name in names if name in targets]
    kept = [wanted[int(k)] for k in rng.permutation(len(wanted))[: max(1, size // 2)]]
    return kept + [others[int(k)] for k in rng.permutation(len(others))[: size - len(kept)]]


def _answerable(protocol: SearchProtocol) -> SearchProtocol:
    kept = [k for k, targets in enumerate(protocol.targets) if targets]
    return SearchProtocol(
        name=protocol.name,
        queries=[protocol.queries[k] for k in kept],
        galleries=[protocol.galleries[k] for k in kept],
        targets=[protocol.targets[k] for k in kept],
    )
