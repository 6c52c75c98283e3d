"""Reads CUHK-SYSU: street photographs and film stills, 2,900 queries, seven gallery sizes.

    Image/SSM/*.jpg
    annotation/Images.mat, annotation/pool.mat
    annotation/test/train_test/{Train,TestG50,TestG100,TestG500,TestG1000,TestG2000,TestG4000}.mat
    annotation/test/subset/{Occlusion,Resolution}.mat

Boxes are stored as x, y, w, h in integers of any width. They are not clipped to their pictures, so
that targets equal those of the published protocols.
"""

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.boxes import from_xywh
from personsearch.datasets import matlab
from personsearch.datasets.dataset import Dataset, Dropped, corners_of
from personsearch.datasets.galleries import other_scenes
from personsearch.datasets.protocols import LazyProtocols
from personsearch.errors import AnnotationError, PictureError
from personsearch.media.pictures import picture_size
from personsearch.types import UNLABELLED, FloatArray, Query, Scene, SearchProtocol

PICTURES = Path("Image", "SSM")
IMAGES = Path("annotation", "Images.mat")
POOL = Path("annotation", "pool.mat")
TRAIN_TEST = Path("annotation", "test", "train_test")
GALLERY_SIZES = (50, 100, 500, 1000, 2000, 4000)
SUBSETS = {
    "occlusion": (Path("annotation", "test", "subset", "Occlusion.mat"), "Occlusion1"),
    "resolution": (Path("annotation", "test", "subset", "Resolution.mat"), "Test_Size"),
}

_Row = tuple[float, ...]
_Place = tuple[str, _Row | None]


def read(root: Path) -> Dataset:
    """Read the splits ``train`` and ``test``, and the protocols that the folder has.

    They are ``gallery-50`` to ``gallery-4000``, ``full`` (every test scene but the query's own,
    with the targets of the smallest gallery file), ``occlusion`` and ``resolution``; each is read
    on first access. Train ids are indices in ``Train``, test ids are indices of queries, so equal
    ids of the two splits mean nothing. A box that is listed for two identities gets the later one,
    as in published code; the protocols have both.

    Pictures may be missing: the size of a scene is then the extent of its boxes.

    Raises:
        AnnotationError: an annotation file is missing, damaged, or of another data set.
    """
    root = Path(root)
    dropped: list[Dropped] = []
    boxes = _all_boxes(root / IMAGES, dropped)
    pool_path = root / POOL
    pool = list(dict.fromkeys(matlab.as_strings(matlab.load(pool_path, "pool"), pool_path)))
    for name in pool:
        if name not in boxes:
            dropped.append(Dropped(name, "gallery picture without an entry in Images.mat"))
    test_names = [name for name in pool if name in boxes]
    if pool and not test_names:
        raise AnnotationError(
            f"{pool_path}: none of its {len(pool)} pictures is in {IMAGES.name}; are both files "
            "of one data set?"
        )
    in_test = set(test_names)
    train_names = [name for name in boxes if name not in in_test]

    labels = _Labels(boxes, dropped)
    for id_, rows in enumerate(_train_rows(root / TRAIN_TEST / "Train.mat")):
        labels.assign(id_, [(name, box) for name, box in rows if name not in in_test], rows)
    files = _gallery_files(root / TRAIN_TEST)
    smallest = min(files, default=None)
    queries: list[_Asked] = []
    if smallest is None:
        dropped.append(Dropped(str(root / TRAIN_TEST), "no TestG file: the test has no identities"))
    else:
        queries = list(_asked(files[smallest], f"TestG{smallest}"))
        for id_, asked in enumerate(queries):
            rows = [(asked.scene, asked.box), *asked.positives]
            labels.assign(id_, rows, rows)

    size_of = _sizes(root / PICTURES, dropped)
    splits = {
        split: [
            Scene(
                name,
                root / PICTURES / name,
                size_of(name, corners := from_xywh(boxes[name])),
                corners.astype(np.float32),
                labels.ids[name],
            )
            for name in names
        ]
        for split, names in (("train", train_names), ("test", test_names))
    }
    by_name = {asked.idname: k for k, asked in enumerate(queries)}
    builders: dict[str, Callable[[], SearchProtocol]] = {
        f"gallery-{size}": partial(read_protocol, path, f"gallery-{size}", by_name)
        for size, path in files.items()
    }
    if queries:
        builders["full"] = lambda: _full(queries, test_names)
    for name, (path, _) in SUBSETS.items():
        if (root / path).is_file():
            builders[name] = partial(read_protocol, root / path, name, by_name)
    return Dataset("CUHK-SYSU", root, splits, LazyProtocols(builders), dropped)


