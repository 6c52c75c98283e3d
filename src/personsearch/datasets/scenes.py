"""The scenes format: COCO style JSON with identities, cameras, splits and search protocols.

A folder contains ``scenes.json`` and, usually, the pictures below it:

    info         {"name", "object_class"}; "separate_ids": true if each split numbers people on
                 its own
    images       {"id", "file_name", "width", "height", "camera", "time", "split"}, and where
                 needed "name" (of the scene), "frame" (index from zero in a video) and "ignored"
                 (regions [x, y, w, h] whose people are not labelled). A camera
                 is a whole number or a text. Texts get the numbers after the highest camera
                 number of the file, from 1, in alphabetical order; see `Dataset.camera_names`
    annotations  {"id", "image_id", "category_id", "bbox": [x, y, w, h], "area", "iscrowd",
                 "person_id"}; a negative or missing person_id is an unlabelled person
    categories   {"id", "name"}
    protocols    see `scene_protocols`

Plain COCO files are read too. A scene's name is its file name without the folder, or the whole of
``file_name`` if two pictures of the file would share a name.
"""

import json
import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.boxes import clip, from_xywh
from personsearch.datasets import scene_protocols
from personsearch.datasets.dataset import Dataset, Dropped, renumbering, with_ids
from personsearch.datasets.protocols import derived_protocols
from personsearch.durable import replace_file
from personsearch.errors import AnnotationError, DataError, PictureError
from personsearch.media.pictures import picture_size
from personsearch.parsing import parse_json
from personsearch.types import UNLABELLED, FloatArray, Scene

FILE_NAME = "scenes.json"

_PRW_NAME = re.compile(r"c(\d+)s\d+_\d+")
_Row = tuple[int | None, list[float], int]  # annotation id, [x, y, w, h], person id
_LARGEST_INTEGER = 2**63 - 1  # that NumPy's int64 holds
_FARTHEST, _LATEST = 1e9, 1e15  # pixels, and seconds
_PERSON_KEYS = ("pid", "personid", "identity", "identityid", "reid")


def read(
    root: Path,
    pictures: Path | None = None,
    split: str | None = None,
    only: Container[str] | None = None,
) -> Dataset:
    """Read a data set in the scenes format, or a plain COCO file.

    In ``train`` ids become 0..n-1, in ascending order; the other splits keep the file's ids. Boxes
    of a plain COCO file (none of its images names a split) are clipped to their pictures; boxes of
    the scenes format are kept as written. Without ``protocols`` there are ``all`` and, with
    several cameras, ``cross-camera`` over ``test``, with one query per identity and camera.

    Args:
        root: the folder with ``scenes.json``, or the .json file itself.
        pictures: folder that ``file_name`` is relative to; by default the file's folder.
        split: split of images that name none; by default ``train`` or ``val`` if the file's name
            contains that word, else ``test``.
        only: the file names to read; other images and their annotations do not count as dropped.

    Raises:
        AnnotationError: the file is missing, has another format, or contradicts itself.
    """
    path = Path(root)
    path = path / FILE_NAME if path.is_dir() else path
    table = _load(path)
    if only is not None:
        table |= _part(table, only)
    reader = _Reader(path, Path(pictures) if pictures else path.parent, split or _split_of(path))
    return reader.dataset(table)


def read_coco(root: Path, pictures: Path | None = None) -> Dataset:
    """Read a COCO file, or a folder of COCO files with one split each.

    The files of a folder are assumed to number people and cameras independently. Their
    ``file_name`` is relative to `pictures`, by default the files' folder.

    Raises:
        AnnotationError: there is no COCO file, or one is damaged.
        DataError: two files have the same split.
    """
    if root.is_file():
        return read(root, pictures)
    files = [file for file in sorted(root.glob("*.json")) if _is_coco(file)]
    if not files:
        raise AnnotationError(f"{root}: no .json file in it is in COCO style")
    parts = [read(file, pictures) for file in files]
    return parts[0] if len(parts) == 1 else _join(parts, root)


