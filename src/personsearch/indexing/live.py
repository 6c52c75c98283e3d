"""From live sources to a store: the newest picture of each is looked at, hour by hour.

A camera never ends, but a file in the store does: what a camera sends is kept in segments, named by
the moment at which they begin. At the end of one its people are joined to tracks.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from personsearch.errors import DataError
from personsearch.indexing.finding import describe, find
from personsearch.indexing.report import IndexReport
from personsearch.indexing.tracks import link_detections
from personsearch.indexing.writer import Writer
from personsearch.media.files import Frame
from personsearch.media.sampling import Sampling
from personsearch.media.streams import Newest, Patience, Stream, StreamReader, StreamReport
from personsearch.store import Store
from personsearch.systems.base import PersonSearchModel
from personsearch.types import Detections, FileStamp

SEGMENT = 3600.0
"""Seconds of a live source that are one file of the store."""

_LOOK = 0.2  # seconds after which it is seen that a segment or the time is over


@dataclass(eq=False)
class _Segment:
    """A part of a live source that is being written; only the writing thread uses its row."""

    name: str
    begins: float
    ends: float
    row: int | None = None


def index_streams(
    model: PersonSearchModel,
    store: Store,
    streams: Sequence[Stream],
    *,
    every: float | Sampling = 1.0,
    score_threshold: float = 0.3,
    tracks: bool = True,
    segment: float = SEGMENT,
    duration: float | None = None,
    patience: Patience | None = None,
    progress: Callable[[IndexReport], None] | None = None,
) -> IndexReport:
    """Finds everyone whom live sources show and writes them to the store, until Ctrl-C.

    Where pictures come faster than the network is, the newest are looked at and the others dropped.
    A source that breaks is connected again after growing pauses. What an earlier run left
    unfinished, because it was killed, is finished first.

    Args:
        model: any system.
        store: open for writing, of this model; while this runs, a thread of its own uses it.
        streams: from `parse_streams`.
        every: seconds between pictures of a source (0 for all), or a `Sampling`.
        score_threshold: people found with less are left out.
        tracks: join people to tracks, segment by segment, of which the best views are kept.
        segment: seconds; segments end at its multiples since 1970, so that of an hour on the hour.
        duration: seconds after which to end; None for never.
        patience: with breaks.
        progress: called after each picture, once it is written, by the writing thread.

    Raises:
        DataError: a segment or duration that is not positive.
        StoreError: it cannot be written.
    """
    if segment <= 0 or (duration is not None and duration <= 0):
        raise DataError(
            f"segments of {segment} and a duration of {duration} seconds came, expected more than 0"
        )
    sampling = every if isinstance(every, Sampling) else Sampling(every)
    report = IndexReport(streams=[StreamReport(one.uri, one.camera) for one in streams])
    stop, newest = threading.Event(), Newest()
    readers = [
        StreamReader(
            *(one, k, newest, report.streams[k]),
            sampling=sampling,
            patience=patience or Patience(),
            stop=stop,
        )
        for k, one in enumerate(streams)
    ]
    began = time.perf_counter()
    try:
        with Writer() as writer:
            writing = _Segments(store, streams, tracks, segment, report, progress)
            writer.do(writing.finish_left)
            for reader in readers:
                reader.thread.start()
            try:
                while duration is None or time.perf_counter() - began < duration:
                    asked = time.perf_counter()
                    taken = newest.take(_LOOK)
                    report.waited += time.perf_counter() - asked
                    if taken is None:
                        writer.do(partial(writing.close_before, time.time()))
                        continue
                    found = find(model, taken[1], score_threshold)
                    writer.do(partial(writing.write, *taken, found))
                    report.seconds = time.perf_counter() - began
            except KeyboardInterrupt:
                report.interrupted = True
            finally:
                stop.set()
                writer.do(writing.close_all)
    finally:
        stop.set()
        for reader in readers:
            if reader.thread.ident is not None:
                # One that waits for data that do not come ends with the program.
                reader.thread.join(1.0)
        report.seconds = time.perf_counter() - began
    return report


class _Segments:
    """The writing of segments, which the writing thread alone does."""

    def __init__(
        self,
        store: Store,
        streams: Sequence[Stream],
        tracks: bool,
        length: float,
        report: IndexReport,
        progress: Callable[[IndexReport], None] | None,
    ) -> None:
        self._store, self._streams, self._tracks = store, streams, tracks
        self._length, self._report, self._progress = length, report, progress
        self._open: dict[int, _Segment] = {}

    def finish_left(self) -> None:
        """Finishes segments that a run which was killed has left open."""
        for stream in self._streams:
            for known in self._store.known_files(stream.uri).values():
                if known.state == "open":
                    self._finish(known.id)

    def write(self, number: int, frame: Frame, found: Detections) -> None:
        """Writes a picture of a source into its segment."""
        assert frame.time is not None
        self.close_before(frame.time)
        segment = self._open.get(number)
        if segment is None:
            segment = self._open[number] = self._begin(number, frame.time)
        assert segment.row is not None
        within = replace(frame, position=frame.time - segment.begins)
        self._store.add(segment.row, [describe(within, found)])
        self._report.pictures += 1
        self._report.people += len(found.boxes)
        self._report.streams[number].pictures += 1
        if self._progress is not None:
            self._progress(self._report)

    def close_before(self, now: float) -> None:
        """Finishes the segments that are over."""
        for number, segment in list(self._open.items()):
            if segment.ends <= now:
                self._close(number)

    def close_all(self) -> None:
        """Finishes all segments, over or not."""
        for number in list(self._open):
            self._close(number)

    def _begin(self, number: int, now: float) -> _Segment:
        stream = self._streams[number]
        ends = (now // self._length + 1.0) * self._length
        moment = datetime.fromtimestamp(now, UTC)
        name = moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        segment = _Segment(name, now, ends)
        stamp = FileStamp(0, int(now * 1e9))
        segment.row = self._store.begin_file(stream.uri, name, stamp, stream.camera)
        return segment

    def _close(self, number: int) -> None:
        row = self._open.pop(number).row
        assert row is not None
        self._finish(row)
        self._report.files += 1

    def _finish(self, row: int) -> None:
        self._store.finish_video(
            row, link_detections(self._store.frame_detections(row)) if self._tracks else []
        )
