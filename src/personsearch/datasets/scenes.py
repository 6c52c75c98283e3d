"""The scenes format: COCO style JSON with identities, cameras, splits and search protocols.

A folder holds ``scenes.json`` and, most often, the pictures below it:

    info         {"name", "object_class"}; "separate_ids": true where the splits number people
                 each for themselves
    images       {"id", "file_name", "width", "height", "camera", "time", "split"}, and where
                 needed "name" (of the scene) and "frame" (index from zero in a video)
    annotations  {"id", "image_id", "category_id", "bbox": [x, y, w, h], "area", "iscrowd",
                 "person_id"}; a negative or missing person_id is an unlabelled person
    categories   {"id", "name"}
    protocols    see `scene_protocols`

Plain COCO files are read too. Scenes are called by their file name without its folder, or by the
whole of ``file_name`` where two pictures of the file would share a name.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.boxes import clip, from_xywh
from personsearch.datasets import scene_protocols
from personsearch.datasets.dataset import Dataset, Dropped
from personsearch.datasets.protocols import derived_protocols
from personsearch.durable import replace_file
from personsearch.errors import AnnotationError, DataError, PictureError
from personsearch.media.pictures import picture_size
from personsearch.types import UNLABELLED, FloatArray, IntArray, Scene

FILE_NAME = "scenes.json"

_PRW_NAME = re.compile(r"c(\d+)s\d+_\d+")


def read(
    root: Path,
    pictures: Path | None = None,
    split: str | None = None,
    only: Container[str] | None = None,
) -> Dataset:
    """A data set in the scenes format, or a plain COCO file.

    In ``train`` ids become 0..n-1, in the order of the file's numbers; the other splits keep those.
    Boxes of a plain COCO file (no image of it names a split) are cut to their pictures; boxes of
    the scenes format stay as they are written. Without ``protocols`` there are ``all`` and, with
    several cameras, ``cross-camera`` over ``test``, with one query for each identity and camera.

    Args:
        root: the folder with ``scenes.json``, or the .json file itself.
        pictures: what ``file_name`` is relative to; by default the file's folder.
        split: of images that name none; by default ``train`` or ``val`` where the file's name has
            that word in it, else ``test``.
        only: the file names to read, where the file lists more; the others and their annotations
            do not count as dropped.

    Raises:
        AnnotationError: the file is missing, not such a file, or contradicts itself.
    """
    path = Path(root)
    path = path / FILE_NAME if path.is_dir() else path
    table = _load(path)
    if only is not None:
        table |= _part(table, only)
    reader = _Reader(path, Path(pictures) if pictures else path.parent, split or _split_of(path))
    return reader.dataset(table)


def write(dataset: Dataset, root: Path) -> None:
    """Writes ``root/scenes.json``, whole or not at all. Pictures are not copied.

    Their paths are stored relative to `root` when they lie below it, else absolute. Reading the
    file gives the same scenes and protocols, boxes to the last bit.

    Raises:
        DataError: two scenes have one name, or a protocol speaks of scenes that are not there.
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    base = root.resolve()
    entries = [(split, scene) for split, scenes in dataset.splits.items() for scene in scenes]
    files = [_relative(scene.path, base) for _, scene in entries]
    usual = _scene_names(files)
    places = scene_protocols.Places()
    for number, ((split, scene), file) in enumerate(zip(entries, files, strict=True), start=1):
        image: dict[str, Any] = {"id": number, "file_name": file}
        if scene.name != usual[number - 1]:
            image["name"] = scene.name
        image |= {"width": scene.size[0], "height": scene.size[1]}
        image |= {"camera": scene.camera, "time": scene.time, "split": split}
        if scene.frame is not None:
            image["frame"] = scene.frame
        images.append(image)
        places.add(number, split, scene)
        ids = scene.ids.tolist()
        if split == "train" and dataset.source_ids is not None:
            ids = [dataset.source_ids[id_] if id_ >= 0 else id_ for id_ in ids]
        for box, id_ in zip(scene.boxes, ids, strict=True):
            bbox = scene_protocols.to_bbox(box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": bbox,
                    "area": bbox[2] * bbox[3],
                    "iscrowd": 0,
                    "person_id": id_,
                }
            )
    info: dict[str, Any] = {"name": dataset.name, "object_class": dataset.object_class}
    if dataset.source_ids is None and "train" in dataset.splits and len(dataset.splits) > 1:
        info["separate_ids"] = True
    table = {
        "info": info,
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": dataset.object_class}],
        "protocols": [
            scene_protocols.to_json(name, dataset.protocols[name], places)
            for name in dataset.protocols
        ],
    }
    replace_file(root / FILE_NAME, json.dumps(table, separators=(",", ":"), allow_nan=False))


def is_coco(path: Path) -> bool:
    """Whether a .json file looks like one that `read` takes."""
    try:
        _load(path)
    except AnnotationError:
        return False
    return True


def renumber(ids: Iterable[int]) -> dict[int, int]:
    """Every labelled id to its place among them: 0..n-1 without gaps."""
    return {id_: k for k, id_ in enumerate(sorted({i for i in ids if i != UNLABELLED}))}