def write(dataset: Dataset, root: Path) -> None:
    """Write ``root/scenes.json``; the file is complete or unchanged. Pictures are not copied.

    Their paths are stored relative to `root` if they are below it, else absolute. Reading the
    file gives the same scenes and protocols, with bit-identical boxes.

    Raises:
        DataError: two scenes have the same name, or a protocol names unknown scenes.
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    base = root.resolve()
    entries = [(split, scene) for split, scenes in dataset.splits.items() for scene in scenes]
    files = [_relative(scene.path, base) for _, scene in entries]
    usual = _scene_names(files)
    names = dataset.camera_names
    numbering = scene_protocols.Numbering()
    for number, ((split, scene), file) in enumerate(zip(entries, files, strict=True), start=1):
        image: dict[str, Any] = {"id": number, "file_name": file}
        if scene.name != usual[number - 1]:
            image["name"] = scene.name
        image |= {"width": scene.size[0], "height": scene.size[1]}
        camera = None if scene.camera is None else names.get(scene.camera, scene.camera)
        image |= {"camera": camera, "time": scene.time, "split": split}
        if scene.frame is not None:
            image["frame"] = scene.frame
        if len(scene.ignored):
            image["ignored"] = [scene_protocols.to_bbox(region) for region in scene.ignored]
        images.append(image)
        numbering.add(number, split, scene)
        ids = scene.ids.tolist()
        if split == "train" and dataset.source_ids is not None:
            ids = [dataset.source_ids[id_] if id_ >= 0 else id_ for id_ in ids]
        for box, id_ in zip(scene.boxes, ids, strict=True):
            bbox = scene_protocols.to_bbox(box)
            row = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "bbox": bbox}
            row |= {"area": bbox[2] * bbox[3], "iscrowd": 0, "person_id": id_}
            annotations.append(row)
    info: dict[str, Any] = {"name": dataset.name, "object_class": dataset.object_class}
    if dataset.source_ids is None and "train" in dataset.splits and len(dataset.splits) > 1:
        info["separate_ids"] = True
    protocols = dataset.protocols
    table = {
        "info": info,
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": dataset.object_class}],
        "protocols": [scene_protocols.to_json(n, protocols[n], numbering) for n in protocols],
    }
    replace_file(root / FILE_NAME, json.dumps(table, separators=(",", ":"), allow_nan=False))


def _is_coco(path: Path) -> bool:
    try:
        _load(path)
    except AnnotationError:
        return False
    return True


def _load(path: Path) -> dict[str, Any]:
    try:
        table = parse_json(path.read_bytes())
    except FileNotFoundError:
        wanted = f"{FILE_NAME} or a COCO file"
        raise AnnotationError(f"{path}: no such file; expected {wanted}") from None
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error})") from None
    except ValueError as error:
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
    """Return the images of the given file names, and all annotations but those of others."""
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
    """Return a whole number, also one stored as 3.0; else None."""
    if isinstance(value, bool) or not _within(value, _LARGEST_INTEGER):
        return None
    return int(value) if value == int(value) else None


def _key(value: Any) -> int | float | str | None:
    """Return the id of a category, as it is compared; None for a list or an object."""
    return value if isinstance(value, int | float | str) else None


def _within(value: Any, limit: float) -> bool:
    """Return whether a value is a number of at most some size, which NaN is not."""
    return isinstance(value, int | float) and bool(abs(value) <= limit)


class _Reader:
    """Reads one file and collects what it leaves out."""

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
        numbering = scene_protocols.Numbering()
        cameras = self._cameras(images)
        splits: dict[str, list[Scene]] = {}
        for number, image in images.items():
            split = str(image.get("split") or self.split)
            scene, kept = self._scene(names[number], image, rows[number], cameras, plain)
            splits.setdefault(split, []).append(scene)
            numbering.add(number, split, scene, kept)
        source_ids: list[int] | None = None
        if "train" in splits:
            numbers = renumbering(id_ for scene in splits["train"] for id_ in scene.ids.tolist())
            splits["train"] = [with_ids(scene, numbers) for scene in splits["train"]]
            source_ids = None if info.get("separate_ids") else list(numbers)
        order = [s for s in ("train", "val", "test") if s in splits]
        splits = {s: splits[s] for s in [*order, *(s for s in splits if s not in order)]}
        if "protocols" in table:
            protocols = scene_protocols.from_json(table["protocols"], numbering, splits, self.path)
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
            {number: name for name, number in cameras.items()},
        )

    def _drop(self, where: str, reason: str) -> None:
        self.dropped.append(Dropped(where, reason))

    def _object_class(self, info: Mapping[str, Any], rows: Any) -> tuple[str, set[Any] | None]:
        """Return the class of the boxes and its category ids; None if all categories have it."""
        listed = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        named = {_key(row.get("id")): str(row.get("name")) for row in listed}
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

    def _cameras(self, images: Mapping[int, Mapping[str, Any]]) -> dict[str, int]:
        """Return the numbers of cameras that are named by text; other values are dropped."""
        given = {number: image.get("camera") for number, image in images.items()}
        named = {camera for camera in given.values() if isinstance(camera, str)}
        numbers = [camera for camera in map(_integer, given.values()) if camera is not None]
        for number, camera in given.items():
            if camera is not None and not isinstance(camera, str) and _integer(camera) is None:
                where = f"{images[number]['file_name']}, camera {camera!r}"
                self._drop(where, "camera is neither a whole number nor a text: left out")
        return {name: k for k, name in enumerate(sorted(named), max([0, *numbers]) + 1)}

    def _names(self, images: Mapping[int, Mapping[str, Any]]) -> dict[int, str]:
        short = _scene_names([image["file_name"] for image in images.values()])
        named = zip(images.items(), short, strict=True)
        names = {number: str(image.get("name") or name) for (number, image), name in named}
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
    ) -> dict[int, list[_Row]]:
        self._check_person_key(annotations)
        found: dict[int, list[_Row]] = {number: [] for number in images}
        for k, row in enumerate(annotations):
            number, id_ = _integer(row.get("image_id")), _integer(row.get("id"))
            where = f"annotation {k if id_ is None else id_}"
            person = row.get("person_id")
            person_id = UNLABELLED if person is None else _integer(person)
            box = _numbers(row.get("bbox"))
            if number not in found:
                self._drop(where, "annotation of an image that is not listed")
            elif categories is not None and _key(row.get("category_id")) not in categories:
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

    def _check_person_key(self, annotations: Sequence[dict[str, Any]]) -> None:
        """Raise an error if the identities have another key than ``person_id``."""
        if any("person_id" in row for row in annotations):
            return
        for key in dict.fromkeys(key for row in annotations for key in row):
            if key.lower().replace("_", "").replace("-", "") in _PERSON_KEYS:
                raise AnnotationError(
                    f"{self.path}: annotations have the key {key!r}, expected 'person_id' for the "
                    "identity; rename the key"
                )

    def _scene(
        self,
        name: str,
        image: Mapping[str, Any],
        rows: Sequence[_Row],
        cameras: Mapping[str, int],
        plain: bool,
    ) -> tuple[Scene, list[int | None]]:
        """Return the scene, and the annotation id of each of its boxes."""
        whole = from_xywh(np.array([box for _, box, _ in rows], dtype=np.float64).reshape(-1, 4))
        inside, good = kept_in_picture(whole, image["size"])
        boxes = inside if plain else whole.astype(np.float32)
        good &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        for k in np.flatnonzero(~good).tolist():
            self._drop(f"annotation {rows[k][0]} of {name}", "box outside its picture")
        kept = np.flatnonzero(good).tolist()
        given = image.get("camera")
        camera = cameras[given] if isinstance(given, str) else _integer(given)
        if given is None and plain and (match := _PRW_NAME.match(PurePosixPath(name).name)):
            camera = int(match[1])
        time = image.get("time")
        scene = Scene(
            name,
            self.pictures / image["file_name"],
            image["size"],
            boxes[kept],
            np.array([rows[k][2] for k in kept], dtype=np.int64),
            camera,
            float(time) if isinstance(time, int | float) and _within(time, _LATEST) else None,
            _integer(image.get("frame")),
            self._ignored(name, image),
        )
        return scene, [rows[k][0] for k in kept]

    def _ignored(self, name: str, image: Mapping[str, Any]) -> FloatArray:
        """Return the regions to ignore (N, 4)."""
        given = image.get("ignored", [])
        regions = [_numbers(region) for region in given] if isinstance(given, list) else [None]
        known = [region for region in regions if region is not None]
        whole = from_xywh(np.array(known, dtype=np.float64).reshape(-1, 4))
        inside, good = kept_in_picture(whole, image["size"])
        for _ in range(len(regions) - int(good.sum())):
            self._drop(name, "region to ignore that is no box in its picture")
        return inside[good]


def _numbers(value: Any) -> list[float] | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    return [float(v) for v in value] if all(_within(v, _FARTHEST) for v in value) else None


def kept_in_picture(
    boxes: NDArray[Any], size: tuple[int, int]
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Clip boxes (N, 4) to a picture of (width, height); return them and which have area left."""
    inside: FloatArray = clip(boxes, size).astype(np.float32)
    good: NDArray[np.bool_] = (inside[:, 2] > inside[:, 0]) & (inside[:, 3] > inside[:, 1])
    return inside, good


def _join(datasets: Sequence[Dataset], root: Path) -> Dataset:
    splits: dict[str, Sequence[Scene]] = {}
    protocols: dict[str, Any] = {}
    for dataset in datasets:
        twice = splits.keys() & dataset.splits.keys()
        if twice:
            raise DataError(
                f"{root}: two of its annotation files have the split {min(twice)!r}; give the "
                "file to read instead of the folder"
            )
        splits |= dataset.splits
        protocols |= {key: dataset.protocols[key] for key in dataset.protocols}
    cameras = datasets[0].camera_names
    return Dataset(
        root.resolve().name,
        root,
        splits,
        protocols,
        [entry for dataset in datasets for entry in dataset.dropped],
        datasets[0].object_class,
        camera_names=cameras if all(d.camera_names == cameras for d in datasets) else {},
    )
