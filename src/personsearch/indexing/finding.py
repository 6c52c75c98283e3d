"""Find everyone in a picture, and describe them for a store."""

import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from personsearch.media.files import Frame
from personsearch.store import FoundPeople
from personsearch.systems.base import PersonSearchModel
from personsearch.systems.inference import detect
from personsearch.types import Detections, FloatArray

THUMBNAIL = 160  # pixels of a thumbnail's longer side

_QUALITY = 85


def find(model: PersonSearchModel, frame: Frame, score_threshold: float) -> Detections:
    """Return everyone in a picture with at least that score, with their embeddings."""
    return surest(detect(model, frame.pixels), score_threshold)


def surest(found: Detections, score_threshold: float) -> Detections:
    """Return the detections with at least that score."""
    assert found.embeddings is not None
    kept = found.scores >= score_threshold
    return Detections(found.boxes[kept], found.scores[kept], found.embeddings[kept])


def describe(frame: Frame, found: Detections) -> FoundPeople:
    """Return the people in a picture as a store takes them, with thumbnails."""
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
