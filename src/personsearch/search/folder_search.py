"""Search a folder of pictures for one person, with a model alone: no index, no store.

Everyone detected in the folder is ranked by the similarity to the query, times the detection's
score where the model asks for that.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from personsearch.errors import DataError, PictureError
from personsearch.media.apart import read_picture
from personsearch.media.files import Skipped
from personsearch.media.pictures import SUFFIXES
from personsearch.search.query import QueryPerson
from personsearch.types import FloatArray

if TYPE_CHECKING:
    from personsearch.systems.base import PersonSearchModel


@dataclass(frozen=True, eq=False)
class Hit:
    """A person detected in the folder."""

    scene: str  # the picture's path inside the folder
    path: Path
    box: FloatArray  # (4,) float32 in pixels
    similarity: float  # cosine to the query, -1..1
    score: float  # the detector's, 0..1
    rank_score: float  # what the hits are ranked by: `similarity`, or its product with `score`

    def as_json(self) -> dict[str, Any]:
        """Plain values; the box in pixels."""
        plain = {name: value for name, value in vars(self).items() if name != "scene"}
        return {"picture": self.scene} | plain | {"path": str(self.path), "box": _plain(self.box)}


@dataclass(eq=False)
class FolderResult:
    """The result of a search of a folder."""

    query: QueryPerson
    hits: list[Hit] = field(default_factory=list)  # best first
    pictures: int = 0  # how many were searched
    people: int = 0  # how many were detected in them, at the score threshold or above
    unreadable: list[Skipped] = field(default_factory=list)  # pictures and folders
    excluded: Path | None = None  # the query's own picture, where it lies in the folder
    interrupted: bool = False

    def as_json(self) -> dict[str, Any]:
        """Everything but embeddings as plain values; boxes in pixels, hits by rank from 1."""
        query, others = self.query, []
        if query.others is not None:
            pairs = zip(query.others.boxes, query.others.scores, strict=True)
            others = [{"box": _plain(box), "score": float(score)} for box, score in pairs]
        return {
            "query": {
                "picture": str(query.path),
                "box": _plain(query.box),
                "chosen_by": "box" if query.score is None else "detector",
                "score": query.score,
                "others": others,
            },
            "pictures": self.pictures,
            "people": self.people,
            "excluded": None if self.excluded is None else str(self.excluded),
            "unreadable": [{"path": str(o.path), "reason": o.reason} for o in self.unreadable],
            "interrupted": self.interrupted,
            "hits": [
                {"rank": rank, **hit.as_json()} for rank, hit in enumerate(self.hits, start=1)
            ],
        }


def _plain(box: FloatArray) -> list[float]:
    return [round(float(side), 2) for side in box]


def pictures_in(folder: Path) -> tuple[list[Path], list[Skipped]]:
    """Return every picture file in a folder and its subfolders, sorted, and unreadable folders.

    Raises:
        DataError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {what}; expected a folder of pictures")
    errors: list[OSError] = []
    found = [
        Path(parent) / name
        for parent, _, names in os.walk(folder, onerror=errors.append)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES
    ]
    closed = [Skipped(Path(str(e.filename)), e.strerror or "cannot be read") for e in errors]
    return sorted(found), closed


def search_folder(
    model: "PersonSearchModel",
    query: QueryPerson,
    folder: Path,
    *,
    top: int | None = 20,
    score_threshold: float = 0.5,
    progress: Callable[[int, int], None] | None = None,
) -> FolderResult:
    """Rank everyone in a folder and its subfolders by similarity to the query.

    The query's own picture is skipped. Unreadable pictures are counted with their reason. An
    interrupt (Ctrl-C) ends the search early and returns what was found until then. Detections below
    `score_threshold` are left out; `top` None keeps all hits. `progress` is called with the numbers
    of pictures done and in all.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    paths, closed = pictures_in(folder)
    if not paths:
        raise DataError(
            f"{folder}: no pictures in it; expected files ending in {', '.join(sorted(SUFFIXES))}"
        )
    result = FolderResult(query, unreadable=closed)
    own = query.path.resolve()
    try:
        for done, path in enumerate(paths, start=1):
            if path.resolve() == own:
                result.excluded = path
            else:
                _search_picture(model, folder, path, score_threshold, result)
            if top is not None and len(result.hits) > 4 * top + 1000:
                result.hits = _best(result.hits, top)
            if progress:
                progress(done, len(paths))
    except KeyboardInterrupt:
        result.interrupted = True
    result.hits = _best(result.hits, top)
    return result


def _search_picture(
    model: "PersonSearchModel", folder: Path, path: Path, threshold: float, result: FolderResult
) -> None:
    from personsearch.systems.inference import detect

    try:
        pixels = read_picture(path, inside=folder)
    except PictureError as error:
        result.unreadable.append(Skipped(path, str(error).removeprefix(f"{path}: ")))
        return
    found = detect(model, pixels)
    similarities = found.embeddings @ result.query.embedding
    result.pictures += 1
    for row in np.flatnonzero(found.scores >= threshold):
        similarity, score = float(similarities[row]), float(found.scores[row])
        rank_score = similarity * score if model.confidence_weighted else similarity
        box = found.boxes[row]
        result.hits.append(
            Hit(path.relative_to(folder).as_posix(), path, box, similarity, score, rank_score)
        )
        result.people += 1


def _best(hits: Iterable[Hit], top: int | None) -> list[Hit]:
    return sorted(hits, key=lambda hit: -hit.rank_score)[:top]
