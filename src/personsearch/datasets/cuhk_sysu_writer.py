"""Writes a data set as a CUHK-SYSU folder, with the nested shapes and number types of the real one.

What this format cannot hold is left out and reported: cameras, times, test identities without a
query, and all but one identity of a box.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.boxes import to_xywh
from personsearch.datasets.copying import Progress, copy_pictures, train_and_test
from personsearch.datasets.cuhk_sysu import IMAGES, PICTURES, POOL, SUBSETS, TRAIN_TEST
from personsearch.datasets.dataset import Dataset, Dropped
from personsearch.errors import DataError
from personsearch.types import FloatArray, Scene, SearchProtocol

# SciPy needs gigabytes to write larger ones.
_DRAWN_SIZES = (50, 100, 500)
_TEST_ROW = ("imname", "idlocate", "ishard")


def write(
    dataset: Dataset,
    root: Path,
    *,
    pictures: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Dropped]:
    """Write pictures, ``Images.mat``, ``pool.mat``, ``Train.mat`` and the protocols.

    ``gallery-<k>``, ``occlusion`` and ``resolution`` become the files of that name. A data set
    without ``gallery-<k>`` gets files for the sizes 50, 100 and 500 that its test split allows:
    for each query of ``all``, ``regular`` or its first protocol, the scenes that show the person
    and then random others.

    Other splits than ``train`` and ``test`` are left out. `seed` is that of the random galleries.
    Return what could not be written.

    Raises:
        DataError: two pictures have the same file name, or there is no ``test``.
    """
    from scipy.io import savemat

    train, test, dropped = train_and_test(dataset, "CUHK-SYSU")
    names = _file_names([*train, *test])
    if pictures:
        folder = root / PICTURES
        dropped += copy_pictures([*train, *test], lambda s: folder / names[s.name], progress)
    for folder in (root / TRAIN_TEST, root / SUBSETS["occlusion"][0].parent):
        folder.mkdir(parents=True, exist_ok=True)

    def save(path: Path, key: str, value: NDArray[Any]) -> None:
        savemat(root / path, {key: value}, do_compression=True, oned_as="row")

    save(IMAGES, "Img", _images([*train, *test], names))
    save(POOL, "pool", _cells([names[scene.name] for scene in test]).reshape(-1, 1))
    save(TRAIN_TEST / "Train.mat", "Train", _train(train, names))
    protocols = {n: dataset.protocols[n] for n in dataset.protocols}
    galleries = {size: protocols.pop(f"gallery-{size}") for size in _gallery_sizes(protocols)}
    if not galleries:
        base = next((protocols[n] for n in ("all", "regular", *protocols) if n in protocols), None)
        if base is not None:
            for size in [s for s in _DRAWN_SIZES if s < len(test)] or [max(1, len(test) - 1)]:
                galleries[size] = sample_galleries(base, [s.name for s in test], size, seed)
    for size, protocol in galleries.items():
        table = _protocol(protocol, names)
        save(TRAIN_TEST / f"TestG{size}.mat", f"TestG{size}", table)
    for name, (path, key) in SUBSETS.items():
        if name in protocols:
            save(path, key, _protocol(protocols.pop(name), names, occlusion=name == "occlusion"))
    dropped += [Dropped(name, "protocol that CUHK-SYSU has no file for") for name in protocols]
    asked = {q.id for protocol in galleries.values() for q in protocol.queries}
    for scene in test:
        for id_ in scene.ids[scene.ids >= 0].tolist():
            if id_ not in asked:
                dropped.append(Dropped(f"{scene.name}, id {id_}", "test identity without a query"))
    return dropped


def sample_galleries(
    protocol: SearchProtocol, names: Sequence[str], size: int, seed: int
) -> SearchProtocol:
    """Return the same queries, each over `size` scenes: with the person, then random `names`."""
    galleries, targets = [], []
    for number, (query, shown) in enumerate(zip(protocol.queries, protocol.targets, strict=True)):
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, size, number])))
        positives = [n for n in shown if n != query.scene][:size]
        others = [n for n in names if n not in shown and n != query.scene]
        count = min(size - len(positives), len(others))
        drawn = sorted(rng.choice(len(others), count, replace=False).tolist()) if count else []
        galleries.append([*positives, *(others[k] for k in drawn)])
        targets.append({name: shown[name] for name in positives})
    return SearchProtocol(
        name=f"gallery-{size}", queries=protocol.queries, galleries=galleries, targets=targets
    )


def _gallery_sizes(protocols: Mapping[str, Any]) -> list[int]:
    parts = [name.split("gallery-") for name in protocols]
    return [int(p[1]) for p in parts if len(p) == 2 and not p[0] and p[1].isdecimal()]


def _file_names(scenes: Sequence[Scene]) -> dict[str, str]:
    names = {}
    for scene in scenes:
        base = Path(scene.name).name
        suffix = Path(base).suffix.lower()
        keep = suffix in (".jpg", ".jpeg", ".png") and scene.frame is None
        names[scene.name] = base if keep else f"{base}.jpg"
    if len(set(names.values())) < len(scenes):
        raise DataError(
            "two scenes have the same file name, expected unique names as CUHK-SYSU has one flat "
            "folder; rename the pictures"
        )
    return names


def _cells(values: Sequence[Any]) -> NDArray[Any]:
    cells = np.empty((1, len(values)), dtype=object)
    for k, value in enumerate(values):
        cells[0, k] = value
    return cells


def _struct(rows: Sequence[Sequence[Any]], fields: Sequence[str]) -> NDArray[Any]:
    table = np.empty((1, len(rows)), dtype=[(field, object) for field in fields])
    for k, row in enumerate(rows):
        table[0, k] = tuple(row)
    return table


def _number(value: int) -> NDArray[Any]:
    return np.array([[value]], dtype=np.uint8 if value < 256 else np.uint16)


def _box(box: FloatArray) -> NDArray[Any]:
    """Return x, y, w, h as 1 x 4 in the smallest sufficient type, as MATLAB stores numbers."""
    row = to_xywh(box.astype(np.float64)[None])
    if (row == np.rint(row)).all():
        for kind in (np.uint8, np.uint16, np.int16, np.int32):
            if np.iinfo(kind).min <= row.min() and row.max() <= np.iinfo(kind).max:
                return row.astype(kind)
    return row


def _images(scenes: Sequence[Scene], names: Mapping[str, str]) -> NDArray[Any]:
    rows = []
    for scene in scenes:
        people = _struct([(_box(box), _number(0)) for box in scene.boxes], ("idlocate", "ishard"))
        rows.append((names[scene.name], _number(len(scene.boxes)), people))
    return _struct(rows, ("imname", "nAppear", "box"))


def _train(scenes: Sequence[Scene], names: Mapping[str, str]) -> NDArray[Any]:
    shown: dict[int, list[tuple[Any, ...]]] = {}
    for scene in scenes:
        for box, id_ in zip(scene.boxes, scene.ids.tolist(), strict=True):
            if id_ >= 0:
                shown.setdefault(id_, []).append((names[scene.name], _box(box), _number(0)))
    cells = []
    for id_ in range(max(shown, default=-1) + 1):
        people = _struct(shown.get(id_, []), _TEST_ROW)
        row = (f"p{id_ + 1}", _number(people.size), people)
        cells.append(_struct([row], ("idname", "nAppear", "scene")))
    return _cells(cells).reshape(-1, 1)


def _protocol(
    protocol: SearchProtocol, names: Mapping[str, str], *, occlusion: bool = False
) -> NDArray[Any]:
    nothing = np.zeros((1, 0))
    rows = []
    for query, gallery, targets in zip(
        protocol.queries, protocol.galleries, protocol.targets, strict=True
    ):
        idname = f"q{query.id}_{Path(query.scene).stem}"
        asked = (names[query.scene], _box(query.box), _number(0), idname)
        shown = [(names[n], _box(targets[n]), _number(0)) for n in gallery if n in targets]
        others = [(names[n], nothing, nothing) for n in gallery if n not in targets]
        row = [_struct([asked], (*_TEST_ROW, "idname")), _struct([*shown, *others], _TEST_ROW)]
        rows.append([*row, _number(1)] if occlusion else row)
    columns = ("Query", "Gallery", "occlusion") if occlusion else ("Query", "Gallery")
    return _struct(rows, columns)
