"""Looks for one person in a folder of pictures, with a model and nothing else: no index, no store.

Every person whom the model finds in the folder is ranked by the similarity to the query, times the
detection's score where the model asks for that.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from personsearch.errors import DataError, PictureError
from personsearch.media.pictures import SUFFIXES, read_picture
from personsearch.systems.base import PersonSearchModel
from personsearch.systems.inference import device_of, to_images
from personsearch.types import Detections, FloatArray

Progress = Callable[[int, int], None]
"""Called with (pictures done, pictures in all)."""


@dataclass(frozen=True)
class Unreadable:
    """A picture or folder that was left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, eq=False)
class Hit:
    """One person found in the folder.

    Attributes:
        scene: the picture's path inside the folder.
        path: the picture.
        box: (4,) float32 in its pixels.
        similarity: cosine to the query, -1..1.
        score: the detector's, 0..1.
        rank_score: what the hits are ranked by: `similarity`, or its product with `score`.
    """

    scene: str
    path: Path
    box: FloatArray
    similarity: float
    score: float
    rank_score: float


@dataclass(frozen=True, eq=False)
class QueryPerson:
    """Who is looked for.

    Attributes:
        path: the query picture.
        box: (4,) float32 in its pixels.
        embedding: (D,) float32 of unit length.
        score: the detector's; None where the box was given.
        others: everyone else whom the detector found there, best first; empty where the box was
            given.
    """

    path: Path
    box: FloatArray
    embedding: FloatArray
    score: float | None = None
    others: Detections | None = None


@dataclass(eq=False)
class GalleryResult:
    """What a search of a folder found.

    Attributes:
        query: who was looked for.
        hits: best first.
        pictures: how many were searched.
        people: how many were found in them, at the score threshold or above.
        unreadable: what could not be read.
        excluded: the query's own picture, where it lies in the folder.
        interrupted: whether the search was stopped before its end.
    """

    query: QueryPerson
    hits: list[Hit] = field(default_factory=list)
    pictures: int = 0
    people: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)
    excluded: Path | None = None
    interrupted: bool = False

    def as_json(self) -> dict[str, Any]:
        """Everything but embeddings as plain values; boxes in pixels, hits by rank from 1."""
        query, others = (
            self.query,
            self.query.others or Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32)),
        )
        return {
            "query": {
                "picture": str(query.path),
                "box": _plain(query.box),
                "chosen_by": "box" if query.score is None else "detector",
                "score": query.score,
                "others": [
                    {"box": _plain(box), "score": float(score)}
                    for box, score in zip(others.boxes, others.scores, strict=True)
                ],
            },
            "pictures": self.pictures,
            "people": self.people,
            "excluded": None if self.excluded is None else str(self.excluded),
            "unreadable": [
                {"path": str(item.path), "reason": item.reason} for item in self.unreadable
            ],
            "interrupted": self.interrupted,
            "hits": [
                {
                    "rank": rank,
                    "picture": hit.scene,
                    "path": str(hit.path),
                    "box": _plain(hit.box),
                    "similarity": hit.similarity,
                    "score": hit.score,
                    "rank_score": hit.rank_score,
                }
                for rank, hit in enumerate(self.hits, start=1)
            ],
        }


def _plain(box: FloatArray) -> list[float]:
    return [round(float(side), 2) for side in box]


