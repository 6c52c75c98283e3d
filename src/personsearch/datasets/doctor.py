"""Examines a data set before days of training are spent on it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from personsearch.datasets.dataset import Dataset
from personsearch.errors import PictureError
from personsearch.media import video
from personsearch.media.pictures import picture_size, read_picture
from personsearch.types import UNLABELLED, Scene

SEVERITIES = ("error", "warning", "note")
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
}
"""Counts of the real data sets."""


@dataclass(frozen=True)
class Finding:
    """One kind of problem.

    Attributes:
        severity: ``"error"`` (training or evaluation would fail or be wrong), ``"warning"``
            (results may suffer) or ``"note"``.
        what: the kind, a short phrase.
        count: number of cases.
        examples: where the first few are.
        advice: what to do.
    """

    severity: str
    what: str
    count: int
    examples: Sequence[str]
    advice: str


def examine(
    dataset: Dataset,
    *,
    decode: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Return everything that is wrong or worth knowing, errors first.

    Args:
        dataset: a data set of any format.
        decode: decode every picture, the only way to find truncated ones; otherwise only headers
            are read.
        progress: called with (pictures done, pictures in all).
    """
    findings = [
        *_pictures(dataset, decode, progress),
        *_annotations(dataset),
        *_identities(dataset),
        *_cameras(dataset),
        *_published(dataset),
        *_dropped(dataset),
    ]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def _found(severity: str, what: str, where: Sequence[str], advice: str) -> Iterable[Finding]:
    if where:
        yield Finding(severity, what, len(where), list(where[:EXAMPLES]), advice)


def _pictures(
    dataset: Dataset, decode: bool, progress: Callable[[int, int], None] | None
) -> Iterable[Finding]:
    scenes = list(dataset)
    if not scenes:
        yield Finding("error", "no pictures", 1, [str(dataset.root)], "check the folder")
    missing: list[str] = []
    damaged: list[str] = []
    resized: list[str] = []
    by_content: dict[bytes, list[Scene]] = {}
    videos: dict[Path, tuple[tuple[int, int], int] | None] = {}
    for done, scene in enumerate(scenes, start=1):
        if scene.frame is not None:
            if scene.path not in videos:
                videos[scene.path] = _video(scene.path)
            facts = videos[scene.path]
            if facts is None or scene.frame >= facts[1]:
                (damaged if scene.path.exists() else missing).append(scene.name)
            elif facts[0] != scene.size:
                resized.append(f"{scene.name}: {facts[0]}, annotated {scene.size}")
        elif not scene.path.is_file():
            missing.append(scene.name)
        else:
            try:
                size = picture_size(scene.path)
                if decode:
                    read_picture(scene.path)
                if size != scene.size:
                    resized.append(f"{scene.name}: {size}, annotated {scene.size}")
                by_content.setdefault(_digest(scene.path), []).append(scene)
            except PictureError as error:
                damaged.append(str(error))
        if progress is not None:
            progress(done, len(scenes))
    yield from _found("error", "missing picture", missing, "copy it again, or give its folder")
    yield from _found("error", "unreadable picture", damaged, "copy it again, or remove its entry")
    advice = "annotations and pictures are of different versions: boxes would be off"
    yield from _found("error", "picture of another size than annotated", resized, advice)
    split_of = {scene.name: split for split, scenes in dataset.splits.items() for scene in scenes}
    same = [group for group in by_content.values() if len(group) > 1]
    across = [g for g in same if len({split_of[s.name] for s in g}) > 1]
    within = [g for g in same if len({split_of[s.name] for s in g}) == 1]
    yield from _found(
        "error",
        "same picture in two splits",
        [" = ".join(scene.name for scene in group) for group in across],
        "remove it from train: test results would be too good",
    )
    yield from _found(
        "warning",
        "same picture twice",
        [" = ".join(scene.name for scene in group) for group in within],
        "remove one: it counts twice in every mean",
    )


