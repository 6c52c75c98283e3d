"""Indexing in shards: which files belong together, a worker that looks at them, who writes.

A worker is a plain function over one shard, so processes of this machine or of a cluster can run
it; nothing here knows which. What it gives is written by a writer: the one writer of a store, or a
writer of Milvus, of which every worker may have its own. A shard that broke off is planned anew by
what was written, so that doing it again adds nobody twice.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from personsearch.errors import PictureError
from personsearch.indexing.finding import look
from personsearch.indexing.report import IndexReport, Progress
from personsearch.indexing.tracks import link_detections
from personsearch.media.files import Media, Skipped, decode
from personsearch.store import FoundPeople, KnownFile, Store
from personsearch.systems.base import PersonSearchModel

FILES = 32
"""Files of a shard, at the most."""
BYTES = 256 << 20
"""Bytes of a shard, at the most, unless one file has more."""


@dataclass(frozen=True)
class Task:
    """A file that is to be looked at.

    Attributes:
        media: the file.
        known: frames of it that were written before.
    """

    media: Media
    known: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Shard:
    """Files that one worker looks at.

    Attributes:
        number: from zero.
        tasks: in the order in which it does them.
    """

    number: int
    tasks: tuple[Task, ...]


@dataclass(frozen=True, eq=False)
class Looked:
    """A picture that was looked at."""

    media: Media
    found: FoundPeople


@dataclass(frozen=True)
class Ended:
    """The end of a file.

    Attributes:
        media: the file.
        reason: why it could not be read to there; empty if it was.
        pictures, people: that the worker wrote itself; 0 where somebody else writes.
    """

    media: Media
    reason: str = ""
    pictures: int = 0
    people: int = 0


Item = Looked | Ended


def make_shards(tasks: Sequence[Task], files: int = FILES, size: int = BYTES) -> list[Shard]:
    """The shard manifest: the tasks in their order, cut by number of files and bytes.

    It depends on the files alone: the same files give the same shards on every machine.
    """
    shards: list[Shard] = []
    some: list[Task] = []
    filled = 0
    for task in tasks:
        if some and (len(some) == files or filled + task.media.stamp.bytes > size):
            shards.append(Shard(len(shards), tuple(some)))
            some, filled = [], 0
        some.append(task)
        filled += task.media.stamp.bytes
    if some:
        shards.append(Shard(len(shards), tuple(some)))
    return shards


def look_at(
    shard: Shard, model: PersonSearchModel, *, every: float = 1.0, score_threshold: float = 0.3
) -> Iterator[Item]:
    """The worker: everyone in every picture of a shard, and the end of each file."""
    for task in shard.tasks:
        reason = ""
        try:
            for frame in decode(task.media, every=every, known=task.known):
                yield Looked(task.media, look(model, frame, score_threshold))
        except PictureError as error:
            reason = str(error).removeprefix(f"{task.media.path}: ")
        yield Ended(task.media, reason)


def in_pieces(items: Iterable[Item], count: int = 8, seconds: float = 2.0) -> Iterator[list[Item]]:
    """Items in lists of at most `count`, none of which is gathered for much longer than `seconds`.

    So much of a shard is on its way, or in memory, at once.
    """
    piece: list[Item] = []
    began = time.monotonic()
    for item in items:
        piece.append(item)
        if len(piece) >= count or time.monotonic() - began > seconds:
            yield piece
            piece, began = [], time.monotonic()
    if piece:
        yield piece


class Writer(Protocol):
    """Takes what workers found."""

    def plan(self, media: Sequence[Media]) -> list[Task]:
        """Those that are not there yet, or have changed; erased ones are not wanted back."""

    def write(self, item: Item) -> list[Ended]:
        """Takes an item; says of which files everything is written now."""

    def flush(self) -> list[Ended]:
        """Writes what waits; says of which files everything is written now."""

    def counts(self) -> dict[str, int]:
        """What is there."""


class StoreWriter:
    """Writes to a store that is open for writing, each picture at once."""

    def __init__(self, store: Store, *, tracks: bool = True) -> None:
        self.store, self._tracks = store, tracks
        self._rows: dict[Media, int] = {}

    def plan(self, media: Sequence[Media]) -> list[Task]:
        """Those that are not there yet, or have changed; with the frames that are."""
        known = {source: self.store.known_files(source) for source in {m.source for m in media}}
        tasks = []
        for one in media:
            there = known[one.source].get(one.name)
            if there is None:
                tasks.append(Task(one))
            elif not is_done(there, one):
                same = there.stamp == one.stamp and there.frames
                frames = self.store.frames(there.id) if same else ()
                tasks.append(Task(one, frozenset(frames)))
        return tasks

    def write(self, item: Item) -> list[Ended]:
        """Takes an item; says of which files everything is written now."""
        one = item.media
        if one not in self._rows:
            row = self.store.begin_file(one.source, one.name, one.stamp, one.camera)
            self._rows[one] = row
        row = self._rows[one]
        if isinstance(item, Looked):
            self.store.add(row, [item.found], finished=one.kind == "photo")
            return []
        if one.kind == "video":
            self.store.finish_video(
                row, link_detections(self.store.frame_detections(row)) if self._tracks else []
            )
        if item.reason:
            self.store.finish_file(row, item.reason)
        del self._rows[one]
        return [item]

    def flush(self) -> list[Ended]:
        """Nothing waits."""
        return []

    def counts(self) -> dict[str, int]:
        """What is in the store."""
        return self.store.counts()


def is_done(there: KnownFile, media: Media) -> bool:
    """Whether a file that is known needs no looking at."""
    finished = there.state in ("whole", "unreadable") and there.stamp == media.stamp
    return finished or there.state == "erased"


@dataclass
class Tally:
    """Counts what was done, and tells it.

    Attributes:
        report: until now.
        total: files in all.
        progress: is told after each picture and file.
    """

    report: IndexReport
    total: int
    progress: Progress | None = None

    def take(self, items: Iterable[Item]) -> None:
        """Counts pictures, and files that are written."""
        for item in items:
            if isinstance(item, Looked):
                self.report.pictures += 1
                self.report.people += len(item.found.boxes)
                continue
            self.report.pictures += item.pictures
            self.report.people += item.people
            if item.reason:
                self.report.unreadable.append(Skipped(item.media.path, item.reason))
            else:
                self.report.files += 1
        if self.progress:
            done = self.report.skipped + self.report.files + len(self.report.unreadable)
            self.progress(done, self.total, self.report)


def put(writer: Writer, tally: Tally, item: Item) -> None:
    """Has an item written, then counts it and the files that are whole by it."""
    ended = writer.write(item)
    tally.take([*([item] if isinstance(item, Looked) else []), *ended])


Run = Callable[[Sequence[Shard], Tally], None]
"""Does all shards and counts what is written."""


def index_shards(
    writer: Writer, media: Sequence[Media], run: Run, *, progress: Progress | None = None
) -> IndexReport:
    """Plans what is to be done, has it done, and reports.

    Ctrl-C ends it early; what was written stays, and the next call goes on.
    """
    tasks = writer.plan(media)
    tally = Tally(IndexReport(skipped=len(media) - len(tasks)), len(media), progress)
    began = time.perf_counter()
    try:
        run(make_shards(tasks), tally)
    except KeyboardInterrupt:
        tally.report.interrupted = True
    finally:
        tally.report.seconds = time.perf_counter() - began
    return tally.report


def run_here(
    writer: Writer, model: PersonSearchModel, *, every: float = 1.0, score_threshold: float = 0.3
) -> Run:
    """Does all shards in this process, one after the other."""

    def run(shards: Sequence[Shard], tally: Tally) -> None:
        for shard in shards:
            for item in look_at(shard, model, every=every, score_threshold=score_threshold):
                put(writer, tally, item)
        tally.take(writer.flush())

    return run
