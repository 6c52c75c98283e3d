"""From photos and videos to a store: one thread decodes, the network runs, each picture is written.

What is there already is skipped, what has changed is done again, and a run that was stopped goes on
where it was: a picture counts when it is written, never before.
"""

import io
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from personsearch.errors import PictureError
from personsearch.retrieval.media import Frame, Media, Skipped, decode
from personsearch.retrieval.store import FoundPeople, Store
from personsearch.retrieval.tracks import join
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
        unreadable: what could not be read, and why.
        seconds: that it took.
        waited: of these, seconds in which the network had nothing to do.
        interrupted: whether it was stopped before its end.
    """

    pictures: int = 0
    people: int = 0
    files: int = 0
    skipped: int = 0
    unreadable: list[Skipped] = field(default_factory=list)
    seconds: float = 0.0
    waited: float = 0.0
    interrupted: bool = False

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        left = [{"path": str(one.path), "reason": one.reason} for one in self.unreadable]
        return vars(self) | {"unreadable": left}


Progress = Callable[[int, int, IndexReport], None]
"""Called with (files done, files in all, what was done until now)."""


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
    every: float = 1.0,
    score_threshold: float = 0.3,
    tracks: bool = True,
    progress: Progress | None = None,
) -> IndexReport:
    """Finds everyone in photos and videos and writes them to the store.

    Ctrl-C ends it early; what was written stays, and the next call goes on.

    Args:
        model: any system.
        store: open for writing, of this model.
        media: from `find_media`.
        every: seconds between frames of a video; 0 for all of them.
        score_threshold: people found with less are left out.
        tracks: join people in a video to tracks, of which the best views are kept.
        progress: called after each picture and file.

    Raises:
        StoreError: it cannot be written.
    """
    report = IndexReport()
    wanted = []
    known = {source: store.known_files(source) for source in {one.source for one in media}}
    for one in media:
        there = known[one.source].get(one.name)
        finished = there is not None and there.state in ("whole", "unreadable")
        if there is not None and (
            there.state == "erased" or (finished and there.stamp == one.stamp)
        ):
            report.skipped += 1
        else:
            wanted.append(one)
    began = time.perf_counter()
    stop = threading.Event()
    frames: dict[Media, set[int]] = {}
    rows: dict[Media, int] = {}
    for one in wanted:
        there = known[one.source].get(one.name)
        if there is not None and there.frames and there.stamp == one.stamp:
            frames[one] = store.frames(there.id)
    waiting: queue.Queue[tuple[Media, Frame] | _Done | BaseException | None] = queue.Queue(_AHEAD)
    decoder = threading.Thread(
        target=_decode_all, args=(wanted, every, frames, waiting, stop), daemon=True
    )
    decoder.start()
    done = report.skipped
    try:
        while True:
            asked = time.perf_counter()
            item = waiting.get()
            report.waited += time.perf_counter() - asked
            if item is None:
                break
            if isinstance(item, BaseException):
                raise item
            one = item.media if isinstance(item, _Done) else item[0]
            if one not in rows:
                rows[one] = store.begin_file(one.source, one.name, one.stamp, one.camera)
            if isinstance(item, _Done):
                if one.kind == "video":
                    # What was seen before a video broke off is worth the same.
                    store.finish_video(rows[one], join(store.seen(rows[one])) if tracks else [])
                if item.reason:
                    store.finish_file(rows[one], item.reason)
                if item.reason:
                    report.unreadable.append(Skipped(one.path, item.reason))
                else:
                    report.files += 1
                done += 1
            else:
                found = look(model, item[1], score_threshold)
                # A photo and its end are one: killed in between, it would be done twice.
                store.add(rows[one], [found], finished=one.kind == "photo")
                report.pictures += 1
                report.people += len(found.boxes)
            if progress:
                progress(done, len(media), report)
    except KeyboardInterrupt:
        report.interrupted = True
    finally:
        stop.set()
        while decoder.is_alive():
            with suppress(queue.Empty):
                waiting.get(timeout=0.05)
        report.seconds = time.perf_counter() - began
    return report


def _decode_all(
    media: Sequence[Media],
    every: float,
    known: dict[Media, set[int]],
    waiting: "queue.Queue[Any]",
    stop: threading.Event,
) -> None:
    """Puts every picture of every file into the queue, the end of each file, and None."""

    def put(item: object) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    try:
        for one in media:
            reason = ""
            try:
                for frame in decode(one, every=every, known=known.get(one, frozenset())):
                    if not put((one, frame)):
                        return
            except PictureError as error:
                reason = str(error).removeprefix(f"{one.path}: ")
            if not put(_Done(one, reason)):
                return
        put(None)
    except BaseException as error:  # the network's thread has to hear of it
        put(error)


def look(model: PersonSearchModel, frame: Frame, score_threshold: float) -> FoundPeople:
    """Everyone in a picture, as a store takes them."""
    height, width = frame.pixels.shape[:2]
    device = next((weight.device for weight in model.parameters()), torch.device("cpu"))
    image = torch.tensor(frame.pixels, device=device).permute(2, 0, 1).float().div(255.0)
    with torch.inference_mode():
        found: Detections = model.detect([image])[0]
    assert found.embeddings is not None
    kept = found.scores >= score_threshold
    boxes = found.boxes[kept]
    return FoundPeople(
        size=(width, height),
        boxes=boxes,
        scores=found.scores[kept],
        embeddings=found.embeddings[kept],
        thumbnails=list(_thumbnails(frame.pixels, boxes)),
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
