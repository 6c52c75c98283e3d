"""A folder of small real samples, as data sets with protocols: a few PRW frames, PETS09 S2L1.

Nothing of it is shipped; the reader takes a user's own folder:

    prw-frames/*.jpg                frames of PRW
    prw-annotations/*.json          COCO style, with ``person_id`` (-1 or -2: unlabelled)
    pets09/*.avi, gt.txt            the video, and its boxes in MOT format
    pets09/seqinfo.ini              the size of the pictures that ``gt.txt`` was drawn on
    models/*.xml, *.onnx            networks
"""

import configparser
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.boxes import clip, from_xywh
from personsearch.datasets.dataset import Dataset, Dropped
from personsearch.datasets.pictures import picture_size
from personsearch.datasets.video import video_size
from personsearch.errors import AnnotationError, DataError, PictureError
from personsearch.types import UNLABELLED, FloatArray, Query, Scene, SearchProtocol

PROTOCOL = "every other frame"
"""Name of the one protocol of the PRW frames."""


def read_real_samples(folder: Path) -> list[Dataset]:
    """The samples that a folder holds.

    Raises:
        DataError: it holds none, or one that is damaged.
    """
    folder = Path(folder)
    found = []
    if (folder / "prw-frames").is_dir():
        found.append(prw_frames(folder))
    if (folder / "pets09").is_dir():
        found.append(pets09(folder))
    if not found:
        raise DataError(f"{folder}: expected folders prw-frames or pets09 in it, found neither")
    return found


def networks(folder: Path) -> list[Path]:
    """The network files of a folder's ``models``, sorted: ``.xml`` and ``.onnx``."""
    return sorted(
        path for path in (Path(folder) / "models").glob("*") if path.suffix in (".xml", ".onnx")
    )


def prw_frames(folder: Path) -> Dataset:
    """The PRW frames of a folder. Every labelled box whose id is in another frame is a query.

    The gallery is every other frame, of the same camera too. Boxes are clipped to the frame.

    Raises:
        AnnotationError: an annotation file is missing or damaged.
        DataError: there are no frames.
    """
    folder = Path(folder)
    files = {path.name: path for path in sorted((folder / "prw-frames").glob("*.jpg"))}
    if not files:
        raise DataError(f"{folder / 'prw-frames'}: no .jpg frames in it")
    dropped: list[Dropped] = []
    annotated: dict[str, tuple[FloatArray, list[int]]] = {}
    for path in sorted((folder / "prw-annotations").glob("*.json")):
        annotated |= _coco_boxes(path, files, dropped)
    if not annotated:
        raise AnnotationError(
            f"{folder / 'prw-annotations'}: no .json in it speaks of the frames in prw-frames"
        )
    scenes = []
    for name, path in files.items():
        if name not in annotated:
            dropped.append(Dropped(name, "frame without annotations"))
            continue
        boxes, ids = annotated[name]
        camera = re.match(r"c(\d)", name)
        scenes.append(
            Scene(
                name,
                path,
                picture_size(path),
                boxes,
                np.array(ids, dtype=np.int64),
                camera=int(camera[1]) if camera else None,
            )
        )
    protocol = _protocol(PROTOCOL, scenes, lambda query, scene: query.name != scene.name)
    return Dataset("PRW frames", folder, {"test": scenes}, {PROTOCOL: protocol}, dropped)


def pets09(folder: Path, *, every: int = 25, last: int = 499, gap: int = 200) -> Dataset:
    """Frames of PETS09 S2L1. Every box is a query; its gallery, all frames far enough away.

    Args:
        folder: holds ``pets09``.
        every: take video frames 0, `every`, 2 `every`, ...
        last: up to this one.
        gap: a gallery frame is at least so many frames away from the query's.

    Raises:
        AnnotationError: the ground truth is missing or damaged.
        PictureError: the video is missing or damaged.
    """
    folder = Path(folder)
    root = folder / "pets09"
    videos = sorted(root.glob("*.avi"))
    if len(videos) != 1:
        raise PictureError(f"{root}: {len(videos)} .avi videos in it, expected one")
    size = video_size(videos[0])
    rows, drawn_on = _mot_rows(root / "gt.txt"), _sequence_size(root / "seqinfo.ini")
    scale = np.array([size[0] / drawn_on[0], size[1] / drawn_on[1]] * 2)
    dropped: list[Dropped] = []
    scenes = []
    for index in range(0, last + 1, every):
        # The ground truth counts frames from one.
        part = rows[rows[:, 0] == index + 1]
        boxes, ids = _kept(
            from_xywh(part[:, 2:6]) * scale, part[:, 1].astype(int), size, index, dropped
        )
        scenes.append(
            Scene(
                f"frame {index:03d}",
                videos[0],
                size,
                boxes,
                np.array(ids, dtype=np.int64),
                camera=1,
                frame=index,
            )
        )
    name = f"{gap} frames away"

    def far(query: Scene, scene: Scene) -> bool:
        return abs((query.frame or 0) - (scene.frame or 0)) >= gap

    return Dataset(
        "PETS09 S2L1", root, {"test": scenes}, {name: _protocol(name, scenes, far)}, dropped
    )


