"""Search protocols like those of CUHK-SYSU, for scenes with known visible shares.

Galleries come from other cameras than the query's, except in ``all``: the same camera shows a
person in the same light, which any colour histogram matches.
"""

from collections.abc import Mapping, Sequence
from itertools import compress

from personsearch.datasets.galleries import other_cameras, other_scenes
from personsearch.datasets.protocols import Appearances
from personsearch.synthetic.randomness import Random
from personsearch.types import UNLABELLED, Query, Scene, SearchProtocol

CLEAR, HIDDEN = 0.75, 0.6
"""Smallest visible share of a query; an occluded query shows less than the second, as more than
40 % of it is covered in CUHK-SYSU (Xiao et al. 2016, section 3.1).
"""
SMALL_SHARE = 10
"""Small is the tenth of all possible queries with the smallest heights, as in CUHK-SYSU."""
USUAL_GALLERY = 100
"""The occlusion and resolution subsets use the gallery size nearest to CUHK-SYSU's default."""

_PER_ID = 2  # queries of one identity, except where each camera has one


def make_protocols(
    scenes: Sequence[Scene],
    visible: Mapping[str, Sequence[float]],
    galleries: Sequence[int],
    rng: Random,
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
    few = _first_of_each(clear)
    shown = Appearances(scenes)

    def draw(queries: Sequence[Query], size: int) -> list[list[str]]:
        return [_draw(query, elsewhere[query.camera], shown, size, rng) for query in queries]

    names = [scene.name for scene in scenes]
    made: list[tuple[str, list[Query], Sequence[Sequence[str]]]] = [
        ("cross-camera", clear, other_cameras(clear, scenes)),
        ("all", clear, other_scenes(clear, names)),
        *((f"gallery-{size}", few, draw(few, size)) for size in sizes),
        ("occlusion", hidden, draw(hidden, usual)),
        ("resolution", small, draw(small, usual)),
    ]
    protocols = {}
    for name, queries, searched in made:
        targets = [shown.targets(q, names) for q, names in zip(queries, searched, strict=True)]
        if any(targets):
            protocols[name] = SearchProtocol(
                name=name,
                queries=list(compress(queries, targets)),
                galleries=list(compress(searched, targets)),
                targets=[found for found in targets if found],
            )
    return protocols


def _queries(
    scenes: Sequence[Scene], visible: Mapping[str, Sequence[float]], rng: Random
) -> tuple[list[Query], list[Query], list[Query]]:
    """Return clear queries, one per identity and camera; hidden ones; small ones."""
    boxes = [
        (Query(scene.name, box, identity, scene.camera), share)
        for scene in scenes
        for box, identity, share in zip(
            scene.boxes, scene.ids.tolist(), visible[scene.name], strict=True
        )
        if identity != UNLABELLED
    ]
    mixed = sorted(rng.shuffled(boxes), key=lambda pair: pair[0].id)
    clear = [query for query, share in mixed if share >= CLEAR]
    heights = sorted(_height(query) for query in clear)
    limit = heights[len(heights) // SMALL_SHARE] if heights else 0.0
    each: dict[tuple[int, int | None], Query] = {}
    for query in clear:
        each.setdefault((query.id, query.camera), query)
    hidden = [query for query, share in mixed if share < HIDDEN]
    small = [query for query in clear if _height(query) <= limit]
    return list(each.values()), _first_of_each(hidden), _first_of_each(small)


def _height(query: Query) -> float:
    return float(query.box[3] - query.box[1])


def _first_of_each(queries: Sequence[Query]) -> list[Query]:
    taken: dict[int, list[Query]] = {}
    for query in queries:
        taken.setdefault(query.id, []).append(query)
    return [query for same in taken.values() for query in same[:_PER_ID]]


def _draw(
    query: Query, names: Sequence[str], shown: Appearances, size: int, rng: Random
) -> list[str]:
    """Draw `size` names, those with the target first and at most half of all."""
    targets = shown.targets(query, names)
    kept = rng.shuffled([name for name in names if name in targets])[: max(1, size // 2)]
    others = rng.shuffled([name for name in names if name not in targets])
    return kept + others[: size - len(kept)]
