"""Reads Market-1501: people already cut out, each in a picture of its own.

bounding_box_train/0002_c1s1_000451_03.jpg    person, camera and sequence, frame, box
query/, bounding_box_test/                    0000 is a distractor, -1 junk of a detector

A scene is such a picture with one box, all of it. So a network on crops can be trained on it, and
searched with true boxes; there is nothing to detect.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from personsearch.datasets.dataset import Dataset, Dropped, renumbering, with_ids
from personsearch.datasets.galleries import Excluding
from personsearch.datasets.protocols import LazyProtocols, make_protocol
from personsearch.errors import AnnotationError, PictureError
from personsearch.media.opening import leads_out
from personsearch.media.pictures import picture_size
from personsearch.types import UNLABELLED, Query, Scene, SearchProtocol

TRAIN, QUERIES, GALLERY = "bounding_box_train", "query", "bounding_box_test"

_NAME = re.compile(r"(-1|\d{4})_c(\d)s(\d)_(\d{6})_(\d{2})\.jpg", re.ASCII)
_JUNK, _DISTRACTOR = -1, 0


def read(root: Path) -> Dataset:
    """Read the splits ``train`` and ``test`` (queries and gallery) and the protocol ``market``.

    A query's gallery is all of ``bounding_box_test`` but crops of the person by the same camera
    (Zheng et al. 2015, section 3.3); average precision uses trapezoids, as there. Junk, and
    links that lead out of `root`, are left out; distractors are unlabelled. Train ids become 0..n-1
    (`Dataset.source_ids`).

    Raises:
        AnnotationError: there is no training picture, or a name that is none of Market-1501.
    """
    root = Path(root)
    dropped: list[Dropped] = []
    train, queries, gallery = (
        list(_scenes(root, folder, dropped)) for folder in (TRAIN, QUERIES, GALLERY)
    )
    if not train:
        raise AnnotationError(
            f"{root / TRAIN}: has no pictures; expected Market-1501, with names such as "
            "0002_c1s1_000451_03.jpg"
        )
    source_ids = sorted({int(scene.ids[0]) for scene in train} - {UNLABELLED})
    numbers = renumbering(source_ids)
    splits = {
        "train": [with_ids(scene, numbers) for scene in train],
        "test": queries + gallery,
    }
    protocols = LazyProtocols({"market": lambda: _protocol(queries, gallery)} if queries else {})
    return Dataset("Market-1501", root, splits, protocols, dropped, source_ids=source_ids)


def _scenes(root: Path, folder: str, dropped: list[Dropped]) -> Iterator[Scene]:
    for path in sorted((root / folder).glob("*.jpg")):
        name = f"{folder}/{path.name}"
        if leads_out(path, root):
            dropped.append(Dropped(name, "link that leads out of the folder"))
            continue
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise AnnotationError(
                f"{path}: expected a name like 0002_c1s1_000451_03.jpg (person, camera and "
                "sequence, frame, box)"
            )
        person, camera = int(match[1]), int(match[2])
        if person == _JUNK:
            dropped.append(Dropped(name, "junk"))
            continue
        try:
            width, height = picture_size(path)
        except PictureError:
            dropped.append(Dropped(name, "picture unreadable"))
            continue
        box = np.array([[0, 0, width, height]], np.float32)
        ids = np.array([UNLABELLED if person == _DISTRACTOR else person], np.int64)
        yield Scene(name, path, (width, height), box, ids, camera)


def _protocol(queries: list[Scene], gallery: list[Scene]) -> SearchProtocol:
    names = [scene.name for scene in gallery]
    seen: dict[tuple[int, int | None], set[str]] = {}
    for scene in gallery:
        seen.setdefault((int(scene.ids[0]), scene.camera), set()).add(scene.name)
    wanted = [Query(s.name, s.boxes[0], int(s.ids[0]), s.camera) for s in queries]
    galleries = [Excluding(names, frozenset(seen.get((q.id, q.camera), ()))) for q in wanted]
    return make_protocol("market", gallery, wanted, galleries, average_precision="trapezoid")
