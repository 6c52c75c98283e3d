"""Opens a data set in any known format."""

from collections.abc import Callable, Mapping
from pathlib import Path

from personsearch.datasets import cuhk_sysu, detection_sets, folder, market1501, mot, prw, scenes
from personsearch.datasets.dataset import Dataset
from personsearch.errors import DataError

FORMATS: Mapping[str, Callable[..., Dataset]] = {
    "scenes": scenes.read,
    "coco": scenes.read_coco,
    "cuhk-sysu": cuhk_sysu.read,
    "prw": prw.read,
    "market-1501": market1501.read,
    "mot": mot.read,
    "mot-detection": detection_sets.read_mot_detection,
    "wider-pedestrian": detection_sets.read_wider_pedestrian,
    "crowdhuman": detection_sets.read_crowdhuman,
    "folder": folder.read,
}
"""The readers, by the names of their formats."""

_PRW_FILES = ("frame_train.mat", "frame_test.mat", "query_info.txt")
_DETECTION_FILES = {
    "wider-pedestrian": detection_sets.WIDER,
    "crowdhuman": detection_sets.CROWDHUMAN,
}


def open_dataset(
    path: Path | str, format: str | None = None, pictures: Path | str | None = None
) -> Dataset:
    """Read a data set of any format.

    Args:
        path: its folder, or a .json file.
        format: a name in `FORMATS`; by default the one that `detect_format` finds.
        pictures: the folder of the pictures, if COCO style files are elsewhere.

    Raises:
        DataError: there is no data set, the format is unknown, or it takes no `pictures`.
        AnnotationError: the files are damaged or contradict each other.
        PictureError: pictures are missing that the format cannot do without.
    """
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise DataError(f"data set format {format!r} is unknown; it can be {', '.join(FORMATS)}")
    if not path.exists():
        raise DataError(f"{path}: no such data set; expected a folder or a .json file")
    format = format or detect_format(path)
    if pictures is None:
        return FORMATS[format](path)
    if format not in ("scenes", "coco"):
        raise DataError(
            f"{path}: a folder of pictures can be given for scenes and coco only, this is {format}"
        )
    return FORMATS[format](path, Path(pictures))


def detect_format(path: Path) -> str:
    """Judge the format of a folder or .json file by file names; `DataError` for other files."""
    if path.is_file():
        if path.suffix.lower() != ".json":
            raise DataError(f"{path}: is a file, expected a folder or a COCO style .json file")
        return "scenes" if path.name == scenes.FILE_NAME else "coco"
    if (path / scenes.FILE_NAME).is_file():
        return "scenes"
    if (path / "annotation").is_dir() or (path / "Image" / "SSM").is_dir():
        return "cuhk-sysu"
    if any((path / name).is_file() for name in _PRW_FILES):
        return "prw"
    if (path / market1501.TRAIN).is_dir():
        return "market-1501"
    if any((path / name).is_file() for name in mot.TRUTH):
        return "mot"
    for format, files in _DETECTION_FILES.items():
        if any((path / files.format(split)).is_file() for split in detection_sets.SPLITS):
            return format
    if detection_sets.mot_sequences(path):
        return "mot-detection"
    return "coco" if any(path.glob("*.json")) else "folder"