def _load(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise AnnotationError(
            f"{path}: no such file; expected {FILE_NAME} or a COCO file"
        ) from None
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error})") from None
    except (ValueError, RecursionError) as error:
        empty = path.stat().st_size == 0
        what = "is empty (0 bytes)" if empty else f"is not JSON ({error})"
        raise AnnotationError(f"{path}: {what}; expected COCO style JSON") from None
    if not isinstance(table, dict):
        raise AnnotationError(f"{path}: holds a JSON {type(table).__name__}, expected an object")
    for key in ("images", "annotations"):
        rows = table.get(key)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise AnnotationError(
                f"{path}: expected COCO style JSON with a list of objects {key!r}; "
                f"it has {', '.join(map(repr, list(table)[:8])) or 'nothing'}"
            )
    return table


def _part(table: Mapping[str, Any], only: Container[str]) -> dict[str, Any]:
    """The images of the given file names, and all annotations but those of other images."""
    images = [row for row in table["images"] if str(row.get("file_name")) in only]
    others = {_integer(row.get("id")) for row in table["images"]}
    others -= {_integer(row.get("id")) for row in images} | {None}
    rows = [row for row in table["annotations"] if _integer(row.get("image_id")) not in others]
    return {"images": images, "annotations": rows}


def _split_of(path: Path) -> str:
    words = re.split(r"[^a-z]+", path.stem.lower())
    return next((split for split in ("train", "val") if split in words), "test")


def _scene_names(files: Sequence[str]) -> list[str]:
    short = [PurePosixPath(file).name for file in files]
    return short if len(set(short)) == len(short) else list(files)


def _relative(path: Path, base: Path) -> str:
    path = path.resolve()
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()


