"""Counts of what indexing did, kept up to date while it runs."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from personsearch.indexing.writer import Item, Picture, Writer
from personsearch.media.files import Skipped
from personsearch.media.streams import StreamReport


@dataclass
class IndexReport:
    """Counts of what one run of indexing did."""

    pictures: int = 0
    people: int = 0
    files: int = 0
    skipped: int = 0  # files that were indexed already
    pruned: int = 0  # people erased because their files are gone
    unreadable: list[Skipped] = field(default_factory=list)
    streams: list[StreamReport] = field(default_factory=list)
    seconds: float = 0.0
    waited: float = 0.0  # of the seconds, those in which the network had nothing to do
    interrupted: bool = False  # whether it was stopped before its end

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return self.pictures / self.seconds if self.seconds else 0.0

    def add(self, other: "IndexReport") -> None:
        """Add the counts of a later run."""
        for name in ("pictures", "people", "files", "skipped", "pruned", "seconds", "waited"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.unreadable += other.unreadable
        self.streams += other.streams
        self.interrupted = self.interrupted or other.interrupted

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        left = [{"path": str(one.path), "reason": one.reason} for one in self.unreadable]
        streams = [{"place": one.uri, **vars(one)} for one in self.streams]
        return vars(self) | {"rate": self.rate, "unreadable": left, "streams": streams}

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure the seconds of a block; Ctrl-C ends the block and is noted."""
        began = perf_counter()
        try:
            yield
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            self.seconds = perf_counter() - began


Progress = Callable[[int, int, IndexReport], None]
"""Called with (files done, files in all, counts until now), once that is written."""


@dataclass
class Tally:
    """Counts items when they are written, and reports progress among `total` files."""

    report: IndexReport
    total: int = 0
    progress: Progress | None = None

    def write(self, writer: Writer, item: Item) -> None:
        """Write an item, then count it and the files that it completes."""
        self.count(writer.write(item))

    def count(self, items: Iterable[Item]) -> None:
        """Count pictures and completed files that are written."""
        streams = {one.uri: one for one in self.report.streams}
        for item in items:
            if isinstance(item, Picture):
                self.report.pictures += 1
                self.report.people += len(item.found.boxes)
                if item.media.source in streams:
                    streams[item.media.source].pictures += 1
                continue
            self.report.pictures += item.pictures
            self.report.people += item.people
            if item.unchanged:
                self.report.skipped += 1
            elif item.reason:
                self.report.unreadable.append(Skipped(item.media.path, item.reason))
            else:
                self.report.files += 1
        if self.progress:
            done = self.report.skipped + self.report.files + len(self.report.unreadable)
            self.progress(done, self.total, self.report)
