"""From photos and videos to a store: threads decode, the network runs, one thread writes.

What is there already is skipped, what has changed is done again, and a run that was stopped goes on
where it was: a picture counts when it is written, never before.
"""

import io
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from personsearch.errors import PictureError
from personsearch.retrieval.media import Frame, Media, Skipped, decode
from personsearch.retrieval.sampling import Sampling
from personsearch.retrieval.store import FoundPeople, Store
from personsearch.retrieval.streams import StreamReport
from personsearch.retrieval.tracks import join
from personsearch.retrieval.writer import Writer
from personsearch.systems.base import PersonSearchModel
from personsearch.types import Detections, FloatArray

THUMBNAIL = 160
"""Pixels of a thumbnail's longer side."""

_AHEAD = 6  # decoded pictures that wait for the network
_QUALITY = 85


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
        streams = [vars(one) for one in self.streams]
        return vars(self) | {"rate": self.rate, "unreadable": left, "streams": streams}


Progress = Callable[[int, int, IndexReport], None]
"""Called with (files done, files in all, what was done until now), when that is written."""


@dataclass(frozen=True)
class _Done:
    """The end of a file, and why it could not be read to there."""

    media: Media
    reason: str = ""


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
    run = _Run(store, media, tracks, progress)
    began = time.perf_counter()
    if decoders is None:
        decoders = max(1, min(4, (os.cpu_count() or 1) // 2))
    decoding = _Decoding(run.wanted, every, run.frames, decoders)
    try:
        with Writer() as writer, decoding:
            while (item := decoding.next()) is not None:
                if isinstance(item, _Done):
                    writer.do(partial(run.end, item))
                else:
                    media_of, frame = item
                    found = find(model, frame, score_threshold)
                    writer.do(partial(run.write, media_of, frame, found))
    except KeyboardInterrupt:
        run.report.interrupted = True
    finally:
        run.report.waited = decoding.waited
        run.report.seconds = time.perf_counter() - began
    order = {one.path: k for k, one in enumerate(media)}
    run.report.unreadable.sort(key=lambda one: order[one.path])
    return run.report


class _Run:
    """What is to be done, and the writing of it, which the writing thread alone does."""

    def __init__(
        self, store: Store, media: Sequence[Media], tracks: bool, progress: Progress | None
    ) -> None:
        self.report = IndexReport()
        self.wanted: list[Media] = []
        self.frames: dict[Media, set[int]] = {}
        self._store, self._tracks, self._progress = store, tracks, progress
        self._rows: dict[Media, int] = {}
        known = {source: store.known_files(source) for source in {one.source for one in media}}
        for one in media:
            there = known[one.source].get(one.name)
            finished = there is not None and there.state in ("whole", "unreadable")
            if there is not None and (
                there.state == "erased" or (finished and there.stamp == one.stamp)
            ):
                self.report.skipped += 1
                continue
            self.wanted.append(one)
            if there is not None and there.frames and there.stamp == one.stamp:
                self.frames[one] = store.frames(there.id)
        self._done, self._all = self.report.skipped, len(media)

    def write(self, media: Media, frame: Frame, found: Detections) -> None:
        # A photo and its end are one: killed in between, it would be done twice.
        photo = media.kind == "photo"
        self._store.add(self._row(media), [describe(frame, found)], finished=photo)
        self.report.pictures += 1
        self.report.people += len(found.boxes)
        self._tell()

    def end(self, done: _Done) -> None:
        row = self._row(done.media)
        if done.media.kind == "video":
            # What was seen before a video broke off is worth the same.
            self._store.finish_video(row, join(self._store.seen(row)) if self._tracks else [])
        if done.reason:
            self._store.finish_file(row, done.reason)
            self.report.unreadable.append(Skipped(done.media.path, done.reason))
        else:
            self.report.files += 1
        self._done += 1
        self._tell()

    def _row(self, media: Media) -> int:
        if media not in self._rows:
            self._rows[media] = self._store.begin_file(
                media.source, media.name, media.stamp, media.camera
            )
        return self._rows[media]

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._done, self._all, self.report)


class _Decoding:
    """Threads that decode files ahead of the network.

    Attributes:
        waited: seconds that `next` had to wait for a picture.
    """

    def __init__(
        self,
        media: Sequence[Media],
        every: float | Sampling,
        known: dict[Media, set[int]],
        threads: int,
    ) -> None:
        self.waited = 0.0
        self._every, self._known = every, known
        self._left, self._turn = iter(media), threading.Lock()
        self._stop = threading.Event()
        self._waiting: queue.Queue[tuple[Media, Frame] | _Done | BaseException | None]
        self._waiting = queue.Queue(_AHEAD)
        self._threads = [
            threading.Thread(target=self._decode_files, name=f"decoder {k}", daemon=True)
            for k in range(threads)
        ]
        self._working = threads

    def next(self) -> tuple[Media, Frame] | _Done | None:
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

    def _put(self, item: tuple[Media, Frame] | _Done | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def _next_file(self) -> Media | None:
        with self._turn:
            return next(self._left, None)

    def _decode_files(self) -> None:
        try:
            while (one := self._next_file()) is not None:
                reason = ""
                try:
                    known = self._known.get(one, set())
                    for frame in decode(one, every=self._every, known=known):
                        if not self._put((one, frame)):
                            return
                except PictureError as error:
                    reason = str(error).removeprefix(f"{one.path}: ")
                if not self._put(_Done(one, reason)):
                    return
            self._put(None)
        except BaseException as error:  # the network's thread has to hear of it
            self._put(error)


def look(model: PersonSearchModel, frame: Frame, score_threshold: float) -> FoundPeople:
    """Everyone in a picture, as a store takes them."""
    return describe(frame, find(model, frame, score_threshold))


def find(model: PersonSearchModel, frame: Frame, score_threshold: float) -> Detections:
    """Everyone in a picture who is found with at least so much, with their embeddings."""
    device = next((weight.device for weight in model.parameters()), torch.device("cpu"))
    image = torch.tensor(frame.pixels, device=device).permute(2, 0, 1).float().div(255.0)
    with torch.inference_mode():
        found: Detections = model.detect([image])[0]
    assert found.embeddings is not None
    kept = found.scores >= score_threshold
    return Detections(found.boxes[kept], found.scores[kept], found.embeddings[kept])


def describe(frame: Frame, found: Detections) -> FoundPeople:
    """People who were found in a picture, as a store takes them, with thumbnails."""
    height, width = frame.pixels.shape[:2]
    assert found.embeddings is not None
    return FoundPeople(
        size=(width, height),
        boxes=found.boxes,
        scores=found.scores,
        embeddings=found.embeddings,
        thumbnails=list(_thumbnails(frame.pixels, found.boxes)),
        frame=frame.index,
        position=frame.position,
        time=frame.time,
    )


def _thumbnails(pixels: NDArray[np.uint8], boxes: FloatArray) -> Iterator[bytes]:
    height, width = pixels.shape[:2]
    for box in boxes:
        x1, y1 = np.floor(box[:2]).astype(int).clip(0)
        x2, y2 = np.ceil(box[2:]).astype(int)
        x2, y2 = max(x1 + 1, min(x2, width)), max(y1 + 1, min(y2, height))
        crop = Image.fromarray(np.ascontiguousarray(pixels[y1:y2, x1:x2]))
        crop.thumbnail((THUMBNAIL, THUMBNAIL))
        written = io.BytesIO()
        crop.save(written, "JPEG", quality=_QUALITY)
        yield written.getvalue()
