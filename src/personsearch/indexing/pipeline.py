"""From photos and videos to a store: threads decode, the network runs, one thread writes.

What is there already is skipped, what has changed is done again, and a run that was stopped goes on
where it was: a picture counts when it is written, never before.
"""

import os
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from personsearch.errors import PictureError
from personsearch.indexing.finding import describe, find
from personsearch.indexing.report import IndexReport, Progress
from personsearch.indexing.shards import Ended, Looked, StoreWriter, Tally, Task, put
from personsearch.indexing.writer import Writer
from personsearch.media.files import Frame, Media, decode
from personsearch.media.sampling import Sampling
from personsearch.store import Store
from personsearch.systems.base import PersonSearchModel
from personsearch.types import Detections

_AHEAD = 6  # decoded pictures that wait for the network


def index_media(
    model: PersonSearchModel,
    store: Store,
    media: Sequence[Media],
    *,
    every: float | Sampling = 1.0,
    score_threshold: float = 0.3,
    tracks: bool = True,
    progress: Progress | None = None,
    decoders: int | None = None,
) -> IndexReport:
    """Finds everyone in photos and videos and writes them to the store.

    Ctrl-C ends it early; what was written stays, and the next call goes on. While it runs, the
    store is used by a thread of its own alone.

    Args:
        model: any system.
        store: open for writing, of this model.
        media: from `find_media`.
        every: which frames of a video: seconds between them (0 for all), or a `Sampling`.
        score_threshold: people found with less are left out.
        tracks: join people in a video to tracks, of which the best views are kept.
        progress: called after each picture and file, once it is written, by the writing thread.
        decoders: threads that decode, each a file of its own; None for one for two processors, at
            the most 4.

    Raises:
        StoreError: it cannot be written.
    """
    to = StoreWriter(store, tracks=tracks)
    tasks = to.plan(media)
    tally = Tally(IndexReport(skipped=len(media) - len(tasks)), len(media), progress)

    def write(one: Media, frame: Frame, found: Detections) -> None:
        put(to, tally, Looked(one, describe(frame, found)))

    began = time.perf_counter()
    if decoders is None:
        decoders = max(1, min(4, (os.cpu_count() or 1) // 2))
    decoding = _Decoding(tasks, every, decoders)
    report = tally.report
    try:
        with Writer() as writer, decoding:
            while (item := decoding.next()) is not None:
                if isinstance(item, Ended):
                    writer.do(partial(put, to, tally, item))
                else:
                    one, frame = item
                    writer.do(partial(write, one, frame, find(model, frame, score_threshold)))
    except KeyboardInterrupt:
        report.interrupted = True
    finally:
        report.waited = decoding.waited
        report.seconds = time.perf_counter() - began
    order = {one.path: k for k, one in enumerate(media)}
    report.unreadable.sort(key=lambda one: order[one.path])
    return report


class _Decoding:
    """Threads that decode files ahead of the network.

    Attributes:
        waited: seconds that `next` had to wait for a picture.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        every: float | Sampling,
        threads: int,
    ) -> None:
        self.waited = 0.0
        self._every = every
        self._left, self._turn = iter(tasks), threading.Lock()
        self._stop = threading.Event()
        self._waiting: queue.Queue[tuple[Media, Frame] | Ended | BaseException | None]
        self._waiting = queue.Queue(_AHEAD)
        self._threads = [
            threading.Thread(target=self._decode_files, name=f"decoder {k}", daemon=True)
            for k in range(threads)
        ]
        self._working = threads

    def next(self) -> tuple[Media, Frame] | Ended | None:
        """The next picture, or the end of a file; None after the last."""
        asked = time.perf_counter()
        while (item := self._waiting.get()) is None:
            self._working -= 1
            if not self._working:
                break
        self.waited += time.perf_counter() - asked
        if isinstance(item, BaseException):
            raise item
        return item

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            while thread.is_alive():
                with suppress(queue.Empty):
                    self._waiting.get(timeout=0.05)

    def _put(self, item: tuple[Media, Frame] | Ended | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def _next_file(self) -> Task | None:
        with self._turn:
            return next(self._left, None)

    def _decode_files(self) -> None:
        try:
            while (task := self._next_file()) is not None:
                one, reason = task.media, ""
                try:
                    for frame in decode(one, every=self._every, known=task.known):
                        if not self._put((one, frame)):
                            return
                except PictureError as error:
                    reason = str(error).removeprefix(f"{one.path}: ")
                if not self._put(Ended(one, reason)):
                    return
            self._put(None)
        except BaseException as error:  # the network's thread has to hear of it
            self._put(error)
