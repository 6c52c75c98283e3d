"""What indexing did, whoever did it: counted while it goes on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from personsearch.media.files import Skipped
from personsearch.media.streams import StreamReport


@dataclass
class IndexReport:
    """What indexing did.

    Attributes:
        pictures, people: written now.
        files: finished now.
        skipped: files that were there already.
        pruned: people erased, because their files are gone.
        unreadable: what could not be read, and why.
        streams: live sources, and what became of each.
        seconds: that it took.
        waited: of these, seconds in which the network had nothing to do.
        interrupted: whether it was stopped before its end.
    """

    pictures: int = 0
    people: int = 0
    files: int = 0
    skipped: int = 0
    pruned: int = 0
    unreadable: list[Skipped] = field(default_factory=list)
    streams: list[StreamReport] = field(default_factory=list)
    seconds: float = 0.0
    waited: float = 0.0
    interrupted: bool = False

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return self.pictures / self.seconds if self.seconds else 0.0

    def add(self, other: "IndexReport") -> None:
        """Takes in what a later run has done."""
        for name in ("pictures", "people", "files", "skipped", "pruned", "seconds", "waited"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.unreadable += other.unreadable
        self.streams += other.streams
        self.interrupted = self.interrupted or other.interrupted

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        left = [{"path": str(one.path), "reason": one.reason} for one in self.unreadable]
        streams = [{"place": one.uri, **vars(one)} for one in self.streams]
        return vars(self) | {"rate": self.rate, "unreadable": left, "streams": streams}


Progress = Callable[[int, int, IndexReport], None]
"""Called with (files done, files in all, what was done until now), when that is written."""
