"""The indexing pipeline: threads decode, the caller's thread runs the network, one thread writes.

Pictures are counted once a `Writer` has written them, wherever frames come from and the network
runs. Indexed files are skipped, changed ones are indexed again, an interrupted run resumes.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol, Self

from personsearch.indexing.decoders import FileFrames
from personsearch.indexing.finding import describe, find
from personsearch.indexing.report import IndexReport, Progress, Tally
from personsearch.indexing.writer import Ended, Picture, Task, Writer
from personsearch.media.files import Frame, Media
from personsearch.media.sampling import Sampling
from personsearch.systems.base import PersonSearchModel
from personsearch.types import Detections

Process = Callable[[Sequence[Task], Tally], None]
"""Indexes the files of some tasks and counts what is written."""


class FrameSource(AbstractContextManager[Any], Iterable[tuple[Media, Frame] | Ended], Protocol):
    """Yields frames with their files, and the ends of files, once it is entered."""

    waited: float  # seconds in which no frame was ready

    def unfinished(self) -> list[Ended]:
        """Return the ends that are due when the run is over, even if it ends early."""


def index_media(
    model: PersonSearchModel,
    writer: Writer,
    media: Sequence[Media],
    *,
    every: float | Sampling = 1.0,
    score_threshold: float = 0.3,
    progress: Progress | None = None,
    decoders: int | None = None,
) -> IndexReport:
    """Find everyone in photos and videos and write them to a store, in one thread of its own.

    Ctrl-C ends it early; what was written stays, and the next call resumes.

    Args:
        writer: of a store that this model's embeddings are in.
        every: which frames of a video: seconds between them (0 for all), or a `Sampling`.
        progress: called after each picture and file, once it is written, by the writing thread.
        decoders: number of decoding threads; None for one for two processors, at most 4.

    Raises:
        StoreError: the store cannot be written.
    """

    def process(tasks: Sequence[Task], tally: Tally) -> None:
        run(FileFrames(tasks, every, decoders), model, writer, tally, score_threshold)

    return index_with(process, writer, media, progress=progress)


def index_with(
    process: Process, writer: Writer, media: Sequence[Media], *, progress: Progress | None = None
) -> IndexReport:
    """Plan, process and report: what every way of indexing files has in common."""
    tasks = writer.plan(media)
    report = IndexReport(skipped=len(media) - len(tasks))
    with report.measured():
        if tasks:
            process(tasks, Tally(report, len(media), progress))
    order = {one.path: k for k, one in enumerate(media)}
    report.unreadable.sort(key=lambda one: order[one.path])
    return report


def run(
    source: FrameSource, model: PersonSearchModel, writer: Writer, tally: Tally, score: float
) -> None:
    """Find the people of at least that score in all frames; a thread of its own writes them."""

    def write(media: Media, frame: Frame, found: Detections) -> None:
        tally.write(writer, Picture(media, describe(frame, found)))

    with WritingThread() as thread, source:
        try:
            for item in source:
                if isinstance(item, Ended):
                    thread.do(partial(tally.write, writer, item))
                else:
                    media, frame = item
                    thread.do(partial(write, media, frame, find(model, frame, score)))
        finally:
            tally.report.waited += source.waited
            for ended in source.unfinished():
                thread.do(partial(tally.write, writer, ended))
            thread.do(lambda: tally.count(writer.flush()))


class WritingThread:
    """Runs actions one after the other in a thread, so that the network never waits for the disk.

    At most `behind` wait. All are done before the block ends, even if it ends by an error. After a
    failure nothing more is done, and the failure is raised by the next `do`, or at the end.
    """

    def __init__(self, behind: int = 8) -> None:
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(behind)
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._failure: BaseException | None = None

    def do(self, action: Callable[[], None]) -> None:
        """Queue an action; wait while too many are queued."""
        self._raise()
        self._waiting.put(action)

    def _raise(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _work(self) -> None:
        failed = False
        while (action := self._waiting.get()) is not None:
            if failed:
                continue
            try:
                action()
            except BaseException as error:
                self._failure, failed = error, True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        self._waiting.put(None)
        self._thread.join()
        if error is None:
            self._raise()
