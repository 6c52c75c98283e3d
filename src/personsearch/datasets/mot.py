"""Reads a MOT folder, tracked people in one video, as a data set: each track is one identity.

gt/gt.txt or gt.txt    rows ``frame, id, x, y, w, h, considered, ...``, frames from one
seqinfo.ini            optional: frame rate, and size of the pictures that the boxes refer to
img1/000001.jpg, ...   the frames; or instead one video file, frame k at index k - 1
"""

import configparser
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, PositiveInt, ValidationError

from personsearch.boxes import from_xywh
from personsearch.datasets.dataset import Dataset, Dropped, numbered_lines
from personsearch.datasets.galleries import Excluding
from personsearch.datasets.protocols import LazyProtocols, every_box_protocol
from personsearch.datasets.scenes import kept_in_picture
from personsearch.errors import AnnotationError, DataError, PictureError
from personsearch.media import video
from personsearch.media.pictures import SUFFIXES, picture_size
from personsearch.types import FloatArray, Scene, SearchProtocol

TRUTH = (Path("gt", "gt.txt"), Path("gt.txt"))

_PEDESTRIAN = 1


class SequenceInfo(BaseModel):
    """The section ``[Sequence]`` of ``seqinfo.ini``; all keys are optional."""

    name: str | None = None
    im_dir: str = Field(default="img1", alias="imDir")
    width: PositiveInt | None = Field(default=None, alias="imWidth")
    height: PositiveInt | None = Field(default=None, alias="imHeight")
    rate: float = Field(default=0.0, alias="frameRate")


@dataclass(frozen=True)
class _Frame:
    name: str
    path: Path
    size: tuple[int, int]
    index: int | None  # in a video


def read(
    root: Path,
    *,
    every: int = 1,
    apart: int = 200,
    camera: int | None = None,
    last: int | None = None,
) -> Dataset:
    """Read one split, ``test``, and the protocols ``all`` and ``apart-<n>``.

    The queries are all boxes whose person is shown again: in any other frame, or in the frames at
    least `apart` frames away.

    The frames are 0, `every`, 2 `every`, ... up to index `last`, by default that of the last
    annotated frame; later ones then count as dropped.

    Raises:
        AnnotationError: the ground truth or ``seqinfo.ini`` is missing, damaged, or contradictory.
        PictureError: there are no frames, or the video cannot be read.
        DataError: `every` or `apart` is not positive.
    """
    if every < 1 or apart < 1:
        raise DataError(f"every={every}, apart={apart}: expected positive numbers")
    root = Path(root)
    dropped: list[Dropped] = []
    info = sequence_info(root)
    rows = _rows(_truth(root), dropped)
    frames = _frames(root, info.im_dir)
    if last is None:
        last = int(rows[:, 0].max(initial=0)) - 1
        later = [frames[k].name for k in sorted(frames) if k - 1 > last]
        dropped += [Dropped(name, "frame after the last annotated one") for name in later]
    for row in rows[~np.isin(rows[:, 0], list(frames))]:
        dropped.append(Dropped(f"frame {row[0]:.0f}, id {row[1]:.0f}", "row without a picture"))
    some = next(iter(frames.values()))
    rate = info.rate if info.rate > 0 or some.index is None else video.frame_rate(some.path)
    scenes = []
    indices = [k - 1 for k in sorted(frames) if k - 1 <= last and (k - 1) % every == 0]
    for index in indices:
        frame = frames[index + 1]
        width, height = frame.size
        scale = np.array([width / (info.width or width), height / (info.height or height)] * 2)
        boxes, ids = _boxes(rows[rows[:, 0] == index + 1], frame, scale, dropped)
        time = index / rate if rate else None
        scenes.append(
            Scene(frame.name, frame.path, frame.size, boxes, ids, camera, time, frame.index)
        )

    def protocol(name: str, frames_apart: int) -> SearchProtocol:
        return every_box_protocol(name, scenes, _galleries(scenes, indices, frames_apart))

    wanted = {"all": 1, f"apart-{apart}": apart}
    protocols = LazyProtocols({n: partial(protocol, n, least) for n, least in wanted.items()})
    return Dataset(info.name or root.resolve().name, root, {"test": scenes}, protocols, dropped)


def _truth(root: Path) -> Path:
    for path in TRUTH:
        if (root / path).is_file():
            return root / path
    raise AnnotationError(f"{root}: has neither {TRUTH[0]} nor {TRUTH[1]}, expected a MOT folder")


