"""Examines a data set before days of training are spent on it."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from personsearch.datasets.copying import Progress
from personsearch.datasets.dataset import Dataset
from personsearch.datasets.stats import split_statistics
from personsearch.errors import PictureError
from personsearch.media import apart
from personsearch.media.pictures import picture_size
from personsearch.types import UNLABELLED, Scene

EXAMPLES = 5

PUBLISHED: Mapping[str, Mapping[str, int]] = {
    "CUHK-SYSU": {
        "train images": 11_206,
        "train boxes": 55_272,
        "train ids": 5_532,
        "test images": 6_978,
        "test boxes": 40_871,
        "queries": 2_900,
    },
    "PRW": {
        "train images": 5_704,
        "train boxes": 18_048,
        "train ids": 483,
        "test images": 6_112,
        "test boxes": 25_062,
        "queries": 2_057,
    },
    "MOT17Det": {"train images": 5_316, "train boxes": 112_297},
    "Wider Pedestrian": {"train images": 11_500, "train boxes": 46_513, "val images": 5_000},
    "CrowdHuman": {"train images": 15_000, "val images": 4_370},
}
"""Counts of the real data sets."""

_ADVICE: Mapping[str, Mapping[str, str]] = {
    "error": {
        "no pictures": "check the folder",
        "missing picture": "copy it again, or give its folder",
        "unreadable picture": "copy it again, or remove its entry",
        "picture of another size than annotated": "boxes would be off: use one version of both",
        "same picture in two splits": "remove it from train: test results would be too good",
    },
    "warning": {
        "same picture twice": "remove one: it counts twice in every mean",
        "box outside its picture": "clip it, unless a published protocol has it so",
        "same box twice": "remove one of them",
        "box under 2 pixels": "remove it: it shows nothing",
        "one id twice in a picture": "one of them is wrong; evaluation takes the first box",
        "train id without a box": "renumber: a classifier would have a class without examples",
        "no labelled person in train": "only detection can be trained",
        "id in train and test": "results are too good for such people; move them to one split",
        "no search protocol": "there is nothing to evaluate search by",
        "count other than published": "results cannot be compared with papers: check the version",
    },
    "note": {
        "picture without boxes": "fine as a distractor",
        "train id in one picture alone": "fine for a classifier; pairs and triplets need two",
        "camera named by text": "fine: such cameras are numbered in alphabetical order",
    },
}
"""What to do about each kind of finding, by severity."""

_Cases = defaultdict[str, list[str]]
"""Where each kind of finding is."""


@dataclass(frozen=True)
class Finding:
    """One kind of problem.

    The severity is ``"error"`` (training or evaluation would fail or be wrong), ``"warning"``
    (results may suffer) or ``"note"``.
    """

    severity: str
    what: str  # the kind, a short phrase
    count: int
    examples: Sequence[str]  # where the first few are
    advice: str


def examine(
    dataset: Dataset, *, decode: bool = True, progress: Progress | None = None
) -> list[Finding]:
    """Return everything that is wrong or worth knowing, errors first.

    With `decode` every picture is decoded, the only way to find truncated ones; otherwise only
    headers are read.
    """
    cases: _Cases = defaultdict(list)
    _pictures(dataset, decode, progress, cases)
    for scene in dataset:
        _annotations(scene, cases)
    _identities(dataset, cases)
    cases["camera named by text"] += [
        f"{name!r} is camera {number}" for number, name in dataset.camera_names.items()
    ]
    _published(dataset, cases)
    advice = {
        what: (level, todo) for level, kinds in _ADVICE.items() for what, todo in kinds.items()
    }
    if dataset.name == "PRW":
        todo = "they are in both splits of PRW; none of them is a query"
        advice["id in train and test"] = "note", todo
    for entry in dataset.dropped:
        cases[entry.reason].append(entry.where)
    findings = []
    for what, where in cases.items():
        severity, todo = advice.get(what, ("warning", "the reader left it out"))
        if where:
            findings.append(Finding(severity, what, len(where), where[:EXAMPLES], todo))
    return sorted(findings, key=lambda finding: list(_ADVICE).index(finding.severity))


def _pictures(dataset: Dataset, decode: bool, progress: Progress | None, cases: _Cases) -> None:
    scenes = [(split, scene) for split, part in dataset.splits.items() for scene in part]
    if not scenes:
        cases["no pictures"].append(str(dataset.root))
    by_content: dict[bytes, list[tuple[str, str]]] = {}
    read_video = cache(_video)
    for done, (split, scene) in enumerate(scenes, start=1):
        if not scene.path.is_file():
            cases["missing picture"].append(scene.name)
        else:
            try:
                size = _size(scene, decode, read_video)
                if size != scene.size:
                    cases["picture of another size than annotated"].append(
                        f"{scene.name}: {size}, annotated {scene.size}"
                    )
                if scene.frame is None:
                    by_content.setdefault(_digest(scene.path), []).append((split, scene.name))
            except PictureError as error:
                cases["unreadable picture"].append(str(error))
        if progress is not None:
            progress(done, len(scenes))
    for group in by_content.values():
        if len(group) > 1:
            across = len({split for split, _ in group}) > 1
            kind = "same picture in two splits" if across else "same picture twice"
            cases[kind].append(" = ".join(name for _, name in group))


def _size(
    scene: Scene, decode: bool, read_video: Callable[[Path], tuple[tuple[int, int], int]]
) -> tuple[int, int]:
    """Return the real size of a scene's picture; raise `PictureError` if it cannot be read."""
    if scene.frame is None:
        return _shown(apart.read_picture(scene.path)) if decode else picture_size(scene.path)
    size, frames = read_video(scene.path)
    if scene.frame >= frames:
        raise PictureError(scene.name)
    return size


