"""Reads the detection sets that training aggregates: boxes of people without identities.

MOT17Det             train/MOT17-02/gt/gt.txt, img1/000001.jpg, ... of each sequence (see `mot`)
Wider Pedestrian     train_annotations.txt, val_annotations.txt: ``picture [class x y w h] ...``,
                     class 1 is a pedestrian, 2 a cyclist; pedestrian_ignore_part_train.txt, ..._val
                     .txt: ``picture [x y w h] ...``, regions to ignore
CrowdHuman           annotation_train.odgt, annotation_val.odgt: one JSON object a line

Pictures of the last two are found by name, wherever they are below the folder. Everyone is
`UNLABELLED`. Regions to ignore are `Scene.ignored`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.boxes import from_xywh
from personsearch.datasets import mot
from personsearch.datasets.dataset import Dataset, Dropped, numbered_lines
from personsearch.datasets.folder import pictures_below
from personsearch.datasets.scenes import kept_in_picture
from personsearch.errors import AnnotationError, PictureError
from personsearch.media.pictures import picture_size
from personsearch.parsing import parse_json
from personsearch.types import UNLABELLED, FloatArray, Scene

Box = Sequence[float]
"""x, y, w, h in pixels."""
_Annotated = tuple[str, Sequence[Box], Sequence[Box]]  # picture, its people, regions to ignore

SPLITS = ("train", "val")
WIDER, WIDER_IGNORED = "{}_annotations.txt", "pedestrian_ignore_part_{}.txt"
CROWDHUMAN = "annotation_{}.odgt"

_MOT_DETECTORS = re.compile(r"-(DPM|FRCNN|SDP)$")
_WIDER_CLASSES = {1, 2}
_WHOLE = re.compile(r"-?[0-9]{1,7}")
_MAX_LINE = 2**24  # characters of one picture's annotations
_MAX_PIXELS = 1e7  # of a coordinate


def read_mot_detection(root: Path) -> Dataset:
    """Read the annotated sequences of MOT17Det, or of another MOT challenge, as split ``train``.

    Of MOT17, which has each sequence three times with the results of three detectors, one is read.

    Raises:
        AnnotationError: no sequence is annotated, or a file is damaged.
        PictureError: a sequence has no frames.
    """
    root = Path(root)
    dropped: list[Dropped] = []
    scenes: list[Scene] = []
    seen: set[str] = set()
    for folder in mot_sequences(root):
        name = _MOT_DETECTORS.sub("", folder.name)
        if name in seen:
            dropped.append(Dropped(folder.name, "sequence with the results of another detector"))
            continue
        seen.add(name)
        # The last frames may show nobody.
        sequence = mot.read(folder, last=2**31)
        dropped += [replace(one, where=f"{name}: {one.where}") for one in sequence.dropped]
        scenes += [
            replace(scene, name=f"{name}/{scene.name}", ids=np.full_like(scene.ids, UNLABELLED))
            for scene in sequence.split("test")
        ]
    if not scenes:
        raise AnnotationError(
            f"{root}: has no annotated sequence; expected folders such as train/MOT17-02 with "
            "gt/gt.txt"
        )
    name = min(seen).partition("-")[0] + "Det"
    return Dataset(name, root, {"train": scenes}, {}, dropped)


def mot_sequences(root: Path) -> list[Path]:
    """Return the folders of annotated MOT sequences in a folder or in its ``train`` folder."""
    return sorted(
        path.parents[1] for part in (".", "train") for path in root.glob(f"{part}/*/gt/gt.txt")
    )


def read_wider_pedestrian(root: Path) -> Dataset:
    """Read the splits ``train`` and ``val`` of Wider Pedestrian; pedestrians and cyclists count.

    Raises:
        AnnotationError: a file is missing or damaged.
        PictureError: there is no picture.
    """
    root = Path(root)

    def rows(split: str) -> Iterator[_Annotated]:
        regions = root / WIDER_IGNORED.format(split)
        ignored = dict(_wider_rows(regions, 4)) if regions.is_file() else {}
        for name, boxes in _wider_rows(root / WIDER.format(split), 5):
            yield name, [box[1:] for box in boxes], ignored.get(name, ())

    return _Builder(root, by_stem=False).dataset("Wider Pedestrian", WIDER, rows)


def _wider_rows(path: Path, width: int) -> Iterator[tuple[str, list[list[int]]]]:
    """Yield the picture of each line and its groups of `width` numbers."""
    for number, line in numbered_lines(path):
        name, *values = line.split()
        numbers = [int(value) for value in values if _WHOLE.fullmatch(value)]
        groups = [numbers[k : k + width] for k in range(0, len(numbers), width)]
        known = width == 4 or {group[0] for group in groups} <= _WIDER_CLASSES
        if len(numbers) < len(values) or len(numbers) % width or not known:
            expected = "x y w h" if width == 4 else "class (1 or 2) x y w h"
            raise AnnotationError(
                f"{path}, line {number}: {line[:80]!r}, expected a picture and {expected} for each "
                "box; unpack the file again"
            )
        yield name, groups


def read_crowdhuman(root: Path) -> Dataset:
    """Read the splits ``train`` and ``val`` of CrowdHuman, the boxes of whole bodies (``fbox``).

    Boxes are clipped to the picture. Boxes with the tag ``mask`` or with ``extra.ignore`` are
    regions to ignore.

    Raises:
        AnnotationError: a file is missing or damaged.
        PictureError: there is no picture.
    """
    root = Path(root)

    def rows(split: str) -> Iterator[_Annotated]:
        return _crowdhuman_rows(root / CROWDHUMAN.format(split))

    return _Builder(root, by_stem=True).dataset("CrowdHuman", CROWDHUMAN, rows)


def _crowdhuman_rows(path: Path) -> Iterator[_Annotated]:
    """Yield the picture of each line, the boxes of its people, and its regions to ignore."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), ""), start=1):
                if not line.strip():
                    continue
                try:
                    row = parse_json(line)
                    people: list[Box] = []
                    ignored: list[Box] = []
                    for box in row["gtboxes"]:
                        person = box["tag"] == "person" and not box.get("extra", {}).get("ignore")
                        (people if person else ignored).append(_box(box["fbox"]))
                    # A name with half a character fails here, not where it is printed.
                    yield str(row["ID"]).encode().decode(), people, ignored
                except (ValueError, KeyError, TypeError, AttributeError):
                    raise AnnotationError(
                        f"{path}, line {number}: {line[:80]!r}, expected a JSON object with ID and "
                        "gtboxes, each with tag and fbox [x, y, w, h]; unpack the file again"
                    ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(f"{path}: cannot be read ({error})") from None


def _box(value: Any) -> Box:
    x, y, w, h = value
    if not all(abs(v) <= _MAX_PIXELS for v in (x, y, w, h)):  # NaN fails, too
        raise ValueError(value)
    return x, y, w, h


class _Builder:
    """Makes scenes of the pictures below a folder; `by_stem`: named without their endings."""

    def __init__(self, root: Path, by_stem: bool) -> None:
        self.root = root
        self.dropped: list[Dropped] = []
        # Of two pictures with the same name, the first counts.
        found = reversed(list(pictures_below(root, self.dropped)))
        self.paths = {path.stem if by_stem else path.name: path for path in found}

    def scenes(self, rows: Iterable[_Annotated]) -> list[Scene]:
        """Return the scenes of annotated pictures; of two rows of a picture the last counts."""
        made = []
        for name, (boxes, ignored) in {row[0]: row[1:] for row in rows}.items():
            path = self.paths.get(name)
            if path is None:
                self.dropped.append(Dropped(name, "missing picture"))
                continue
            try:
                size = picture_size(path)
            except PictureError:
                self.dropped.append(Dropped(name, "picture unreadable"))
                continue
            inside = self._inside(name, boxes, size)
            regions = self._inside(name, ignored, size)
            nobody = np.full(len(inside), UNLABELLED, np.int64)
            made.append(Scene(path.name, path, size, inside, nobody, ignored=regions))
        return made

    def _inside(self, name: str, boxes: Sequence[Box], size: tuple[int, int]) -> FloatArray:
        rows = from_xywh(np.array(boxes, np.float64).reshape(-1, 4))
        inside, good = kept_in_picture(rows, size)
        self.dropped += [Dropped(name, "box outside its picture")] * int((~good).sum())
        return inside[good]

    def dataset(
        self, name: str, files: str, rows: Callable[[str], Iterable[_Annotated]]
    ) -> Dataset:
        """Return the splits whose file there is, of the rows of each."""
        given = [split for split in SPLITS if (self.root / files.format(split)).is_file()]
        splits = {split: self.scenes(rows(split)) for split in given}
        if not splits:
            expected = " or ".join(files.format(split) for split in SPLITS)
            raise AnnotationError(f"{self.root}: has no {name} annotations; expected {expected}")
        if not any(splits.values()):
            raise PictureError(
                f"{self.root}: none of the {len(self.dropped)} annotated pictures of {name} can be "
                "read; unpack the pictures below this folder"
            )
        return Dataset(name, self.root, splits, {}, self.dropped)
