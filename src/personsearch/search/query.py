"""A query: a picture, read once, and the person in it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import DataError
from personsearch.media.apart import decode_picture
from personsearch.media.opening import open_regular
from personsearch.types import Detections, FloatArray

if TYPE_CHECKING:
    from personsearch.systems.base import PersonSearchModel


@dataclass(frozen=True, eq=False)
class QueryPicture:
    """A picture to search by: read, decoded and hashed once."""

    path: Path
    pixels: NDArray[np.uint8]  # RGB (H, W, 3), EXIF rotation applied
    sha256: str  # of the file, for the audit log

    @classmethod
    def read(cls, path: Path | str) -> "QueryPicture":
        """Read a file; raise `PictureError` if it is missing, damaged, no picture or too large."""
        path = Path(path)
        with open_regular(path) as file:
            data = file.read()
        return cls(path, decode_picture(data, str(path)), hashlib.sha256(data).hexdigest())

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True, eq=False)
class QueryPerson:
    """The person to search for; where the box was given, `score` and `others` are None."""

    picture: QueryPicture
    box: FloatArray  # (4,) float32 in pixels
    embedding: FloatArray  # (D,) float32 of unit length
    score: float | None = None  # the detector's
    others: Detections | None = None  # everyone else detected in the picture, best first

    @property
    def path(self) -> Path:
        """The picture's file."""
        return self.picture.path


def check_box(box: Sequence[float], size: tuple[int, int], name: object) -> None:
    """Raise `DataError` unless x1, y1, x2, y2 cover a pixel of a picture (width, height)."""
    x1, y1, x2, y2 = (float(side) for side in box)
    width, height = size
    # Written so that NaN is refused, too.
    if not (min(x2, width) - max(x1, 0) >= 1 and min(y2, height) - max(y1, 0) >= 1):
        raise DataError(
            f"box {show_box(box)} lies outside of {name}, which has {width} x {height} pixels; "
            "expected x1,y1,x2,y2 with x1 < x2 and y1 < y2"
        )


def check_corners(box: Sequence[float]) -> None:
    """Raise `DataError` unless a box is x1, y1, x2, y2 with x1 < x2 and y1 < y2, all finite."""
    sides = np.asarray(box, float)
    if sides.shape != (4,) or not np.isfinite(sides).all() or not (sides[:2] < sides[2:]).all():
        raise DataError(
            f"box {show_box(box)}: expected x1,y1,x2,y2 in pixels with x1 < x2 and y1 < y2"
        )


def show_box(box: Sequence[float]) -> str:
    """A box as users write it: ``x1,y1,x2,y2``."""
    return ",".join(f"{side:g}" for side in box)


def query_person(
    model: "PersonSearchModel",
    picture: QueryPicture | Path | str,
    box: Sequence[float] | None = None,
) -> QueryPerson:
    """Embed the person in a box of the query picture; without a box, the highest-scoring person.

    Raises:
        PictureError: the picture cannot be read.
        DataError: the box lies outside of the picture, or nobody is detected in it.
    """
    from personsearch.systems.inference import detect, embed

    if not isinstance(picture, QueryPicture):
        picture = QueryPicture.read(picture)
    if box is not None:
        check_box(box, picture.size, picture.path)
        corners, score, others = np.array(box, np.float32), None, None
    else:
        found = detect(model, picture.pixels)
        if len(found) == 0:
            raise DataError(
                f"{picture.path}: nobody was found in it; draw a box around the person: "
                "x1,y1,x2,y2 in pixels"
            )
        order = np.argsort(-found.scores, kind="stable")
        first, rest = order[0], order[1:]
        corners, score = found.boxes[first], float(found.scores[first])
        others = Detections(found.boxes[rest], found.scores[rest], found.embeddings[rest])
    # The query comes from embed() even where detect() has an embedding: some systems differ.
    embedding = embed(model, picture.pixels, corners[None])[0]
    return QueryPerson(picture, corners, embedding, score, others)
