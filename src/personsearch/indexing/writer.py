"""The interface of writers: what they take, and what they plan."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from personsearch.media.files import Media
from personsearch.store import FileState, FoundPeople, KnownFile


@dataclass(frozen=True)
class Task:
    """A file to index."""

    media: Media
    known: frozenset[int] = frozenset()  # indices of its frames that were written before
    content: bytes | None = None  # SHA-256 of its bytes when it was indexed completely
    erased: frozenset[bytes] = frozenset()  # contents that are left out


@dataclass(frozen=True, eq=False)
class Picture:
    """A photo or video frame with the people in it."""

    media: Media
    found: FoundPeople


@dataclass(frozen=True)
class Ended:
    """The end of a file."""

    media: Media
    reason: str = ""  # why it could not be read to its end; empty if it was
    pictures: int = 0  # that a Ray worker wrote by itself
    people: int = 0  # in those pictures
    later: bool = False  # it is not to blame: the next run reads it again
    unchanged: bool = False  # whether it has the content with which it was indexed
    erased: bool = False  # whether its content was erased, perhaps under another name


Item = Picture | Ended


class Writer(Protocol):
    """Writes the people that were found. One thread at a time uses it."""

    def known_files(self, source: str) -> dict[str, KnownFile]:
        """Return the known files of a source, by name."""

    def plan(self, media: Sequence[Media]) -> list[Task]:
        """Return the files that are new, changed or unfinished; erased ones stay erased."""

    def write(self, item: Item) -> list[Item]:
        """Take an item; return a picture that was taken, and files that are completely written.

        Pictures and ends of a file that was erased meanwhile are dropped.
        """

    def flush(self) -> list[Ended]:
        """Write what waits; return the files that are now completely written."""

    def counts(self) -> dict[str, int]:
        """Return how much is in the store."""


def to_index(writer: Writer, media: Sequence[Media]) -> list[tuple[Media, KnownFile | None]]:
    """Return the files that need indexing, with what is known of each."""
    known = {source: writer.known_files(source) for source in {one.source for one in media}}
    pairs = [(one, known[one.source].get(one.name)) for one in media]
    return [(one, there) for one, there in pairs if there is None or not is_done(there, one)]


def is_done(known: KnownFile, media: Media) -> bool:
    """Whether a known file needs no indexing."""
    finished = known.state in (FileState.COMPLETE, FileState.UNREADABLE)
    return known.state == FileState.ERASED or (finished and known.stamp == media.stamp)
