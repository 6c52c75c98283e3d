"""Builds search protocols from identities: queries, galleries and targets."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from personsearch.datasets.dataset import Dropped
from personsearch.datasets.galleries import Excluding, other_cameras, other_scenes
from personsearch.types import UNLABELLED, FloatArray, Query, Scene, SearchProtocol


class LazyProtocols(Mapping[str, SearchProtocol]):
    """Protocols by name that their builders make on first access; cached."""

    def __init__(self, builders: Mapping[str, Callable[[], SearchProtocol]]) -> None:
        self._builders = dict(builders)
        self._built: dict[str, SearchProtocol] = {}

    def __getitem__(self, name: str) -> SearchProtocol:
        if name not in self._built:
            self._built[name] = self._builders[name]()
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._builders)

    def __len__(self) -> int:
        return len(self._builders)

    def __contains__(self, name: object) -> bool:
        return name in self._builders  # without building it


class Appearances:
    """The scenes and boxes of each identity; the first box counts if a scene has one twice."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self._boxes: dict[int, dict[str, FloatArray]] = {}
        self.repeated: list[Dropped] = []
        # The set of the list that lazy galleries share, built once.
        self._base: Sequence[str] = ()
        self._base_set: frozenset[str] = frozenset()
        for scene in scenes:
            for box, id_ in zip(scene.boxes, scene.ids.tolist(), strict=True):
                if id_ == UNLABELLED:
                    continue
                if scene.name in self._boxes.setdefault(id_, {}):
                    where = f"{scene.name}, id {id_}"
                    self.repeated.append(Dropped(where, "id twice in a scene: first box counts"))
                else:
                    self._boxes[id_][scene.name] = box

    def targets(self, query: Query, gallery: Sequence[str]) -> dict[str, FloatArray]:
        """Return the gallery scenes that show the query's identity, each with its box (4,).

        The query's own scene is never a target, even if the gallery contains it.
        """
        shown = self._boxes.get(query.id, {})
        if isinstance(gallery, Excluding):
            if gallery.names is not self._base:
                self._base, self._base_set = gallery.names, frozenset(gallery.names)
            members = self._base_set
            names = [n for n in shown if n in members and n not in gallery.excluded]
        else:
            members = frozenset(gallery)
            names = [name for name in shown if name in members]
        return {name: shown[name] for name in names if name != query.scene}

    def all_targets(
        self, queries: Sequence[Query], galleries: Sequence[Sequence[str]]
    ) -> list[dict[str, FloatArray]]:
        """Return the `targets` of each query in its gallery."""
        return [self.targets(q, g) for q, g in zip(queries, galleries, strict=True)]


def make_protocol(
    name: str,
    scenes: Sequence[Scene],
    queries: Sequence[Query],
    galleries: Sequence[Sequence[str]],
    *,
    ignored: Sequence[Mapping[str, FloatArray]] = (),
    average_precision: str = "step",
    known_only: bool = False,
) -> SearchProtocol:
    """Return a protocol whose targets are derived from the identities of the scenes.

    With ignored boxes, the protocol includes all boxes: a detection belongs to the annotated
    person that it overlaps most.
    """
    return SearchProtocol(
        name=name,
        queries=queries,
        galleries=galleries,
        targets=Appearances(scenes).all_targets(queries, galleries),
        ignored=ignored,
        average_precision=average_precision,
        annotated={scene.name: scene.boxes for scene in scenes} if ignored else None,
        known_only=known_only,
    )


def queries_of(scenes: Sequence[Scene], *, across_cameras: bool) -> list[Query]:
    """Return one query per identity and camera, as in PRW: the first box in scene order.

    Only identities that another camera shows too, or else another scene, are queried.
    """
    seen: dict[int, set[str]] = {}
    cameras: dict[int, set[int | None]] = {}
    for scene in scenes:
        for id_ in scene.ids.tolist():
            seen.setdefault(id_, set()).add(scene.name)
            cameras.setdefault(id_, set()).add(scene.camera)
    chosen: set[tuple[int, int | None]] = set()
    queries = []
    for scene in scenes:
        for row in np.flatnonzero(scene.ids != UNLABELLED):
            id_ = int(scene.ids[row])
            again = len(cameras[id_]) > 1 if across_cameras else len(seen[id_]) > 1
            if again and (id_, scene.camera) not in chosen:
                chosen.add((id_, scene.camera))
                queries.append(Query(scene.name, scene.boxes[row], id_, scene.camera))
    return queries


def every_box_protocol(
    name: str, scenes: Sequence[Scene], galleries: Sequence[Sequence[str]]
) -> SearchProtocol:
    """Return a protocol with every labelled box as a query whose gallery shows its identity.

    There is one gallery per scene, for all queries in it.
    """
    shown = Appearances(scenes)
    queries: list[Query] = []
    searched: list[Sequence[str]] = []
    targets: list[Mapping[str, FloatArray]] = []
    for scene, gallery in zip(scenes, galleries, strict=True):
        for box, id_ in zip(scene.boxes, scene.ids.tolist(), strict=True):
            query = Query(scene.name, box, id_, scene.camera)
            found = shown.targets(query, gallery)
            if found:
                queries.append(query)
                searched.append(gallery)
                targets.append(found)
    return SearchProtocol(name=name, queries=queries, galleries=searched, targets=targets)


def all_protocol(scenes: Sequence[Scene], name: str = "all") -> SearchProtocol:
    """Return one query per identity and camera, over all scenes but the query's own."""
    queries = queries_of(scenes, across_cameras=False)
    names = [scene.name for scene in scenes]
    return make_protocol(name, scenes, queries, other_scenes(queries, names))


def cross_camera_protocol(scenes: Sequence[Scene], name: str = "cross-camera") -> SearchProtocol:
    """Return one query per identity and camera, over the scenes of other cameras."""
    queries = queries_of(scenes, across_cameras=True)
    return make_protocol(name, scenes, queries, other_cameras(queries, scenes))


def derived_protocols(scenes: Sequence[Scene]) -> LazyProtocols:
    """Return ``all``, and ``cross-camera`` for several cameras; nothing without identities."""
    if not any((scene.ids != UNLABELLED).any() for scene in scenes):
        return LazyProtocols({})
    builders = {"all": lambda: all_protocol(scenes)}
    if len({scene.camera for scene in scenes if scene.camera is not None}) > 1:
        builders["cross-camera"] = lambda: cross_camera_protocol(scenes)
    return LazyProtocols(builders)
