"""Index live sources: the newest picture of each goes to the network, segment by segment.

A camera never ends, but a file in the store does: what a camera sends is kept in segments, named by
the moment at which they begin. At the end of one its people are joined to tracks.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from personsearch.errors import DataError
from personsearch.indexing.pipeline import run
from personsearch.indexing.report import IndexReport, Progress, Tally
from personsearch.indexing.writer import Ended, Writer
from personsearch.media.files import Frame, Media
from personsearch.media.sampling import Sampling
from personsearch.media.streams import Newest, Patience, Stream, StreamReader, StreamReport
from personsearch.store import FileState
from personsearch.systems.base import PersonSearchModel
from personsearch.types import FileStamp

SEGMENT = 3600.0  # seconds of a live source that are one file of the store

_SET_BACK = 60.0  # seconds by which a clock is set back where a new segment begins
_POLL = 0.2  # seconds between checks whether a segment or the run is over


def index_streams(
    model: PersonSearchModel,
    writer: Writer,
    streams: Sequence[Stream],
    *,
    every: float | Sampling = 1.0,
    score_threshold: float = 0.3,
    segment: float = SEGMENT,
    duration: float | None = None,
    patience: Patience | None = None,
    progress: Progress | None = None,
) -> IndexReport:
    """Find everyone whom live sources show and write them to a store, until Ctrl-C.

    Where pictures arrive faster than the network is, the newest are indexed and the others dropped.
    A source that breaks is reconnected after growing pauses. Segments that a killed run left open
    are finished first.

    Args, where they differ from those of `index_media`:
        segment: seconds; segments end at its multiples since 1970, so that of an hour on the hour.
        duration: seconds after which to end; None for never.

    Raises:
        DataError: a segment or duration that is not positive.
        StoreError: the store cannot be written.
    """
    if segment <= 0 or (duration is not None and duration <= 0):
        given = f"segments of {segment} and a duration of {duration} seconds"
        raise DataError(f"{given}: expected more than 0")
    report = IndexReport(streams=[StreamReport(one.uri, one.camera) for one in streams])
    if not streams:
        return report
    for stream in streams:
        for name, known in writer.known_files(stream.uri).items():
            if known.state == FileState.OPEN:
                writer.write(Ended(_segment(stream, name, known.stamp)))
    sampling = every if isinstance(every, Sampling) else Sampling(every)
    patience = patience or Patience()
    frames = LiveFrames(streams, report.streams, sampling, segment, duration, patience)
    with report.measured():
        run(frames, model, writer, Tally(report, progress=progress), score_threshold)
    return report


def _segment(stream: Stream, name: str, stamp: FileStamp) -> Media:
    path = Path(f"{stream.uri}/{name}")
    return Media(stream.uri, name, path, "video", stamp, stream.camera)


@dataclass(frozen=True)
class _Segment:
    """An open segment of a live source; times are seconds since 1970."""

    media: Media
    begins: float
    ends: float


@dataclass(eq=False)
class LiveFrames:
    """The newest frames of live sources, and the ends of their segments; a `FrameSource`."""

    streams: Sequence[Stream]
    reports: Sequence[StreamReport]  # of each stream
    sampling: Sampling
    segment: float
    duration: float | None
    patience: Patience
    waited: float = 0.0

    def __post_init__(self) -> None:
        self._stop, self._newest = threading.Event(), Newest()
        self._open: dict[Stream, _Segment] = {}
        shared = (self.sampling, self.patience, self._stop)
        self._readers = [
            StreamReader(stream, self._newest, report, *shared)
            for stream, report in zip(self.streams, self.reports, strict=True)
        ]

    def __enter__(self) -> Self:
        for reader in self._readers:
            reader.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for reader in self._readers:
            # A reader that waits for data that never come ends with the program.
            reader.thread.join(1.0)

    def __iter__(self) -> Iterator[tuple[Media, Frame] | Ended]:
        began = time.perf_counter()
        while self.duration is None or time.perf_counter() - began < self.duration:
            asked = time.perf_counter()
            taken = self._newest.take(_POLL)
            self.waited += time.perf_counter() - asked
            if taken is None:
                yield from self._ends(time.time())
                continue
            stream, frame = taken
            assert frame.time is not None
            yield from self._ends(frame.time)
            segment = self._open.get(stream) or self._begin(stream, frame.time)
            yield segment.media, replace(frame, position=max(frame.time - segment.begins, 0.0))
            self._open[stream] = segment  # now, so that Ctrl-C leaves no segment without pictures

    def unfinished(self) -> list[Ended]:
        return list(self._ends(float("inf")))

    def _ends(self, now: float) -> Iterator[Ended]:
        for stream, segment in list(self._open.items()):
            if segment.ends <= now or now < segment.begins - _SET_BACK:
                del self._open[stream]
                yield Ended(segment.media)

    def _begin(self, stream: Stream, now: float) -> _Segment:
        name = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        media = _segment(stream, name, FileStamp(0, int(now * 1e9)))
        return _Segment(media, now, (now // self.segment + 1.0) * self.segment)
