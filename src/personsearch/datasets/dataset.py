"""What every reader returns: the pictures of a data set, its protocols, and what was dropped."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from personsearch.errors import DataError
from personsearch.types import UNLABELLED, Scene, SearchProtocol


@dataclass(frozen=True)
class Dropped:
    """Something that a reader left out, and why.

    Attributes:
        where: the file, scene or row.
        reason: a short phrase, the same for all cases of one kind so that they can be counted.
    """

    where: str
    reason: str


@dataclass(frozen=True, eq=False)
class Dataset:
    """A person-search data set as read from disk.

    Attributes:
        name: name in tables.
        root: the folder it was read from.
        splits: scenes by split, usually ``train``, ``val`` and ``test``. In ``train`` the labelled
            ids are 0..num_ids-1 without gaps.
        protocols: search protocols by name, over the scenes of ``test`` (or ``val``). May be a
            lazy mapping, because some are large.
        dropped: what the reader left out.
        object_class: the class of the boxes.
        source_ids: the number in the files of each train id, to recognise people of ``train`` in
            the other splits, which keep the files' numbers. None if each split numbers its people
            on its own, so that equal ids mean nothing.
        camera_names: the names of cameras that the files name by text instead of number.
    """

    name: str
    root: Path
    splits: Mapping[str, Sequence[Scene]]
    protocols: Mapping[str, SearchProtocol] = field(default_factory=dict)
    dropped: Sequence[Dropped] = ()
    object_class: str = "person"
    source_ids: Sequence[int] | None = None
    camera_names: Mapping[int, str] = field(default_factory=dict)

    def split(self, name: str) -> Sequence[Scene]:
        """Return the scenes of one split.

        Raises:
            DataError: there is no such split.
        """
        self._check("split", name, self.splits)
        return self.splits[name]

    def protocol(self, name: str) -> SearchProtocol:
        """Return one search protocol.

        Raises:
            DataError: there is no such protocol.
        """
        self._check("protocol", name, self.protocols)
        return self.protocols[name]

    def __iter__(self) -> Iterator[Scene]:
        for scenes in self.splits.values():
            yield from scenes

    def _check(self, kind: str, name: str, known: Iterable[str]) -> None:
        if name not in known:
            raise DataError(
                f"data set {self.name!r} at {self.root} has no {kind} {name!r}; "
                f"it has {', '.join(map(repr, known)) or 'none'}"
            )


def renumbering(ids: Iterable[int]) -> dict[int, int]:
    """Map each labelled id to its index among them in ascending order: 0..n-1 without gaps."""
    return {id_: k for k, id_ in enumerate(sorted({i for i in ids if i != UNLABELLED}))}


def with_ids(scene: Scene, numbers: Mapping[int, int]) -> Scene:
    """Return the scene with its ids replaced; ids that are not in `numbers` become unlabelled."""
    ids = [numbers.get(id_, UNLABELLED) for id_ in scene.ids.tolist()]
    return replace(scene, ids=np.array(ids, dtype=np.int64))
