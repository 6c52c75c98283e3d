"""The few values that every part of personsearch passes around, checked when they are made.

Boxes are float32 ``x1, y1, x2, y2`` in pixels, x2 and y2 exclusive. Identities are int64 >= 0, or
`UNLABELLED`. Embeddings are float32 of unit length, one a row.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from personsearch.errors import DataError

UNLABELLED = -1  # the identity of a person whom nobody has named
BACKGROUND = -2  # the identity of a piece of background

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


class TensorLike(Protocol):
    """A `torch.Tensor`, seen without importing torch."""

    def detach(self) -> Any: ...


def _to_numpy(value: Any) -> NDArray[Any]:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        # NumPy has no bfloat16.
        value = (value.float() if value.is_floating_point() else value).numpy()
    array: NDArray[Any] = np.asarray(value)
    return array


def as_boxes(value: ArrayLike | TensorLike, where: str) -> FloatArray:
    """Return boxes as a checked (N, 4) float32 array; errors name `where` they belong.

    Raises:
        DataError: another shape, a coordinate that is not finite, or x2 <= x1 or y2 <= y1.
    """
    boxes = _to_numpy(value).astype(np.float32, copy=False)
    if boxes.size == 0:
        return np.zeros((0, 4), dtype=np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"{where}: boxes have shape {boxes.shape}, expected (N, 4)")
    bad = ~np.isfinite(boxes).all(axis=1)
    bad |= (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{where}: box {row} is {boxes[row].tolist()}, expected finite x1 < x2 and y1 < y2; "
            "drop or repair such boxes before making this object"
        )
    return boxes


def _as_box(value: ArrayLike | TensorLike, where: str) -> FloatArray:
    box = _to_numpy(value)
    if box.shape != (4,):
        raise DataError(f"{where}: box has shape {box.shape}, expected (4,)")
    checked: FloatArray = as_boxes(box[None], where)[0]
    return checked


def _are_boxes(values: Sequence[Any]) -> bool:
    """Whether all values are valid boxes (4,) for sure: a quick check of arrays alone."""
    if any(type(box) is not np.ndarray or box.shape != (4,) for box in values):
        return False
    boxes = np.array(values, dtype=np.float32).reshape(-1, 4)
    return bool(np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all())


def _as_ids(value: ArrayLike | TensorLike, count: int, where: str) -> IntArray:
    ids = _to_numpy(value)
    if ids.size == 0:
        ids = np.zeros((0,), dtype=np.int64)
    if ids.shape != (count,):
        raise DataError(f"{where}: {count} boxes but ids of shape {ids.shape}")
    if not np.issubdtype(ids.dtype, np.integer):
        raise DataError(f"{where}: ids are {ids.dtype}, expected integers")
    ids = ids.astype(np.int64, copy=False)
    if (ids < UNLABELLED).any():
        raise DataError(
            f"{where}: id {int(ids.min())}, expected >= 0, or {UNLABELLED} (unlabelled)"
        )
    return ids


@dataclass(frozen=True, eq=False)
class Scene:
    """One whole picture and the people annotated in it.

    Raises:
        DataError: on shapes that disagree, or a box that is not one.
    """

    name: str  # unique in its data set
    path: Path  # the picture file, or the video that holds it (see `frame`)
    size: tuple[int, int]  # (width, height) in pixels
    boxes: FloatArray  # (N, 4) float32
    ids: IntArray  # (N,) int64, `UNLABELLED` for people without an identity
    camera: int | None = None
    time: float | None = None  # seconds, from any origin that the camera keeps
    frame: int | None = None  # when `path` is a video, the index of the frame from zero
    # (K, 4) float32, regions with people who are not annotated; training covers them
    ignored: FloatArray = field(default_factory=lambda: np.zeros((0, 4), np.float32))

    def __post_init__(self) -> None:
        where = f"scene {self.name!r}"
        width, height = self.size
        if width <= 0 or height <= 0:
            raise DataError(f"{where}: size is {self.size}, expected positive (width, height)")
        object.__setattr__(self, "path", Path(self.path))
        object.__setattr__(self, "size", (int(width), int(height)))
        object.__setattr__(self, "boxes", as_boxes(self.boxes, where))
        object.__setattr__(self, "ids", _as_ids(self.ids, len(self.boxes), where))
        object.__setattr__(self, "ignored", as_boxes(self.ignored, f"{where}, ignored regions"))


@dataclass(frozen=True, eq=False)
class Query:
    """A query: the box (4,) of a person in a scene, the person's id, and the scene's camera."""

    scene: str
    box: FloatArray
    id: int
    camera: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", _as_box(self.box, f"query in scene {self.scene!r}"))


@dataclass(frozen=True, eq=False, kw_only=True)
class SearchProtocol:
    """Queries, their galleries, and the right answers.

    A detection that overlaps a box in `ignored` counts neither for nor against the system. It
    belongs to the person that it overlaps most, of all `annotated` ones if they are given, else of
    targets and ignored people. With `known_only`, a detection of nobody is ignored, too. Only two
    protocols of PRW ignore people, and only its original one has ``"trapezoid"``.

    Raises:
        DataError: lengths that disagree, or an invalid target box.
    """

    name: str  # as printed in tables
    queries: Sequence[Query]
    galleries: Sequence[Sequence[str]]  # per query the gallery scenes; may be lazy sequences
    targets: Sequence[Mapping[str, FloatArray]]  # per query the person's box (4,) by scene
    ignored: Sequence[Mapping[str, FloatArray]] = ()  # per query boxes (N, 4) by scene, or empty
    average_precision: str = "step"  # area under the step function, or "trapezoid"
    annotated: Mapping[str, FloatArray] | None = None  # every annotated box (N, 4) by scene
    known_only: bool = False  # search only the detections of people who are not ignored

    def __post_init__(self) -> None:
        counts = (len(self.queries), len(self.galleries), len(self.targets))
        if len(set(counts)) != 1:
            raise DataError(
                f"protocol {self.name!r}: {counts[0]} queries, {counts[1]} galleries and "
                f"{counts[2]} target maps; expected one gallery and one target map a query"
            )
        if len(self.ignored) not in (0, counts[0]):
            raise DataError(
                f"protocol {self.name!r}: {len(self.ignored)} ignored maps for {counts[0]} queries"
            )
        if self.known_only and not len(self.ignored) == counts[0] > 0:
            raise DataError(
                f"protocol {self.name!r}: known_only without ignored people; give a map for each "
                "query, which may be empty"
            )
        if self.average_precision not in ("step", "trapezoid"):
            raise DataError(
                f"protocol {self.name!r}: average_precision is {self.average_precision!r}, "
                "expected 'step' or 'trapezoid'"
            )
        for query, targets in zip(self.queries, self.targets, strict=True):
            # All of a query's boxes in one go; one at a time only to name the bad one.
            if not _are_boxes(list(targets.values())):
                for scene, box in targets.items():
                    _as_box(box, f"protocol {self.name!r}, query {query.scene!r}, target {scene!r}")


@dataclass(frozen=True, eq=False, init=False)
class Detections:
    """The people found in one picture. Takes NumPy arrays or tensors, holds NumPy arrays.

    Raises:
        DataError: on shapes that disagree or a value that is not finite.
    """

    boxes: FloatArray  # (N, 4) float32
    scores: FloatArray  # (N,) float32, higher is surer
    embeddings: FloatArray  # (N, D) float32; (N, 0) where a detector stands alone

    def __init__(
        self,
        boxes: ArrayLike | TensorLike,
        scores: ArrayLike | TensorLike,
        embeddings: ArrayLike | TensorLike | None = None,
    ) -> None:
        boxes = as_boxes(boxes, "detections")
        count = len(boxes)
        scores = _to_numpy(scores).astype(np.float32, copy=False)
        if scores.size == 0:
            scores = np.zeros((0,), dtype=np.float32)
        if scores.shape != (count,):
            raise DataError(f"detections: {count} boxes but scores of shape {scores.shape}")
        if not np.isfinite(scores).all():
            raise DataError("detections: a score is NaN or infinite; the network has diverged")
        if embeddings is None:
            embeddings = np.zeros((count, 0), dtype=np.float32)
        else:
            embeddings = _to_numpy(embeddings).astype(np.float32, copy=False)
            if embeddings.ndim != 2 or len(embeddings) != count:
                raise DataError(
                    f"detections: {count} boxes but embeddings of shape {embeddings.shape}, "
                    "expected (N, D)"
                )
            if not np.isfinite(embeddings).all():
                raise DataError(
                    "detections: an embedding holds NaN or infinity; the network has diverged"
                )
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "embeddings", embeddings)

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class FileStamp:
    """Size and modification time of a file, for change detection."""

    bytes: int
    changed: int  # nanoseconds since 1970


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name != "Target":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        message = "personsearch.types.Target has moved: import it from personsearch"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        # By name: this module must not import torch, and Target holds tensors.
        return import_module("personsearch.systems.base").Target
