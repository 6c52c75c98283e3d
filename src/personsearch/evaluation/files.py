"""Detections on disk, to evaluate the output of any code.

One NumPy ``.npz`` without pickled objects:

    names                (S,) str        scene names
    counts               (S,) int64      detections of each scene
    boxes                (N, 4) float32  N = sum of counts; x1, y1, x2, y2 in pixels
    scores               (N,) float32
    embeddings           (N, D) float32  unit length where the metric is "cosine"
    queries/PROTOCOL     (Q, D) float32  query embeddings of a protocol, in its order
    confidence_weighted  () bool         optional: whether similarities are multiplied by scores
    metric               () str          optional: "cosine" (the default) or "euclidean"

Context matching needs the scenes of the queries among `names`, with a count of 0 where nobody was
found. Files of version 0.1 lack the two optional arrays.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from personsearch.errors import EvaluationError
from personsearch.evaluation.gallery import METRICS
from personsearch.types import Detections, FloatArray

# Kinds of dtype, and number of axes, of each part.
_KINDS = {
    "names": ("U", 1),
    "counts": ("iu", 1),
    "boxes": ("fiu", 2),
    "scores": ("fiu", 1),
    "embeddings": ("fiu", 2),
}
_PARTS = tuple(_KINDS)
_QUERIES = "queries/"
_WEIGHTED = "confidence_weighted"
_METRIC = "metric"


@dataclass(frozen=True, eq=False)
class SavedDetections:
    """Detections by scene name, query embeddings (Q, D) by protocol name, whether similarities are
    multiplied by scores (None: not stated), and the metric that embeddings are compared by.
    """

    found: Mapping[str, Detections]
    queries: Mapping[str, FloatArray]
    confidence_weighted: bool | None = None
    metric: str = "cosine"


def save_detections(path: Path, saved: SavedDetections) -> None:
    """Write detections and query embeddings to an ``.npz`` file."""
    every = list(saved.found.values())
    dim = max((d.embeddings.shape[1] for d in every), default=0)
    empty = np.zeros((0, dim), np.float32)
    arrays = {
        "names": np.array(list(saved.found), dtype=np.str_),
        "counts": np.array([len(d) for d in every], dtype=np.int64),
        "boxes": np.concatenate([np.zeros((0, 4), np.float32), *(d.boxes for d in every)]),
        "scores": np.concatenate([np.zeros(0, np.float32), *(d.scores for d in every)]),
        "embeddings": np.concatenate([empty, *(d.embeddings for d in every if len(d))]),
    }
    arrays |= {_QUERIES + name: embeddings for name, embeddings in saved.queries.items()}
    if saved.confidence_weighted is not None:
        arrays[_WEIGHTED] = np.array(saved.confidence_weighted)
    if saved.metric != "cosine":
        arrays[_METRIC] = np.array(saved.metric)
    with Path(path).open("wb") as file:
        # NumPy declares a flag among the keywords, which no name of an array is.
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_detections(path: Path) -> SavedDetections:
    """Read an ``.npz`` file of detections.

    Raises:
        EvaluationError: the file is missing, damaged, lacks a part, or its parts disagree.
    """
    try:
        with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise EvaluationError(f"{path}: no such file of detections") from None
    except Exception as error:  # zipfile, zlib and NumPy raise what they like on damaged files
        why = f"{type(error).__name__}: {error}"
        raise EvaluationError(f"{path}: not an .npz of detections ({why})") from None
    missing = [part for part in _PARTS if part not in arrays]
    if missing:
        raise EvaluationError(
            f"{path}: lacks {', '.join(missing)}; expected the arrays {', '.join(_PARTS)}"
        )
    wrong = [
        f"{part} are {arrays[part].dtype} of shape {arrays[part].shape}"
        for part, (kinds, axes) in _KINDS.items()
        if arrays[part].dtype.kind not in kinds or arrays[part].ndim != axes
    ]
    if wrong:
        raise EvaluationError(f"{path}: {wrong[0]}, expected the arrays of an .npz of detections")
    names, counts = arrays["names"], arrays["counts"]
    if (counts < 0).any():
        raise EvaluationError(f"{path}: a count is {counts.min()}, expected 0 or more")
    total = int(counts.sum())
    lengths = {part: len(arrays[part]) for part in ("boxes", "scores", "embeddings")}
    if len(names) != len(counts) or set(lengths.values()) != {total}:
        raise EvaluationError(
            f"{path}: {len(names)} names, {len(counts)} counts that sum to {total}, "
            + ", ".join(f"{n} {part}" for part, n in lengths.items())
            + "; expected one count per name, and as many of the rest as the counts sum to"
        )
    weighted = arrays.get(_WEIGHTED)
    if weighted is not None and (weighted.dtype != np.bool_ or weighted.shape):
        raise EvaluationError(
            f"{path}: {_WEIGHTED} is {weighted.dtype} of shape {weighted.shape}, expected one bool"
        )
    metric = str(arrays.get(_METRIC, "cosine"))
    if metric not in METRICS:
        known = ", ".join(map(repr, METRICS))
        raise EvaluationError(f"{path}: {_METRIC} is {metric!r}, expected one of {known}")
    ends = np.cumsum(counts)
    found = {
        str(name): Detections(*(arrays[part][end - count : end] for part in _PARTS[2:]))
        for name, count, end in zip(names, counts.tolist(), ends.tolist(), strict=True)
    }
    if len(found) != len(names):
        raise EvaluationError(f"{path}: a scene name occurs twice")
    queries = {
        name.removeprefix(_QUERIES): array.astype(np.float32, copy=False)
        for name, array in arrays.items()
        if name.startswith(_QUERIES)
    }
    return SavedDetections(found, queries, None if weighted is None else bool(weighted), metric)
