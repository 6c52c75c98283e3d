"""Writes a data set as a PRW folder: frames, an annotation file each, frame lists, queries."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from personsearch.boxes import to_xywh
from personsearch.datasets.copying import Progress, copy_pictures, train_and_test
from personsearch.datasets.dataset import Dataset, Dropped
from personsearch.datasets.prw import ANNOTATIONS, FRAMES, KEYS, NAME, QUERIES
from personsearch.errors import DataError
from personsearch.media.pictures import read_picture
from personsearch.types import Query, Scene

_UNLABELLED = -2


def write(
    dataset: Dataset,
    root: Path,
    *,
    key: str = "box_new",
    pictures: bool = True,
    progress: Progress | None = None,
) -> list[Dropped]:
    """Write pictures, annotations, frame lists, ids, queries and crops of the queries.

    The queries are those of ``regular``, ``all``, ``multi-view``, ``cross-camera`` or the first
    protocol. Frames are renamed unless their names have PRW's form. Cameras and ids count from
    one: if the data set has an id 0, all ids are shifted by one; if train and test number people
    independently, test ids continue after the last train id.

    Other splits than ``train`` and ``test`` are left out. `key` is the name of the boxes in each
    annotation file, one of `prw.KEYS`. Return what could not be written.

    Raises:
        DataError: there is no ``test``, or `key` is unknown.
    """
    from scipy.io import savemat

    if key not in KEYS:
        raise DataError(f"key is {key!r}, expected one of {', '.join(KEYS)}")
    train, test, dropped = train_and_test(dataset, "PRW")
    train_ids, shift = _numbers(dataset, train, test)
    names = _frame_names([*train, *test])
    (root / ANNOTATIONS).mkdir(parents=True, exist_ok=True)
    for done, scene in enumerate([*train, *test], start=1):
        rows = np.empty((len(scene.boxes), 5))
        rows[:, 1:] = to_xywh(scene.boxes.astype(np.float64))
        for k, id_ in enumerate(scene.ids.tolist()):
            raw = train_ids[id_] if id_ >= 0 and done <= len(train) else id_ + shift
            rows[k, 0] = raw if id_ >= 0 else _UNLABELLED
        savemat(root / ANNOTATIONS / f"{names[scene.name]}.jpg.mat", {key: rows})
    if pictures:
        paths = {name: root / FRAMES / f"{new}.jpg" for name, new in names.items()}
        dropped += copy_pictures([*train, *test], lambda scene: paths[scene.name], progress)
    for split, scenes in (("train", train), ("test", test)):
        cells = np.empty((len(scenes), 1), dtype=object)
        cells[:, 0] = [names[scene.name] for scene in scenes]
        savemat(root / f"frame_{split}.mat", {f"img_index_{split}": cells})
    test_ids = sorted({i + shift for scene in test for i in scene.ids.tolist() if i >= 0})
    only_test = sorted(set(test_ids) - set(train_ids))
    savemat(root / "ID_train.mat", {"ID_train": np.array([train_ids], dtype=np.float64)})
    savemat(root / "ID_test.mat", {"ID_test2": np.array([only_test], dtype=np.float64)})
    queries = _queries(dataset)
    lines = [_line(query, names, shift) for query in queries]
    (root / QUERIES).write_bytes("".join(line + "\r\n" for line in lines).encode("ascii"))
    if pictures:
        _save_crops(queries, names, root, shift)
    return dropped


def _numbers(
    dataset: Dataset, train: Sequence[Scene], test: Sequence[Scene]
) -> tuple[list[int], int]:
    """Return the written number of each train id, and the offset of test ids."""
    count = 1 + max((int(s.ids.max(initial=-1)) for s in train), default=-1)
    if dataset.source_ids is None:
        return list(range(1, count + 1)), count + 1
    source = list(dataset.source_ids)
    labelled = [i for scene in test for i in scene.ids.tolist() if i >= 0]
    shift = int(min([*source, *labelled], default=1) < 1)
    return [id_ + shift for id_ in source], shift


def _frame_names(scenes: Sequence[Scene]) -> dict[str, str]:
    """Return a name like ``c3s1_000042`` for each scene."""
    first = min((s.camera for s in scenes if s.camera is not None), default=1)
    names, new = {}, {}
    for number, scene in enumerate(scenes, start=1):
        stem = Path(scene.name).stem
        camera = 1 if scene.camera is None else scene.camera + (first < 1)
        match = NAME.fullmatch(stem)
        new[scene.name] = f"c{camera}s1_{number:06d}"
        fits = match is not None and int(match[1]) == camera
        names[scene.name] = stem if fits else new[scene.name]
    # If new names collide with frames that have PRW's form by chance, rename all.
    return names if len(set(names.values())) == len(scenes) else new


def _queries(dataset: Dataset) -> Sequence[Query]:
    for name in ("regular", "all", "multi-view", "cross-camera", *dataset.protocols):
        if name in dataset.protocols:
            return dataset.protocols[name].queries
    return []


def _line(query: Query, names: Mapping[str, str], shift: int) -> str:
    x, y, w, h = to_xywh(query.box.astype(np.float64)[None])[0]
    return f"{query.id + shift} {x:.4f} {y:.4f} {w:.4f} {h:.4f} {names[query.scene]}"


def _save_crops(queries: Sequence[Query], names: Mapping[str, str], root: Path, shift: int) -> None:
    (root / "query_box").mkdir(exist_ok=True)
    frame, picture = "", np.zeros((0, 0, 3), dtype=np.uint8)
    for query in sorted(queries, key=lambda q: q.scene):
        path = root / FRAMES / f"{names[query.scene]}.jpg"
        if not path.is_file():
            continue
        if query.scene != frame:
            frame, picture = query.scene, read_picture(path)
        x1, y1 = np.maximum(np.floor(query.box[:2]), 0).astype(int)
        x2, y2 = np.maximum(np.ceil(query.box[2:]), 0).astype(int)
        crop = picture[y1:y2, x1:x2]
        if crop.size:
            name = f"{query.id + shift}_{names[query.scene]}.jpg"
            Image.fromarray(crop).save(root / "query_box" / name, quality=95)
