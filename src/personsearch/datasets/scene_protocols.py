"""Search protocols in the scenes format.

name               name in tables
split              the split that is searched; ``test`` when absent
queries            annotation ids; or {"image_id", "bbox", "person_id"} for a box of its own
galleries          one list of image ids per query; or instead
gallery            ``"all"``: every scene of the split but the query's own;
                   ``"cross-camera"``: the split's scenes of other cameras
targets            optional, the correct boxes of each query, as annotation ids or
                   {"image_id", "bbox"}; otherwise the box with the query's person_id in each
                   gallery scene (the first one if a scene contains an id twice)
ignored            optional, ``"unlabelled"`` (every unlabelled box of the split) or boxes of each
                   query like those of `targets`
known_only         optional, true to search only the detections of annotated people who are not
                   ignored
average_precision  optional, ``"step"`` or ``"trapezoid"``
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.datasets.dataset import corners_of
from personsearch.datasets.galleries import Excluding, other_cameras, other_scenes
from personsearch.datasets.protocols import Appearances, LazyProtocols
from personsearch.errors import AnnotationError, DataError
from personsearch.types import UNLABELLED, FloatArray, Query, Scene, SearchProtocol

_Boxes = Mapping[str, FloatArray]


def to_bbox(box: FloatArray) -> list[float]:
    """Return ``x, y, w, h`` in doubles, which give the float32 corners back bit by bit."""
    x1, y1, x2, y2 = (float(side) for side in box)
    return [x1, y1, x2 - x1, y2 - y1]


class Numbering:
    """Image and annotation numbers of scenes and boxes."""

    def __init__(self) -> None:
        self.images: dict[str, int] = {}
        self.scenes: dict[int, Scene] = {}
        self.splits: dict[str, str] = {}
        self.boxes: dict[int, tuple[Scene, int]] = {}
        self._numbers: dict[str, list[int | None]] = {}
        self._last = 0

    def add(
        self, image: int, split: str, scene: Scene, numbers: Sequence[int | None] | None = None
    ) -> None:
        """Add a scene; annotations have the given numbers, or are counted on from the last."""
        if scene.name in self.images:
            raise DataError(f"two scenes are called {scene.name!r}; scene names must be unique")
        if numbers is None:
            numbers = range(self._last + 1, self._last + 1 + len(scene.boxes))
            self._last += len(scene.boxes)
        self.images[scene.name], self.scenes[image] = image, scene
        self.splits[scene.name] = split
        self._numbers[scene.name] = list(numbers)
        self.boxes |= {n: (scene, row) for row, n in enumerate(numbers) if n is not None}

    def image(self, name: str, protocol: str) -> int:
        if name not in self.images:
            raise DataError(f"protocol {protocol!r} names scene {name!r}, which is in no split")
        return self.images[name]

    def annotation(self, name: str, box: FloatArray, id_: int | None, protocol: str) -> Any:
        """Return the annotation number of a box, or the box itself if no annotation has it."""
        image = self.image(name, protocol)
        scene = self.scenes[image]
        same = (scene.boxes == box).all(axis=1)
        if id_ is not None:
            same &= scene.ids == id_
        for row in np.flatnonzero(same):
            return self._numbers[name][row]
        free: dict[str, Any] = {"image_id": image, "bbox": to_bbox(box)}
        return free if id_ is None else free | {"person_id": id_}


def to_json(name: str, protocol: SearchProtocol, numbering: Numbering) -> dict[str, Any]:
    """Return the entry of a protocol in the file; the inverse of `from_json`."""
    split = numbering.splits.get(protocol.queries[0].scene, "test") if protocol.queries else "test"
    scenes = [s for s in numbering.scenes.values() if numbering.splits[s.name] == split]
    table: dict[str, Any] = {"name": name}
    if split != "test":
        table["split"] = split
    table["queries"] = [numbering.annotation(q.scene, q.box, q.id, name) for q in protocol.queries]
    kind = _kind(protocol, scenes)
    if kind:
        table["gallery"] = kind
    else:
        table["galleries"] = [[numbering.image(n, name) for n in g] for g in protocol.galleries]

    def annotations(boxes: _Boxes) -> list[Any]:
        pairs = ((scene, box) for scene, some in boxes.items() for box in some.reshape(-1, 4))
        return [numbering.annotation(scene, box, None, name) for scene, box in pairs]

    derived = Appearances(scenes).all_targets(protocol.queries, protocol.galleries)
    if not all(_same(a, b) for a, b in zip(derived, protocol.targets, strict=True)):
        table["targets"] = [annotations(targets) for targets in protocol.targets]
    if protocol.ignored:
        unlabelled = unlabelled_boxes(scenes)
        distinct = {id(ignored): ignored for ignored in protocol.ignored}
        if all(_same(ignored, unlabelled) for ignored in distinct.values()):
            table["ignored"] = "unlabelled"
        else:
            table["ignored"] = [annotations(ignored) for ignored in protocol.ignored]
    if protocol.known_only:
        table["known_only"] = True
    if protocol.average_precision != "step":
        table["average_precision"] = protocol.average_precision
    return table


def unlabelled_boxes(scenes: Sequence[Scene]) -> dict[str, FloatArray]:
    """Return the boxes (N, 4) of unlabelled people, for each scene that has any."""
    found = {scene.name: scene.boxes[scene.ids == UNLABELLED] for scene in scenes}
    return {name: boxes for name, boxes in found.items() if len(boxes)}


def _same(a: _Boxes, b: _Boxes) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def _kind(protocol: SearchProtocol, scenes: Sequence[Scene]) -> str | None:
    """Return ``all`` or ``cross-camera`` if the galleries are exactly that."""
    lazy = [g for g in protocol.galleries if isinstance(g, Excluding)]
    names = [scene.name for scene in scenes]
    bases = {id(gallery.names): gallery.names for gallery in lazy}
    others = not lazy or len(lazy) < len(protocol.galleries)
    if others or any(list(base) != names for base in bases.values()):
        return None
    for kind, galleries in (
        ("all", other_scenes(protocol.queries, names)),
        ("cross-camera", other_cameras(protocol.queries, scenes)),
    ):
        if all(a.excluded == b.excluded for a, b in zip(lazy, galleries, strict=True)):
            return kind
    return None


def from_json(
    rows: Any, numbering: Numbering, splits: Mapping[str, Sequence[Scene]], path: Path
) -> LazyProtocols:
    """Return the protocols of a file; each is built on first access.

    Args:
        rows: ``protocols`` of the file.
        numbering: numbers of the scenes before ids were renumbered.
        path: the file, for error messages.

    Raises:
        AnnotationError: not a list of named protocols; or, on access, a protocol names images or
            annotations that the file does not have.
    """
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows
    ):
        raise AnnotationError(f"{path}: 'protocols' must be a list of objects with a 'name'")
    return LazyProtocols({r["name"]: partial(_build, r, numbering, splits, path) for r in rows})


def _build(
    row: dict[str, Any], numbering: Numbering, splits: Mapping[str, Sequence[Scene]], path: Path
) -> SearchProtocol:
    where = f"{path}: protocol {row['name']!r}"
    scenes = splits.get(str(row.get("split", "test")), ())
    by_name = {scene.name: scene for scene in scenes}
    try:
        queries = [_query(value, numbering, by_name) for value in row["queries"]]
        galleries = _galleries(row, queries, scenes, numbering)
        if len(galleries) != len(queries):
            raise AnnotationError(
                f"{len(queries)} queries but {len(galleries)} galleries, expected one per query"
            )
        if "targets" in row:
            targets = [dict(_boxes(v, numbering)) for v in row["targets"]]
        else:
            targets = Appearances(scenes).all_targets(queries, galleries)
        ignored = _ignored(row.get("ignored"), queries, scenes, numbering)
        known_only = row.get("known_only", False)
        if not isinstance(known_only, bool):
            raise AnnotationError(f"known_only is {known_only!r}, expected true or false")
        return SearchProtocol(
            name=row["name"],
            queries=queries,
            galleries=galleries,
            targets=targets,
            ignored=ignored,
            average_precision=str(row.get("average_precision", "step")),
            annotated={scene.name: scene.boxes for scene in scenes} if ignored else None,
            known_only=known_only,
        )
    except KeyError as error:
        raise AnnotationError(
            f"{where}: {error.args[0]!r} is missing, or no image or annotation of the split"
        ) from None
    except DataError as error:
        raise AnnotationError(f"{where}: {error}") from None
    except (TypeError, ValueError) as error:
        raise AnnotationError(f"{where}: is malformed ({error})") from None


def _query(value: Any, numbering: Numbering, by_name: Mapping[str, Scene]) -> Query:
    if isinstance(value, dict):
        scene = by_name[numbering.scenes[value["image_id"]].name]
        return Query(scene.name, corners_of(value["bbox"]), int(value["person_id"]), scene.camera)
    found, row = numbering.boxes[value]
    scene = by_name[found.name]
    return Query(scene.name, scene.boxes[row], int(scene.ids[row]), scene.camera)


def _galleries(
    row: dict[str, Any], queries: Sequence[Query], scenes: Sequence[Scene], numbering: Numbering
) -> Sequence[Sequence[str]]:
    kind = row.get("gallery")
    if kind == "all":
        return other_scenes(queries, [scene.name for scene in scenes])
    if kind == "cross-camera":
        return other_cameras(queries, scenes)
    if kind is not None:
        raise AnnotationError(f"gallery is {kind!r}, expected 'all' or 'cross-camera'")
    return [[numbering.scenes[number].name for number in gallery] for gallery in row["galleries"]]


def _boxes(values: Sequence[Any], numbering: Numbering) -> list[tuple[str, FloatArray]]:
    found = []
    for value in values:
        if isinstance(value, dict):
            found.append((numbering.scenes[value["image_id"]].name, corners_of(value["bbox"])))
        else:
            scene, row = numbering.boxes[value]
            found.append((scene.name, scene.boxes[row]))
    return found


def _ignored(
    value: Any, queries: Sequence[Query], scenes: Sequence[Scene], numbering: Numbering
) -> Sequence[_Boxes]:
    if value is None:
        return ()
    if value == "unlabelled":
        return [unlabelled_boxes(scenes)] * len(queries)
    per_query = []
    for entry in value:
        gathered: dict[str, list[FloatArray]] = {}
        for name, box in _boxes(entry, numbering):
            gathered.setdefault(name, []).append(box)
        per_query.append({name: np.stack(boxes) for name, boxes in gathered.items()})
    return per_query