def _video(path: Path) -> tuple[tuple[int, int], int]:
    """Return the size of a video's frames, and their number."""
    first, frames = apart.first_frame(path)
    return _shown(first), frames


def _shown(pixels: NDArray[np.uint8]) -> tuple[int, int]:
    height, width = pixels.shape[:2]
    return width, height


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _annotations(scene: Scene, cases: _Cases) -> None:
    boxes = scene.boxes
    if not len(boxes):
        cases["picture without boxes"].append(scene.name)
        return
    over = np.maximum(-boxes[:, :2].min(axis=1), (boxes[:, 2:] - scene.size).max(axis=1))
    for box in boxes[over > 0].tolist():
        cases["box outside its picture"].append(f"{scene.name}: box {box} in {scene.size}")
    for box in boxes[(boxes[:, 2:] - boxes[:, :2]).min(axis=1) < 2].tolist():
        cases["box under 2 pixels"].append(f"{scene.name}: box {box}")
    for corners, count in Counter(map(tuple, boxes.tolist())).items():
        if count > 1:
            cases["same box twice"].append(f"{scene.name}: box {list(corners)}")
    for id_, count in Counter(scene.ids[scene.ids != UNLABELLED].tolist()).items():
        if count > 1:
            cases["one id twice in a picture"].append(f"{scene.name}: id {id_}")


def _identities(dataset: Dataset, cases: _Cases) -> None:
    pictures = {  # of each id, by split
        split: Counter(i for s in scenes for i in set(s.ids.tolist()) - {UNLABELLED})
        for split, scenes in dataset.splits.items()
    }
    train, test = pictures.get("train", Counter()), pictures.get("test", Counter())
    gaps = sorted(set(range(max(train, default=-1) + 1)) - train.keys())
    cases["train id without a box"] += map(str, gaps)
    if "train" in dataset.splits and not train:
        cases["no labelled person in train"].append("train")
    if dataset.source_ids is not None:
        shared = {dataset.source_ids[id_] for id_ in train} & test.keys()
        cases["id in train and test"] += map(str, sorted(shared))
    single = [str(id_) for id_, count in train.items() if count == 1]
    cases["train id in one picture alone"] += single
    if test and not dataset.protocols:
        cases["no search protocol"].append(str(dataset.root))


def _published(dataset: Dataset, cases: _Cases) -> None:
    for name, number in PUBLISHED.get(dataset.name, {}).items():
        got = _count(dataset, name)
        if got != number:
            cases["count other than published"].append(f"{name}: {got:,}, published {number:,}")


def _count(dataset: Dataset, name: str) -> int:
    if name == "queries":
        first = next(iter(dataset.protocols), None)
        return 0 if first is None else len(dataset.protocols[first].queries)
    split, _, what = name.partition(" ")
    return int(getattr(split_statistics(split, dataset.splits.get(split, ())), what))
