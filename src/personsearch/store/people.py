"""Records of a store: models, files, pictures, people and their embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import GoneError
from personsearch.types import FileStamp, FloatArray

T = TypeVar("T")


@dataclass(frozen=True)
class ModelIdentity:
    """The model that made a store's embeddings; those of two models cannot be compared."""

    name: str  # as the user named it
    fingerprint: str  # hash of its weights and settings
    dim: int  # length of an embedding
    weighted: bool = False  # whether similarity is multiplied by the detection's score


class FileState(StrEnum):
    """How far a file is indexed, with the value that databases and exports hold."""

    OPEN = "open"
    COMPLETE = "whole"
    UNREADABLE = "unreadable"
    ERASED = "erased"


@dataclass(frozen=True)
class KnownFile:
    """A file that was indexed, at least in part."""

    id: int  # of its row
    stamp: FileStamp  # size and modification time when it was indexed
    state: FileState
    frames: int  # number of a video's frames in the store; 0 for a photo
    content: bytes | None = None  # SHA-256 of its bytes; None if unknown


@dataclass(frozen=True, eq=False)
class FoundPeople:
    """A picture and the people found in it."""

    size: tuple[int, int]  # (width, height) of the picture in pixels
    boxes: FloatArray  # (N, 4) float32 in its pixels
    scores: FloatArray  # (N,) float32
    embeddings: FloatArray  # (N, D) float32 of unit length
    thumbnails: Sequence[bytes]  # N pictures as JPEG
    frame: int | None = None  # index from zero in a video; None for a photo
    position: float | None = None  # seconds from the video's start
    time: float | None = None  # seconds since 1970 at which it was taken; None if unknown


@dataclass(frozen=True)
class TrackSpan:
    """The part of a video in which a person was tracked."""

    id: int  # of the track
    # first, last: seconds from the video's start
    first: float
    last: float
    views: int  # number of detections, of which the best are kept


@dataclass(frozen=True, eq=False)
class StoredPerson:
    """A person in a store."""

    id: int  # of the row
    # source, name: the folder or file that was indexed, and the file inside it
    source: str
    name: str
    box: FloatArray  # (4,) float32 in the picture's pixels
    score: float  # of the detection
    # frame, position, time, camera: as in `FoundPeople`; None where unknown
    frame: int | None
    position: float | None
    time: float | None
    camera: str | None
    size: tuple[int, int]  # (width, height) of the picture
    track: TrackSpan | None = None  # when the person was seen in a video; None for a photo
    here: bool = True  # whether the source was indexed on this machine, not imported or merged

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
        """Whether the picture came from a file of this machine, which may be gone by now.

        What an import or a merge says about files proves nothing, so none of them is opened.
        """
        return self.here and Path(self.source).is_absolute()


class PictureRow(NamedTuple):
    """A photo or a frame of a video, see `FoundPeople`, and when it was added to the store."""

    frame: int | None
    position: float | None
    time: float | None
    added: float
    width: int
    height: int


class TrackRow(NamedTuple):
    """A track of a video, see `TrackSpan`."""

    first: float
    last: float
    views: int


class PersonRow(NamedTuple):
    """A view of a person: its picture and track, by ids or indices, box and score."""

    picture: int
    track: int | None
    x1: float
    y1: float
    x2: float
    y2: float
    score: float

    def moved(self, pictures: int, tracks: int) -> "PersonRow":
        """The row with so much added to the indices of its picture and its track."""
        track = None if self.track is None else self.track + tracks
        return self._replace(picture=self.picture + pictures, track=track)


@dataclass(frozen=True, eq=False)
class EmbeddingRows:
    """Embeddings and the columns that filters read, ascending by id."""

    ids: NDArray[np.int64]  # (N,) int64
    vectors: NDArray[np.float16]  # (N, D) float16
    # scores, heights, times: (N,) float64, of detections, boxes in pixels, and seconds since 1970;
    # NaN where no time is known
    scores: NDArray[np.float64]
    heights: NDArray[np.float64]
    times: NDArray[np.float64]
    files: NDArray[np.int64]  # (N,) int64, ids of the files


def in_order(store: Path | str, ids: Sequence[int], found: Mapping[int, T]) -> list[T]:
    """What was found of people, in the order of `ids`; `GoneError` if one is not there."""
    if missing := [int(one) for one in ids if int(one) not in found]:
        raise GoneError(f"{store}: has no person {missing[0]}; they may be erased")
    return [found[int(one)] for one in ids]
