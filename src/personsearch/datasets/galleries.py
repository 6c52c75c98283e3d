"""Galleries of all scenes but a few, without a list of names for every query."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import overload

from personsearch.types import Query, Scene


class Excluding(Sequence[str]):
    """A shared list of names without some of them.

    A protocol of Q queries over G scenes would hold Q x G names; its `Excluding` galleries share
    one list instead, which ``gallery.names is other.names`` shows. Pass the same `names` to every
    gallery; names that are `excluded` need not be among them.
    """

    __slots__ = ("_hidden", "excluded", "names")

    def __init__(self, names: Sequence[str], excluded: frozenset[str]) -> None:
        self.names = names
        self.excluded = excluded
        self._hidden: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.names) - len(self._positions())

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.names if name not in self.excluded)

    def __contains__(self, name: object) -> bool:
        return name not in self.excluded and name in self.names

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return list(self)[index]
        length = len(self)
        if not -length <= index < length:
            raise IndexError(f"gallery of {length} scenes has no scene {index}")
        wanted = index % length
        hidden = self._positions()
        # hidden[k] - k kept names precede the k-th hidden one.
        skipped = bisect_right(range(len(hidden)), wanted, key=lambda k: hidden[k] - k)
        return self.names[wanted + skipped]

    def __repr__(self) -> str:
        return f"Excluding({len(self.names)} names, {len(self.excluded)} excluded)"

    def _positions(self) -> tuple[int, ...]:
        if self._hidden is None:
            self._hidden = tuple(k for k, n in enumerate(self.names) if n in self.excluded)
        return self._hidden


def other_scenes(queries: Sequence[Query], names: Sequence[str]) -> list[Excluding]:
    """Return, for each query, all names but that of its own scene."""
    return [Excluding(names, frozenset({query.scene})) for query in queries]


def other_cameras(queries: Sequence[Query], scenes: Sequence[Scene]) -> list[Excluding]:
    """Return, for each query, all scenes of other cameras but its own scene.

    A scene without a camera counts as another camera.
    """
    names = [scene.name for scene in scenes]
    by_camera: dict[int, set[str]] = {}
    for scene in scenes:
        if scene.camera is not None:
            by_camera.setdefault(scene.camera, set()).add(scene.name)
    shared = {camera: frozenset(same) for camera, same in by_camera.items()}
    galleries = []
    for query in queries:
        same = shared.get(query.camera, frozenset()) if query.camera is not None else frozenset()
        galleries.append(Excluding(names, same if query.scene in same else same | {query.scene}))
    return galleries