def read_protocol(
    path: Path, name: str | None = None, ids: Mapping[str, int] | None = None
) -> SearchProtocol:
    """Read one protocol file: a ``TestG<k>.mat``, ``Occlusion.mat`` or ``Resolution.mat``.

    Gallery lists are those of the file: a scene listed twice stays twice. Targets of zero size are
    left out.

    Args:
        name: by default ``gallery-<k>``, ``occlusion`` or ``resolution``.
        ids: the query id for each ``idname``; other names get the ids after those. By default the
            id is the index of the query.

    Raises:
        AnnotationError: the file is missing, damaged, or of another kind.
    """
    path = Path(path)
    usual, key = path.stem.replace("TestG", "gallery-"), path.stem
    for subset, (file, variable) in SUBSETS.items():
        if file.name == path.name:
            usual, key = subset, variable
    ids = ids or {}
    queries, galleries, targets = [], [], []
    for number, asked in enumerate(_asked(path, key)):
        queries.append(asked.query(ids.get(asked.idname, len(ids) + number)))
        galleries.append(asked.gallery)
        targets.append(asked.targets())
    return SearchProtocol(name=name or usual, queries=queries, galleries=galleries, targets=targets)


def _gallery_files(folder: Path) -> dict[int, Path]:
    """Return the ``TestG<k>.mat`` of a folder by ascending k, published sizes or not."""
    found = [(path.stem.removeprefix("TestG"), path) for path in folder.glob("TestG*.mat")]
    return dict(sorted((int(size), path) for size, path in found if size.isdecimal()))


@dataclass(frozen=True)
class _Asked:
    """One query of a file; boxes are x, y, w, h."""

    scene: str
    box: _Row
    idname: str
    gallery: list[str]
    positives: list[tuple[str, _Row]]

    def query(self, id_: int) -> Query:
        return Query(self.scene, corners_of(self.box), id_)

    def targets(self) -> dict[str, FloatArray]:
        found: dict[str, FloatArray] = {}
        for name, box in self.positives:
            found.setdefault(name, corners_of(box))
        return found


def _full(queries: Sequence[_Asked], names: Sequence[str]) -> SearchProtocol:
    asked = [one.query(id_) for id_, one in enumerate(queries)]
    targets = [one.targets() for one in queries]
    galleries = other_scenes(asked, names)
    return SearchProtocol(name="full", queries=asked, galleries=galleries, targets=targets)


def _asked(path: Path, key: str) -> Iterator[_Asked]:
    # Names and boxes recur thousands of times: each distinct encoding is parsed once.
    names: dict[bytes, str] = {}
    boxes: dict[bytes, _Row | None] = {}
    count = 0
    try:
        for row, order in matlab.stream(path, key):
            (query,) = matlab.parse(row["Query"], order)
            gallery, positives = [], []
            encoded = matlab.rows_of(row["Gallery"], order, ("imname", "idlocate"))
            for name_bytes, box_bytes in encoded:
                if name_bytes not in names:
                    names[name_bytes] = matlab.text(matlab.parse(name_bytes, order))
                if box_bytes not in boxes:
                    boxes[box_bytes] = _usable(matlab.parse(box_bytes, order))
                name, box = names[name_bytes], boxes[box_bytes]
                gallery.append(name)
                if box is not None:
                    positives.append((name, box))
            own = _usable(query["idlocate"])
            if own is None:
                given = np.asarray(query["idlocate"]).tolist()
                raise AnnotationError(
                    f"{path}: query {count} has box {given}, expected x, y, w, h with w and h "
                    "above zero"
                )
            yield _Asked(
                matlab.text(query["imname"]), own, str(query["idname"]), gallery, positives
            )
            count += 1
    except (KeyError, TypeError, ValueError, struct.error) as error:
        if isinstance(error, AnnotationError):
            raise
        raise AnnotationError(
            f"{path}: query {count} is not (Query, Gallery) as in CUHK-SYSU ({error})"
        ) from None


