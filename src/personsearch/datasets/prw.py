"""Reads PRW: frames of six cameras on a campus, 2,057 queries.

frames/c<camera>s<sequence>_<frame>.jpg
annotations/<frame name>.jpg.mat          N x 5 [id, x, y, w, h]; id -2 is unlabelled
frame_train.mat, frame_test.mat           frame names without ending
ID_train.mat, ID_test.mat
query_info.txt                            lines ``id x y w h frame``
query_box/                                crops of the queries, not used
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from personsearch.boxes import clip, from_xywh
from personsearch.datasets import matlab
from personsearch.datasets.dataset import Dataset, Dropped, numbered_lines, renumbering, with_ids
from personsearch.datasets.galleries import other_cameras, other_scenes
from personsearch.datasets.protocols import LazyProtocols, make_protocol
from personsearch.datasets.scene_protocols import unlabelled_boxes
from personsearch.errors import AnnotationError, DataError, PictureError
from personsearch.media.pictures import picture_size
from personsearch.types import UNLABELLED, FloatArray, Query, Scene, SearchProtocol

FRAMES, ANNOTATIONS, QUERIES = "frames", "annotations", "query_info.txt"
KEYS = ("box_new", "anno_file", "anno_previous")
"""Names of the boxes in an annotation file; the first that exists counts."""

NAME = re.compile(r"c(\d+)s\d+_\d+")

Clipping = Literal["once", "seqnet"]
_LARGEST = 2.0**31  # beyond any id, side or frame; NaN is not below it


def camera_of(name: str) -> int:
    """Return the camera in a frame's name; raise `AnnotationError` if it is not one of PRW."""
    match = NAME.match(name)
    if match is None:
        raise AnnotationError(f"frame {name!r}: expected a name like c3s2_044587")
    return int(match[1])


def read(root: Path, clipping: Clipping = "once") -> Dataset:
    """Read the splits ``train`` and ``test``, and four protocols.

    ``regular``: every test frame but the query's own, with unlabelled people as distractors.
    ``regular-labelled``: the same frames, but only detections of people with an identity are
    searched (Han et al. 2021, section 5.1). ``multi-view``: frames of other cameras. ``original``:
    likewise, but unlabelled people are ignored and average precision uses trapezoids, as in the
    first publication.

    Train ids become 0..n-1 (`Dataset.source_ids` has the numbers of the files); test ids keep the
    numbers of the files, and some of them are people of ``train``. The box of a query is that of
    its id in its frame; ``query_info.txt`` can differ from it by rounding. Pictures may be missing:
    the size of a scene is then that of its camera in PRW.

    With `clipping` ``"once"``, boxes are clipped to their frames. ``"seqnet"`` does as the
    published code, to reproduce its results: whole pixels; a negative x or y becomes 0 before the
    width is added, but after it for queries, which keep the numbers of ``query_info.txt``; nothing
    is clipped at the right and bottom.

    Raises:
        AnnotationError: a file is missing, damaged, or of another data set.
        DataError: `clipping` is unknown.
    """
    if clipping not in ("once", "seqnet"):
        raise DataError(f"clipping is {clipping!r}, expected 'once' or 'seqnet'")
    root = Path(root)
    dropped: list[Dropped] = []
    pictures = (root / FRAMES).is_dir()
    if not pictures:
        dropped.append(Dropped(str(root / FRAMES), "no folder of pictures: sizes are the usual"))
    splits: dict[str, list[Scene]] = {}
    for split in ("train", "test"):
        path = root / f"frame_{split}.mat"
        frames = dict.fromkeys(matlab.as_strings(matlab.load(path, f"img_index_{split}"), path))
        made = (_scene(root, n.removesuffix(".jpg"), clipping, dropped, pictures) for n in frames)
        splits[split] = [scene for scene in made if scene is not None]
    source_ids = _train_ids(root / "ID_train.mat", splits["train"], dropped)
    numbers = renumbering(source_ids)
    splits["train"] = [with_ids(scene, numbers) for scene in splits["train"]]
    queries = _queries(root / QUERIES, splits["test"], clipping, dropped)
    scenes = splits["test"]

    names = [scene.name for scene in scenes]

    def regular(name: str, **others: Any) -> SearchProtocol:
        return make_protocol(name, scenes, queries, other_scenes(queries, names), **others)

    def across(name: str, **others: Any) -> SearchProtocol:
        return make_protocol(name, scenes, queries, other_cameras(queries, scenes), **others)

    def unlabelled() -> Sequence[Mapping[str, FloatArray]]:
        # Of "original", too: frames of the same camera are not in its gallery.
        return [unlabelled_boxes(scenes)] * len(queries)

    builders: dict[str, Callable[[], SearchProtocol]] = {
        "regular": lambda: regular("regular"),
        "regular-labelled": lambda: regular(
            "regular-labelled", ignored=unlabelled(), known_only=True
        ),
        "multi-view": lambda: across("multi-view"),
        "original": lambda: across("original", ignored=unlabelled(), average_precision="trapezoid"),
    }
    protocols = LazyProtocols(builders if queries else {})
    return Dataset("PRW", root, splits, protocols, dropped, source_ids=source_ids)