def sequence_info(root: Path) -> SequenceInfo:
    """Read ``seqinfo.ini``, by default all defaults; raise `AnnotationError` if it is damaged."""
    path = root / "seqinfo.ini"
    if not path.is_file():
        return SequenceInfo()
    parser = configparser.ConfigParser(interpolation=None)
    # As configparser documents it, so that keys keep their case.
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        return SequenceInfo.model_validate(dict(parser["Sequence"]))
    except ValidationError as error:
        first = error.errors()[0]
        raise AnnotationError(
            f"{path}: {first['loc'][0]} is {first['input']!r}, expected a positive number"
        ) from None
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError) as error:
        raise AnnotationError(f"{path}: expected a section [Sequence] ({error})") from None


def _rows(path: Path, dropped: list[Dropped]) -> NDArray[np.float64]:
    """Return the usable rows frame, id, x, y, w, h in file order."""
    kept: list[list[float]] = []
    seen: set[tuple[float, float]] = set()
    for number, line in numbered_lines(path):
        try:
            row = [float(part) for part in line.replace(",", " ").split()]
        except ValueError:
            row = []
        if len(row) < 6:
            raise AnnotationError(
                f"{path}, line {number}: {line[:80]!r}, expected frame, id, x, y, w, h, ..."
            )
        reason = _reason(row, seen)
        if reason:
            dropped.append(Dropped(f"{path.name}, line {number}", reason))
        else:
            seen.add((row[0], row[1]))
            kept.append(row[:6])
    if not kept:
        raise AnnotationError(f"{path}: none of its {len(dropped)} rows can be used")
    return np.array(kept, dtype=np.float64)


def _reason(row: list[float], seen: set[tuple[float, float]]) -> str | None:
    if not np.isfinite(row[:6]).all():
        return "row that is not finite"
    if row[0] < 1 or row[0] != int(row[0]):
        return "frame number is not 1 or more"
    if not 0 <= row[1] < 2**53 or row[1] != int(row[1]):
        return "track id is not a whole number from 0"
    if len(row) > 6 and row[6] == 0:
        return "row marked as not to be considered"
    # With nine columns the eighth is a class, with ten a world coordinate.
    if len(row) == 9 and row[7] != _PEDESTRIAN:
        return "another class than pedestrian"
    if row[4] <= 0 or row[5] <= 0:
        return "box of zero or negative size"
    return "track twice in a frame: the first row counts" if (row[0], row[1]) in seen else None


def _frames(root: Path, im_dir: str) -> dict[int, _Frame]:
    """Return the frames by their number, from one."""
    folder = root / im_dir
    if folder.is_dir() and folder.resolve().is_relative_to(root.resolve()):
        found = {
            int(path.stem): _Frame(path.name, path, picture_size(path), None)
            for path in sorted(folder.iterdir())
            if path.suffix.lower() in SUFFIXES and path.stem.isdecimal()
        }
        if found:
            return found
    videos = sorted(path for path in root.iterdir() if path.suffix.lower() in video.SUFFIXES)
    if len(videos) != 1:
        raise PictureError(
            f"{root}: no frames in {folder.name}/ and {len(videos)} videos, expected frames called "
            "000001.jpg, ... or one video"
        )
    size, path = video.video_size(videos[0]), videos[0]
    return {
        index + 1: _Frame(f"{path.stem}_{index:06d}", path, size, index)
        for index in range(video.frame_count(path))
    }


def _boxes(
    rows: NDArray[np.float64], frame: _Frame, scale: NDArray[np.float64], dropped: list[Dropped]
) -> tuple[FloatArray, NDArray[np.int64]]:
    boxes, good = kept_in_picture(from_xywh(rows[:, 2:6] * scale), frame.size)
    for row in rows[~good]:
        dropped.append(Dropped(f"{frame.name}, id {row[1]:.0f}", "box outside its picture"))
    return boxes[good], rows[good, 1].astype(np.int64)


def _galleries(scenes: Sequence[Scene], indices: Sequence[int], apart: int) -> list[Excluding]:
    """Return, for each scene, all that are at least `apart` frames away."""
    names = [scene.name for scene in scenes]
    pairs = list(zip(names, indices, strict=True))
    near = (frozenset(n for n, k in pairs if abs(k - index) < apart) for index in indices)
    return [Excluding(names, excluded) for excluded in near]