def _usable(box: Any) -> _Row | None:
    """Return x, y, w, h; None for an empty box (the scene lacks the person) or one of zero size."""
    if not isinstance(box, np.ndarray) or box.size != 4:
        return None
    values = tuple(float(side) for side in box.ravel())
    return values if values[2] > 0 and values[3] > 0 and math.isfinite(sum(values)) else None


def _all_boxes(path: Path, dropped: list[Dropped]) -> dict[str, NDArray[np.float64]]:
    """Return the boxes (N, 4) x, y, w, h of every picture."""
    found: dict[str, NDArray[np.float64]] = {}
    for name, people in matlab.fields(matlab.load(path, "Img"), ("imname", "box"), path):
        picture = matlab.text(name)
        rows = []
        for k, (box,) in enumerate(matlab.fields(people, ("idlocate",), path)):
            row = _usable(box)
            if row is None:
                dropped.append(Dropped(f"{picture}, box {k}", "box of zero or negative size"))
            else:
                rows.append(row)
        if picture in found:
            dropped.append(Dropped(picture, "picture listed twice in Images.mat: the first counts"))
        else:
            found[picture] = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return found


def _train_rows(path: Path) -> Iterator[list[_Place]]:
    """Yield the (picture, box) pairs of each identity; the box is None if it is not usable."""
    cells = matlab.load(path, "Train")
    if not isinstance(cells, list):
        raise AnnotationError(f"{path}: 'Train' is not a cell array; is it CUHK-SYSU's Train.mat?")
    for cell in cells:
        people = matlab.fields(cell, ("scene",), path)
        yield [
            (matlab.text(name), _usable(box))
            for (scene,) in people
            for name, box in matlab.fields(scene, ("imname", "idlocate"), path)
        ]


class _Labels:
    """Assigns ids to the boxes that equal those in the lists of identities."""

    def __init__(self, boxes: Mapping[str, NDArray[np.float64]], dropped: list[Dropped]) -> None:
        self.ids = {name: np.full(len(rows), UNLABELLED) for name, rows in boxes.items()}
        self._dropped = dropped
        self._rows = {
            name: {tuple(row): k for k, row in reversed(list(enumerate(rows.tolist())))}
            for name, rows in boxes.items()
        }

    def assign(self, id_: int, rows: Sequence[_Place], listed: Sequence[_Place]) -> None:
        """Label the boxes `rows` of an identity; record the rest of those `listed` as dropped."""
        if len(rows) < len(listed):
            note = "training identity in a test picture: left unlabelled"
            self._dropped += [Dropped(f"id {id_}", note)] * (len(listed) - len(rows))
        for name, box in rows:
            where = f"{name}, id {id_}"
            row = self._rows.get(name, {}).get(box) if box is not None else None
            if row is None:
                self._dropped.append(Dropped(where, "identity's box is not in Images.mat"))
                continue
            if self.ids[name][row] not in (UNLABELLED, id_):
                self._dropped.append(Dropped(where, "box of two identities: the later one has it"))
            self.ids[name][row] = id_


def _sizes(folder: Path, dropped: list[Dropped]) -> Callable[[str, NDArray[Any]], tuple[int, int]]:
    """Return a function for the size of a picture: by its header, or else by its boxes."""
    there = folder.is_dir()
    if not there:
        dropped.append(Dropped(str(folder), "no folder of pictures: sizes are extents of boxes"))

    def size_of(name: str, corners: NDArray[Any]) -> tuple[int, int]:
        if there:
            try:
                return picture_size(folder / name)
            except PictureError:
                dropped.append(Dropped(name, "picture unreadable: its size is that of its boxes"))
        extent = corners[:, 2:].max(axis=0, initial=1)
        return math.ceil(extent[0]), math.ceil(extent[1])

    return size_of