def _video(path: Path) -> tuple[tuple[int, int], int] | None:
    try:
        return video.video_size(path), video.frame_count(path)
    except PictureError:
        return None


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _annotations(dataset: Dataset) -> Iterable[Finding]:
    outside: list[str] = []
    twice: list[str] = []
    tiny: list[str] = []
    empty: list[str] = []
    repeated: list[str] = []
    for scene in dataset:
        boxes = scene.boxes
        if not len(boxes):
            empty.append(scene.name)
            continue
        over = np.maximum(-boxes[:, :2].min(axis=1), (boxes[:, 2:] - scene.size).max(axis=1))
        for k in np.flatnonzero(over > 0).tolist():
            outside.append(f"{scene.name}: box {boxes[k].tolist()} in {scene.size}")
        for k in np.flatnonzero(np.minimum(*(boxes[:, 2:] - boxes[:, :2]).T) < 2).tolist():
            tiny.append(f"{scene.name}: box {boxes[k].tolist()}")
        for box, count in Counter(map(tuple, boxes.tolist())).items():
            if count > 1:
                twice.append(f"{scene.name}: box {list(box)}")
        for id_, count in Counter(scene.ids[scene.ids != UNLABELLED].tolist()).items():
            if count > 1:
                repeated.append(f"{scene.name}: id {id_}")
    advice = "the box reaches over the border; cut it, unless a published protocol has it so"
    yield from _found("warning", "box outside its picture", outside, advice)
    yield from _found("warning", "same box twice", twice, "remove one of them")
    yield from _found(
        "warning", "box under 2 pixels", tiny, "remove it: it is too small to show a person"
    )
    advice = "one of them is wrong; evaluation takes the first box as the correct one"
    yield from _found("warning", "one id twice in a picture", repeated, advice)
    yield from _found("note", "picture without boxes", empty, "fine as a distractor")


def _identities(dataset: Dataset) -> Iterable[Finding]:
    def ids_of(split: str) -> set[int]:
        scenes = dataset.splits.get(split, ())
        return {id_ for scene in scenes for id_ in scene.ids.tolist() if id_ != UNLABELLED}

    train = ids_of("train")
    if "train" in dataset.splits:
        gaps = sorted(set(range(max(train, default=-1) + 1)) - train)
        advice = "classifiers would have classes without examples; label them or renumber"
        yield from _found("warning", "train id without a box", [str(id_) for id_ in gaps], advice)
        if not train:
            advice = "only detection can be trained"
            yield Finding("warning", "no labelled person in train", 1, ["train"], advice)
    if dataset.source_ids is not None:
        source = {dataset.source_ids[id_] for id_ in train}
        shared = sorted(source & ids_of("test"))
        severity = "note" if dataset.name == "PRW" else "warning"
        advice = (
            "they are people of both splits in PRW too, and none of them is a query"
            if dataset.name == "PRW"
            else "results are too good for people seen in training; move them to one split"
        )
        yield from _found(severity, "id in train and test", [str(id_) for id_ in shared], advice)
    single: list[str] = []
    seen: Counter[int] = Counter()
    for scene in dataset.splits.get("train", ()):
        seen.update(set(scene.ids[scene.ids != UNLABELLED].tolist()))
    single = [str(id_) for id_, count in seen.items() if count == 1]
    advice = "fine for a classifier; pairs and triplets need two pictures of each identity"
    yield from _found("note", "train id in one picture alone", single, advice)
    if ids_of("test") and not dataset.protocols:
        advice = "there is nothing to evaluate search by"
        yield Finding("warning", "no search protocol", 1, [str(dataset.root)], advice)


def _cameras(dataset: Dataset) -> Iterable[Finding]:
    named = [f"{name!r} is camera {number}" for number, name in dataset.camera_names.items()]
    advice = "fine: cameras that are named by text are numbered in alphabetical order"
    yield from _found("note", "camera named by text", named, advice)


def _published(dataset: Dataset) -> Iterable[Finding]:
    expected = PUBLISHED.get(dataset.name)
    if expected is None:
        return
    wrong = []
    for name, number in expected.items():
        got = _count(dataset, name)
        if got != number:
            wrong.append(f"{name}: {got:,}, published {number:,}")
    advice = "files are missing or of another version: results cannot be compared with papers"
    yield from _found("warning", "count other than published", wrong, advice)


def _count(dataset: Dataset, name: str) -> int:
    if name == "queries":
        first = next(iter(dataset.protocols), None)
        return 0 if first is None else len(dataset.protocols[first].queries)
    split, _, what = name.partition(" ")
    scenes = dataset.splits.get(split, ())
    if what == "images":
        return len(scenes)
    if what == "boxes":
        return sum(len(scene.boxes) for scene in scenes)
    return len({id_ for scene in scenes for id_ in scene.ids.tolist() if id_ != UNLABELLED})


def _dropped(dataset: Dataset) -> Iterable[Finding]:
    reasons: dict[str, list[str]] = {}
    for entry in dataset.dropped:
        reasons.setdefault(entry.reason, []).append(entry.where)
    for reason, where in reasons.items():
        yield from _found("warning", reason, where, "the reader left it out")