def _integer(value: Any) -> int | None:
    """A whole number, also one that some writer has stored as 3.0; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if math.isfinite(value) and value == int(value) else None


class _Reader:
    """Reads one file; gathers what it leaves out."""

    def __init__(self, path: Path, pictures: Path, split: str) -> None:
        self.path, self.pictures, self.split = path, pictures, split
        self.dropped: list[Dropped] = []

    def dataset(self, table: dict[str, Any]) -> Dataset:
        info = table.get("info")
        info = info if isinstance(info, dict) else {}
        object_class, categories = self._object_class(info, table.get("categories"))
        images = self._images(table["images"])
        plain = not any("split" in image for image in images.values())
        rows = self._rows(table["annotations"], images, categories)
        names = self._names(images)
        places = scene_protocols.Places()
        splits: dict[str, list[Scene]] = {}
        for number, image in images.items():
            split = str(image.get("split") or self.split)
            scene, kept = self._scene(names[number], image, rows[number], cut=plain)
            splits.setdefault(split, []).append(scene)
            places.add(number, split, scene, kept)
        source_ids: list[int] | None = None
        if "train" in splits:
            numbers = renumber(id_ for scene in splits["train"] for id_ in scene.ids.tolist())
            splits["train"] = [_renumbered(scene, numbers) for scene in splits["train"]]
            source_ids = None if info.get("separate_ids") else list(numbers)
        order = [s for s in ("train", "val", "test") if s in splits]
        splits = {s: splits[s] for s in [*order, *(s for s in splits if s not in order)]}
        if "protocols" in table:
            protocols = scene_protocols.from_json(table["protocols"], places, splits, self.path)
        else:
            protocols = derived_protocols(splits.get("test", []))
        return Dataset(
            str(info.get("name") or self.path.parent.resolve().name),
            self.path.parent,
            splits,
            protocols,
            self.dropped,
            object_class,
            source_ids,
        )

    def _drop(self, where: str, reason: str) -> None:
        self.dropped.append(Dropped(where, reason))

    def _object_class(self, info: Mapping[str, Any], rows: Any) -> tuple[str, set[Any] | None]:
        """What the boxes hold, and the category ids that mean it; None: all do."""
        named = {
            row.get("id"): str(row.get("name"))
            for row in (rows if isinstance(rows, list) else [])
            if isinstance(row, dict)
        }
        wanted = str(info["object_class"]) if info.get("object_class") else None
        if len(named) <= 1:
            return wanted or next(iter(named.values()), "person"), None
        wanted = wanted or "person"
        chosen = {id_ for id_, name in named.items() if name == wanted}
        if not chosen:
            raise AnnotationError(
                f"{self.path}: {len(named)} categories and none is {wanted!r}; it has "
                f"{', '.join(list(named.values())[:8])}; name one as info.object_class"
            )
        return wanted, chosen

    def _images(self, rows: Sequence[dict[str, Any]]) -> dict[int, dict[str, Any]]:
        images: dict[int, dict[str, Any]] = {}
        for k, row in enumerate(rows):
            number, file = _integer(row.get("id")), row.get("file_name")
            if number is None or not isinstance(file, str) or not file:
                self._drop(f"images[{k}]", "image without id or file_name")
            elif number in images:
                self._drop(f"images[{k}] {file}", "image id twice")
            else:
                size = self._size(row, file)
                if size is None:
                    self._drop(file, "image without width and height")
                else:
                    images[number] = row | {"size": size}
        return images

    def _size(self, row: Mapping[str, Any], file: str) -> tuple[int, int] | None:
        width, height = _integer(row.get("width")), _integer(row.get("height"))
        if width and height and width > 0 and height > 0:
            return width, height
        try:
            return picture_size(self.pictures / file)
        except PictureError:
            return None

    def _names(self, images: Mapping[int, Mapping[str, Any]]) -> dict[int, str]:
        short = _scene_names([image["file_name"] for image in images.values()])
        names = {
            number: str(image.get("name") or name)
            for (number, image), name in zip(images.items(), short, strict=True)
        }
        twice = [name for name, count in Counter(names.values()).items() if count > 1]
        if twice:
            raise AnnotationError(
                f"{self.path}: {len(twice)} pictures are listed more than once, first "
                f"{twice[0]!r}; give each one image, or images a 'name' each"
            )
        return names

    def _rows(
        self,
        annotations: Sequence[dict[str, Any]],
        images: Mapping[int, Any],
        categories: set[Any] | None,
    ) -> dict[int, list[tuple[int | None, list[float], int]]]:
        """Per image (annotation id, x, y, w, h, person id) of the rows that can be used."""
        found: dict[int, list[tuple[int | None, list[float], int]]] = {n: [] for n in images}
        for k, row in enumerate(annotations):
            number, id_ = _integer(row.get("image_id")), _integer(row.get("id"))
            where = f"annotation {k if id_ is None else id_}"
            person = row.get("person_id")
            person_id = UNLABELLED if person is None else _integer(person)
            box = _numbers(row.get("bbox"))
            if number not in found:
                self._drop(where, "annotation of an image that is not listed")
            elif categories is not None and row.get("category_id") not in categories:
                self._drop(where, "another category")
            elif row.get("iscrowd"):
                self._drop(where, "crowd region")
            elif box is None:
                self._drop(where, "bbox is not four numbers")
            elif box[2] <= 0 or box[3] <= 0:
                self._drop(where, "box of zero or negative size")
            elif person_id is None:
                self._drop(where, "person_id is not a whole number")
            else:
                found[number].append((id_, box, max(person_id, UNLABELLED)))
        return found

    def _scene(
        self,
        name: str,
        image: Mapping[str, Any],
        rows: Sequence[tuple[int | None, list[float], int]],
        *,
        cut: bool,
    ) -> tuple[Scene, list[int | None]]:
        """The scene, and the annotation id of each of its boxes."""
        whole = from_xywh(np.array([box for _, box, _ in rows], dtype=np.float64).reshape(-1, 4))
        inside, good = kept_in_picture(whole, image["size"])
        boxes = inside if cut else whole.astype(np.float32)
        good &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        for k in np.flatnonzero(~good).tolist():
            self._drop(f"annotation {rows[k][0]} of {name}", "box outside its picture")
        kept = np.flatnonzero(good).tolist()
        camera = _integer(image.get("camera"))
        if camera is None and cut and (match := _PRW_NAME.match(PurePosixPath(name).name)):
            camera = int(match[1])
        time = image.get("time")
        scene = Scene(
            name,
            self.pictures / image["file_name"],
            image["size"],
            boxes[kept],
            np.array([rows[k][2] for k in kept], dtype=np.int64),
            camera,
            float(time) if isinstance(time, int | float) else None,
            _integer(image.get("frame")),
        )
        return scene, [rows[k][0] for k in kept]


def _numbers(value: Any) -> list[float] | None:
    """Four finite numbers, or None."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in value):
        return None
    return [float(v) for v in value]


def kept_in_picture(
    boxes: NDArray[Any], size: tuple[int, int]
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Boxes (N, 4) cut to a picture of (width, height), and which (N,) have anything left."""
    inside: FloatArray = clip(boxes, size).astype(np.float32)
    good: NDArray[np.bool_] = (inside[:, 2] > inside[:, 0]) & (inside[:, 3] > inside[:, 1])
    return inside, good


def _renumbered(scene: Scene, numbers: Mapping[int, int]) -> Scene:
    ids: IntArray = np.array([numbers.get(i, UNLABELLED) for i in scene.ids.tolist()], np.int64)
    return Scene(
        scene.name,
        scene.path,
        scene.size,
        scene.boxes,
        ids,
        scene.camera,
        scene.time,
        scene.frame,
    )


def join(datasets: Sequence[Dataset], name: str, root: Path) -> Dataset:
    """Files of one data set, a split each, as one. Their ids are taken to be unrelated.

    Raises:
        DataError: two of them have the same split.
    """
    splits: dict[str, Sequence[Scene]] = {}
    protocols: dict[str, Any] = {}
    for dataset in datasets:
        for split, scenes in dataset.splits.items():
            if split in splits:
                raise DataError(
                    f"{root}: two of its annotation files hold split {split!r}; "
                    "give the one to read"
                )
            splits[split] = scenes
        protocols |= {key: dataset.protocols[key] for key in dataset.protocols}
    dropped = [d for dataset in datasets for d in dataset.dropped]
    return Dataset(name, root, splits, protocols, dropped, datasets[0].object_class)
