"""What every reader returns: the pictures of a data set, its protocols, and what was dropped."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from personsearch.boxes import from_xywh
from personsearch.errors import AnnotationError, DataError
from personsearch.types import UNLABELLED, FloatArray, Scene, SearchProtocol


@dataclass(frozen=True)
class Dropped:
    """Something that a reader left out, and why."""

    where: str  # the file, scene or row
    reason: str  # a short phrase, the same for all cases of one kind so that they can be counted


@dataclass(frozen=True, eq=False)
class Dataset:
    """A person-search data set as read from disk.

    The splits are usually ``train``, ``val`` and ``test``. In ``train`` the labelled ids are
    0..num_ids-1 without gaps, and `source_ids` has the number of each in the files, to recognise
    people of ``train`` in the other splits, which keep the files' numbers. It is None if each split
    numbers its people on its own, so that equal ids mean nothing.
    """

    name: str  # in tables
    root: Path  # the folder it was read from
    splits: Mapping[str, Sequence[Scene]]
    # Over the scenes of test or val. May be a lazy mapping, because some are large.
    protocols: Mapping[str, SearchProtocol] = field(default_factory=dict)
    dropped: Sequence[Dropped] = ()  # what the reader left out
    object_class: str = "person"  # of the boxes
    source_ids: Sequence[int] | None = None
    # Of cameras that the files name by text instead of number.
    camera_names: Mapping[int, str] = field(default_factory=dict)

    def split(self, name: str) -> Sequence[Scene]:
        """Return the scenes of one split; raise `DataError` if there is no such split."""
        self._check("split", name, self.splits)
        return self.splits[name]

    def protocol(self, name: str) -> SearchProtocol:
        """Return one search protocol; raise `DataError` if there is no such protocol."""
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


def corners_of(box: ArrayLike) -> FloatArray:
    """Return the float32 corners (4,) of one box x, y, w, h."""
    corners: FloatArray = from_xywh(np.array([box], np.float64))[0].astype(np.float32)
    return corners


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of an ASCII file that are not blank, with their numbers from one.

    Raises:
        AnnotationError: it cannot be read.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(f"{path}: cannot be read ({error})") from None
    yield from ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