def pictures_in(folder: Path) -> tuple[list[Path], list[Unreadable]]:
    """Every picture file in a folder and its subfolders, sorted, and the folders that are closed.

    Raises:
        DataError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {what}; expected a folder of pictures")
    closed: list[Unreadable] = []

    def note(error: OSError) -> None:
        closed.append(Unreadable(Path(str(error.filename)), error.strerror or "cannot be read"))

    found = [
        Path(parent) / name
        for parent, _, names in os.walk(folder, onerror=note)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES
    ]
    return sorted(found), closed


def query_person(
    model: PersonSearchModel, path: Path, box: FloatArray | None = None
) -> QueryPerson:
    """The person in a box of the query picture; without a box, the surest person in it.

    Raises:
        PictureError: the picture cannot be read.
        DataError: the box lies outside of the picture, or nobody is found in it.
    """
    image = _image(path, model)
    height, width = image.shape[1:]
    if box is not None:
        box = np.asarray(box, dtype=np.float32)
        inside = (min(box[2], width) - max(box[0], 0)) >= 1
        inside &= (min(box[3], height) - max(box[1], 0)) >= 1
        if not inside:
            raise DataError(
                f"box {','.join(f'{side:g}' for side in box)} lies outside of {path}, which has "
                f"{width} x {height} pixels; expected x1,y1,x2,y2 with x1 < x2 and y1 < y2"
            )
        given = torch.from_numpy(box)[None].to(image.device)
        with torch.inference_mode():
            embedding = model.embed([image], [given])[0][0]
        return QueryPerson(path, box, embedding.float().cpu().numpy())
    with torch.inference_mode():
        found = model.detect([image])[0]
    if len(found) == 0:
        raise DataError(
            f"{path}: nobody was found in it; draw a box around the person: x1,y1,x2,y2 in pixels"
        )
    order = np.argsort(-found.scores, kind="stable")
    first, rest = int(order[0]), order[1:]
    assert found.embeddings is not None
    others = Detections(found.boxes[rest], found.scores[rest], found.embeddings[rest])
    # The query side comes from embed(), as for a box that is given: some systems differ.
    chosen = query_person(model, path, found.boxes[first])
    return QueryPerson(path, chosen.box, chosen.embedding, float(found.scores[first]), others)


def search_folder(
    model: PersonSearchModel,
    query: QueryPerson,
    folder: Path,
    *,
    top: int | None = 20,
    score_threshold: float = 0.5,
    progress: Progress | None = None,
) -> GalleryResult:
    """Ranks everyone in a folder of pictures by likeness to the query.

    The query's own picture is left out. A picture that cannot be read is noted, never fatal. An
    interrupt (Ctrl-C) ends the search early; what was found until then is returned.

    Args:
        model: any system.
        query: from `query_person`.
        folder: searched with its subfolders.
        top: how many hits to keep; None for all.
        score_threshold: people found with less are left out.
        progress: called after each picture.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    paths, closed = pictures_in(folder)
    if not paths:
        raise DataError(
            f"{folder}: no pictures in it; expected files ending in {', '.join(sorted(SUFFIXES))}"
        )
    result = GalleryResult(query, unreadable=closed)
    own = query.path.resolve()
    try:
        for done, path in enumerate(paths, start=1):
            if path.resolve() == own:
                result.excluded = path
            else:
                _search_picture(model, path, path.relative_to(folder), score_threshold, result)
            if top is not None and len(result.hits) > 4 * top + 1000:
                result.hits = _best(result.hits, top)
            if progress:
                progress(done, len(paths))
    except KeyboardInterrupt:
        result.interrupted = True
    result.hits = _best(result.hits, top)
    return result


def _search_picture(
    model: PersonSearchModel, path: Path, name: Path, threshold: float, result: GalleryResult
) -> None:
    try:
        image = _image(path, model)
    except PictureError as error:
        result.unreadable.append(Unreadable(path, str(error).removeprefix(f"{path}: ")))
        return
    with torch.inference_mode():
        found = model.detect([image])[0]
    assert found.embeddings is not None
    similarities = found.embeddings @ result.query.embedding
    result.pictures += 1
    for row in np.flatnonzero(found.scores >= threshold):
        similarity, score = float(similarities[row]), float(found.scores[row])
        rank_score = similarity * score if model.confidence_weighted else similarity
        box = found.boxes[row]
        result.hits.append(Hit(name.as_posix(), path, box, similarity, score, rank_score))
        result.people += 1


def _best(hits: Iterable[Hit], top: int | None) -> list[Hit]:
    return sorted(hits, key=lambda hit: -hit.rank_score)[:top]


def _image(path: Path, model: PersonSearchModel) -> Tensor:
    return to_images([read_picture(path)], device_of(model))[0]