def _scene(
    root: Path, name: str, clipping: Clipping, dropped: list[Dropped], pictures: bool
) -> Scene | None:
    path = root / ANNOTATIONS / f"{name}.jpg.mat"
    if not path.is_file():
        dropped.append(Dropped(name, "frame without an annotation file"))
        return None
    camera, file = camera_of(name), f"{name}.jpg"
    size = (720, 576) if camera == 6 else (1920, 1080)
    if pictures:
        try:
            size = picture_size(root / FRAMES / file)
        except PictureError:
            dropped.append(Dropped(name, "picture unreadable: its size is that of its camera"))
    rows = matlab.numbers(matlab.load(path, *KEYS), path)
    if rows.size == 0:
        rows = np.zeros((0, 5))
    if rows.ndim != 2 or rows.shape[1] != 5 or not np.issubdtype(rows.dtype, np.number):
        raise AnnotationError(
            f"{path}: boxes of shape {rows.shape} and type {rows.dtype}, expected N x 5 numbers "
            "[id, x, y, w, h]"
        )
    boxes, ids, problems = _checked(rows.astype(np.float64), size, clipping)
    good = problems == ""
    for row in np.flatnonzero(~good).tolist():
        dropped.append(Dropped(f"{name}, row {row}", str(problems[row])))
    return Scene(file, root / FRAMES / file, size, boxes[good], ids[good], camera)


def _checked(
    rows: NDArray[np.float64], size: tuple[int, int], clipping: Clipping
) -> tuple[FloatArray, NDArray[np.int64], NDArray[np.str_]]:
    """Return corners, ids, and the problem of each row, ``""`` for valid ones."""
    impossible = ~(np.abs(rows) < _LARGEST).all(axis=1)
    empty = (rows[:, 3:] <= 0).any(axis=1)
    rows = np.where(np.expand_dims(impossible | empty, 1), 0, rows)
    if clipping == "seqnet":
        boxes = from_xywh(np.maximum(rows[:, 1:], 0)).astype(np.int32).astype(np.float32)
    else:
        boxes = clip(from_xywh(rows[:, 1:]), size).astype(np.float32)
    problems = {
        "row with an impossible number": impossible,
        "box of zero or negative size": empty,
        "id is not a whole number": rows[:, 0] != np.rint(rows[:, 0]),
        "box outside its picture": (boxes[:, 2:] <= boxes[:, :2]).any(axis=1),
    }
    ids = np.where(rows[:, 0] < 0, UNLABELLED, rows[:, 0]).astype(np.int64)
    return boxes, ids, np.select(list(problems.values()), list(problems), "")


def _train_ids(path: Path, scenes: Sequence[Scene], dropped: list[Dropped]) -> list[int]:
    """Return the files' numbers of the train ids, ascending."""
    seen = {id_ for scene in scenes for id_ in scene.ids.tolist() if id_ != UNLABELLED}
    if path.is_file():
        ids = matlab.numbers(matlab.load(path, "ID_train"), path).ravel()
        if not (np.abs(ids) < _LARGEST).all():
            raise AnnotationError(f"{path}: ID_train has a number that is no id")
        listed = {int(id_) for id_ in ids}
        for id_ in sorted(listed ^ seen):
            where = "not in the frames" if id_ in listed else "not in ID_train.mat"
            dropped.append(Dropped(f"train id {id_}", f"identity {where}"))
    else:
        dropped.append(Dropped(path.name, "missing: train ids are those of the frames"))
    return sorted(seen)


def _queries(
    path: Path, scenes: Sequence[Scene], clipping: Clipping, dropped: list[Dropped]
) -> list[Query]:
    if not path.exists():
        dropped.append(Dropped(path.name, "missing: there are no protocols"))
        return []
    by_name = {scene.name: scene for scene in scenes}
    queries = []
    for number, line in numbered_lines(path):
        where = f"{path.name}, line {number}"
        try:
            id_text, *sides, frame = line.split()
            id_, row = int(id_text), np.array([[float(side) for side in sides]])
            if row.shape != (1, 4) or not (np.abs(row) < _LARGEST).all():
                raise ValueError("not four sides")
        except ValueError:
            raise AnnotationError(
                f"{path}, line {number}: {line.strip()!r}, expected 'id x y w h frame'"
            ) from None
        scene = by_name.get(frame.removesuffix(".jpg") + ".jpg")
        if scene is None:
            dropped.append(Dropped(where, "query in no test frame"))
            continue
        own = from_xywh(row)[0]
        if clipping == "seqnet":
            box = np.maximum(own.astype(np.int32), 0).astype(np.float32)
        else:
            same = scene.boxes[scene.ids == id_]
            if not len(same):
                dropped.append(Dropped(where, "query without an annotation of its id"))
                continue
            # If the frame has the id twice: the box nearest to the line's.
            box = same[np.abs(same - clip(own[None], scene.size)).sum(axis=1).argmin()]
        queries.append(Query(scene.name, box, id_, scene.camera))
    return queries
