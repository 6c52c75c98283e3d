"""Readers of data sets, and what else turns files into scenes."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from personsearch.errors import AnnotationError, DataError

if TYPE_CHECKING:
    from personsearch.datasets.dataset import Dataset

__all__ = ["FORMATS", "detect_format", "open_dataset"]

_PRW_FILES = ("frame_train.mat", "frame_test.mat", "query_info.txt")


def open_dataset(
    path: Path | str, format: str | None = None, pictures: Path | str | None = None
) -> "Dataset":
    """Reads a data set of any format.

    Args:
        path: its folder, or a .json file.
        format: one of `FORMATS`; by default whatever `detect_format` finds.
        pictures: the folder of the pictures, where COCO style files lie elsewhere.

    Raises:
        DataError: nothing there, an unknown format, or `pictures` for a format without need of it.
        AnnotationError: files that are damaged or contradict themselves.
        PictureError: the pictures of a format that cannot do without are missing.
    """
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise DataError(f"data set format {format!r} is unknown; it can be {', '.join(FORMATS)}")
    if not path.exists():
        raise DataError(f"{path}: no such data set; expected a folder or a .json file")
    format = format or detect_format(path)
    if pictures is not None and format not in ("scenes", "coco"):
        raise DataError(
            f"{path}: a folder of pictures can be given for scenes and coco only, this is {format}"
        )
    return FORMATS[format](path, None if pictures is None else Path(pictures))


def detect_format(path: Path) -> str:
    """The format of a folder or file, by the files that are there.

    Raises:
        DataError: a file that is no .json.
    """
    if path.is_file():
        if path.suffix.lower() != ".json":
            raise DataError(f"{path}: is a file, expected a folder or a COCO style .json file")
        return "scenes" if path.name == "scenes.json" else "coco"
    if (path / "scenes.json").is_file():
        return "scenes"
    if (path / "annotation").is_dir() or (path / "Image" / "SSM").is_dir():
        return "cuhk-sysu"
    if any((path / name).is_file() for name in _PRW_FILES):
        return "prw"
    if any((path / place).is_file() for place in ("gt/gt.txt", "gt.txt")):
        return "mot"
    return "coco" if any(path.glob("*.json")) else "folder"


def _scenes(path: Path, pictures: Path | None) -> "Dataset":
    from personsearch.datasets import scenes

    return scenes.read(path, pictures)


def _coco(path: Path, pictures: Path | None) -> "Dataset":
    from personsearch.datasets import scenes

    if path.is_file():
        return scenes.read(path, pictures)
    files = [file for file in sorted(path.glob("*.json")) if scenes.is_coco(file)]
    if not files:
        raise AnnotationError(f"{path}: no .json file in it is in COCO style")
    if len(files) == 1:
        return scenes.read(files[0], pictures)
    parts = [scenes.read(file, pictures) for file in files]
    return scenes.join(parts, path.resolve().name, path)


def _cuhk_sysu(path: Path, pictures: Path | None) -> "Dataset":
    from personsearch.datasets import cuhk_sysu

    return cuhk_sysu.read(path)


def _prw(path: Path, pictures: Path | None) -> "Dataset":
    from personsearch.datasets import prw

    return prw.read(path)


def _mot(path: Path, pictures: Path | None) -> "Dataset":
    from personsearch.datasets import mot

    return mot.read(path)


def _folder(path: Path, pictures: Path | None) -> "Dataset":
    from personsearch.datasets import folder

    return folder.read(path)


FORMATS: dict[str, Callable[[Path, Path | None], "Dataset"]] = {
    "scenes": _scenes,
    "coco": _coco,
    "cuhk-sysu": _cuhk_sysu,
    "prw": _prw,
    "mot": _mot,
    "folder": _folder,
}
"""The readers, by the names of their formats."""
