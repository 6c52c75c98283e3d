"""Writes a data set in another format."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from personsearch.datasets import cuhk_sysu_writer, prw_writer, scenes
from personsearch.datasets.copying import Progress, copy_pictures
from personsearch.datasets.dataset import Dataset, Dropped
from personsearch.errors import DataError
from personsearch.types import Scene


def convert(
    dataset: Dataset, out: Path, to: str, *, progress: Progress | None = None
) -> list[Dropped]:
    """Write the data set and its pictures into an empty or absent folder, in a format of `TARGETS`.

    Return what the format cannot hold, and pictures that could not be read.

    Raises:
        DataError: the format is unknown, the folder is not empty, or the format cannot hold the
            data set.
    """
    if to not in TARGETS:
        raise DataError(f"cannot convert to {to!r}; it can be {', '.join(TARGETS)}")
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: has something in it; give a folder that is empty or not there")
    if not any(len(split) for split in dataset.splits.values()):
        raise DataError(f"data set {dataset.name!r} at {dataset.root} has no scenes to convert")
    dropped = []
    if to != "scenes":
        dropped = [Dropped(s.name, "region to ignore") for s in dataset for _ in s.ignored]
    return dropped + TARGETS[to](dataset, out, progress=progress)


def _to_scenes(dataset: Dataset, out: Path, *, progress: Progress | None) -> list[Dropped]:
    folder = out / "images"
    dropped = copy_pictures(list(dataset), lambda scene: folder / _safe(scene), progress)
    splits = {
        split: [replace(scene, path=folder / _safe(scene), frame=None) for scene in old]
        for split, old in dataset.splits.items()
    }
    scenes.write(replace(dataset, root=out, splits=splits), out)
    return dropped


def _safe(scene: Scene) -> Path:
    """Return the path of a scene's picture, by its name but always below the folder."""
    parts = [part for part in Path(scene.name).parts if part not in ("..", "/", "\\")]
    name = Path(*parts) if parts else Path("scene")
    if scene.frame is None and scene.path.suffix:
        suffix = scene.path.suffix.lower()
        same = name.suffix.lower() == suffix
        return name if same else name.with_name(name.name + suffix)
    return name.with_name(name.name + ".jpg")


TARGETS: Mapping[str, Callable[..., list[Dropped]]] = {
    "scenes": _to_scenes,
    "cuhk-sysu": cuhk_sysu_writer.write,
    "prw": prw_writer.write,
}
"""The writers, by the names of their formats."""