def _protocol(
    name: str, scenes: Sequence[Scene], in_gallery: Callable[[Scene, Scene], bool]
) -> SearchProtocol:
    """Every labelled box whose id is also in its gallery, as a query."""
    queries, galleries, targets = [], [], []
    for scene in scenes:
        gallery = [other for other in scenes if in_gallery(scene, other)]
        for box, id_ in zip(scene.boxes, scene.ids, strict=True):
            shown = {
                other.name: other.boxes[np.flatnonzero(other.ids == id_)[0]]
                for other in gallery
                if id_ != UNLABELLED and id_ in other.ids
            }
            if shown:
                queries.append(Query(scene.name, box, int(id_), scene.camera))
                galleries.append([other.name for other in gallery])
                targets.append(shown)
    return SearchProtocol(name=name, queries=queries, galleries=galleries, targets=targets)


def _kept(
    boxes: NDArray[Any],
    ids: Iterable[int],
    size: tuple[int, int],
    where: object,
    dropped: list[Dropped],
) -> tuple[FloatArray, list[int]]:
    """Boxes clipped to the picture; those with nothing left in it are dropped and noted."""
    clipped = clip(boxes, size).astype(np.float32)
    good = ((clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])).tolist()
    dropped += [Dropped(f"{where}", "box outside of its picture") for fine in good if not fine]
    kept_ids = [
        id_ if id_ >= 0 else UNLABELLED for id_, fine in zip(ids, good, strict=True) if fine
    ]
    return clipped[good], kept_ids


def _coco_boxes(
    path: Path, files: dict[str, Path], dropped: list[Dropped]
) -> dict[str, tuple[FloatArray, list[int]]]:
    try:
        table = json.loads(path.read_bytes())
        names = {
            row["id"]: row["file_name"] for row in table["images"] if row["file_name"] in files
        }
        rows: dict[str, list[tuple[list[float], int]]] = {name: [] for name in names.values()}
        for row in table["annotations"]:
            if row["image_id"] in names:
                rows[names[row["image_id"]]].append((row["bbox"], int(row["person_id"])))
        return {
            name: _kept(
                from_xywh(np.array([box for box, _ in part], dtype=np.float64).reshape(-1, 4)),
                [id_ for _, id_ in part],
                picture_size(files[name]),
                name,
                dropped,
            )
            for name, part in rows.items()
        }
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error})") from None
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise AnnotationError(
            f"{path}: expected COCO style JSON with images, annotations, bbox and person_id "
            f"({error})"
        ) from None


def _mot_rows(path: Path) -> NDArray[np.float64]:
    """Rows frame, id, x, y, w, h, ... of a MOT ground truth file; rows marked 0 are not counted."""
    try:
        rows = np.loadtxt(path, delimiter=",", ndmin=2)
    except OSError:
        raise AnnotationError(f"{path}: no such file; expected MOT ground truth") from None
    except ValueError as error:
        raise AnnotationError(f"{path}: is not MOT ground truth ({error})") from None
    if rows.shape[1] < 6:
        raise AnnotationError(f"{path}: {rows.shape[1]} columns, expected frame, id, x, y, w, h")
    considered: NDArray[np.float64] = rows[rows[:, 6] != 0] if rows.shape[1] > 6 else rows
    return considered


def _sequence_size(path: Path) -> tuple[int, int]:
    parser = configparser.ConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        section = parser["Sequence"]
        return int(section["imWidth"]), int(section["imHeight"])
    except (OSError, configparser.Error, KeyError, ValueError) as error:
        raise AnnotationError(
            f"{path}: expected imWidth and imHeight under [Sequence] ({error})"
        ) from None
