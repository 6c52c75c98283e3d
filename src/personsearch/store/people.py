"""Records of a store: models, files, pictures, people and their embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from personsearch.types import FileStamp, FloatArray


@dataclass(frozen=True)
class ModelIdentity:
    """The model that made a store's embeddings; those of two models cannot be compared.

    Attributes:
        name: as the user named it.
        fingerprint: hash of its weights and settings.
        dim: length of an embedding.
        weighted: whether similarity is multiplied by the detection's score.
    """

    name: str
    fingerprint: str
    dim: int
    weighted: bool = False


class FileState(StrEnum):
    """How far a file is indexed, with the value that databases and exports hold."""

    OPEN = "open"
    COMPLETE = "whole"
    UNREADABLE = "unreadable"
    ERASED = "erased"


@dataclass(frozen=True)
class KnownFile:
    """A file that was indexed, at least in part.

    Attributes:
        id: of its row.
        stamp: size and modification time when it was indexed.
        state: `FileState`.
        frames: number of a video's frames in the store; 0 for a photo.
    """

    id: int
    stamp: FileStamp
    state: FileState
    frames: int


@dataclass(frozen=True, eq=False)
class FoundPeople:
    """A picture and the people found in it.

    Attributes:
        size: (width, height) of the picture in pixels.
        boxes: (N, 4) float32 in its pixels.
        scores: (N,) float32.
        embeddings: (N, D) float32 of unit length.
        thumbnails: N pictures as JPEG.
        frame: index from zero in a video; None for a photo.
        position: seconds from the video's start.
        time: seconds since 1970 at which it was taken; None if unknown.
    """

    size: tuple[int, int]
    boxes: FloatArray
    scores: FloatArray
    embeddings: FloatArray
    thumbnails: Sequence[bytes]
    frame: int | None = None
    position: float | None = None
    time: float | None = None


@dataclass(frozen=True)
class TrackSpan:
    """The part of a video in which a person was tracked.

    Attributes:
        id: of the track.
        first, last: seconds from the video's start.
        views: number of detections, of which the best are kept.
    """

    id: int
    first: float
    last: float
    views: int


@dataclass(frozen=True, eq=False)
class StoredPerson:
    """A person in a store.

    Attributes:
        id: of the row.
        source, name: the folder or file that was indexed, and the file inside it.
        box: (4,) float32 in the picture's pixels.
        score: of the detection.
        frame, position, time, camera: as in `FoundPeople`; None where unknown.
        size: (width, height) of the picture.
        track: when the person was seen in a video; None for a photo.
    """

    id: int
    source: str
    name: str
    box: FloatArray
    score: float
    frame: int | None
    position: float | None
    time: float | None
    camera: str | None
    size: tuple[int, int]
    track: TrackSpan | None = None

    @property
    def path(self) -> Path:
        """The picture or video file; live cameras and uploads have none, see `has_file`."""
        return Path(self.uri)

    @property
    def uri(self) -> str:
        """Source and name in one text: a path, or a camera's address."""
        return f"{self.source.rstrip('/')}/{self.name}" if self.name else self.source

    @property
    def has_file(self) -> bool:
        """Whether the picture came from a file, which may be gone by now."""
        return Path(self.source).is_absolute()


@dataclass(frozen=True, eq=False)
class EmbeddingRows:
    """Embeddings and the columns that filters read, ascending by id.

    Attributes:
        ids: (N,) int64.
        vectors: (N, D) float16.
        scores, heights, times: (N,) float64, of detections, boxes in pixels, and seconds since
            1970; NaN where no time is known.
        files: (N,) int64, ids of the files.
    """

    ids: NDArray[np.int64]
    vectors: NDArray[np.float16]
    scores: NDArray[np.float64]
    heights: NDArray[np.float64]
    times: NDArray[np.float64]
    files: NDArray[np.int64]
