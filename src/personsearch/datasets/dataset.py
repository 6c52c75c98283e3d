"""What every reader returns: the pictures of a data set, its protocols, and what was dropped."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from personsearch.errors import DataError
from personsearch.types import Scene, SearchProtocol


@dataclass(frozen=True)
class Dropped:
    """Something that a reader left out, and why.

    Attributes:
        where: the file, scene or row.
        reason: one short phrase, the same for the same kind of thing, so that it can be counted.
    """

    where: str
    reason: str


@dataclass(frozen=True, eq=False)
class Dataset:
    """One person-search data set as read from disk.

    Attributes:
        name: as printed in tables.
        root: the folder it came from.
        splits: scenes by split; the usual splits are ``train``, ``val`` and ``test``. In ``train``
            the labelled ids are 0..num_ids-1 without gaps.
        protocols: search protocols by name, over the scenes of ``test`` (or ``val``). May be a
            lazy mapping, because some are large.
        dropped: what the reader left out.
        object_class: what the boxes hold.
        source_ids: the number by which the files call train id k, so that people of ``train`` can
            be told among those of the other splits, which keep the files' numbers. None where
            each split numbers its people for itself, so that equal ids mean nothing.
    """

    name: str
    root: Path
    splits: Mapping[str, Sequence[Scene]]
    protocols: Mapping[str, SearchProtocol] = field(default_factory=dict)
    dropped: Sequence[Dropped] = ()
    object_class: str = "person"
    source_ids: Sequence[int] | None = None

    def split(self, name: str) -> Sequence[Scene]:
        """The scenes of one split.

        Raises:
            DataError: there is no such split.
        """
        if name not in self.splits:
            raise DataError(
                f"data set {self.name!r} at {self.root} has no split {name!r}; "
                f"it has {', '.join(map(repr, self.splits)) or 'none'}"
            )
        return self.splits[name]

    def protocol(self, name: str) -> SearchProtocol:
        """One search protocol.

        Raises:
            DataError: there is no such protocol.
        """
        if name not in self.protocols:
            raise DataError(
                f"data set {self.name!r} at {self.root} has no protocol {name!r}; "
                f"it has {', '.join(map(repr, self.protocols)) or 'none'}"
            )
        return self.protocols[name]

    def __iter__(self) -> Iterator[Scene]:
        for scenes in self.splits.values():
            yield from scenes
