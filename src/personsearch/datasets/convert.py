"""Writes a data set in another format."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from personsearch.datasets.dataset import Dataset, Dropped
from personsearch.errors import DataError, PictureError
from personsearch.media.pictures import save_scene
from personsearch.types import Scene

Progress = Callable[[int, int], None]


def convert(
    dataset: Dataset, out: Path, to: str, *, progress: Progress | None = None
) -> list[Dropped]:
    """Writes the data set, its pictures too, into a new folder.

    Args:
        dataset: of any format.
        out: the folder; it must be empty or absent.
        to: one of `TARGETS`.
        progress: called with (pictures done, pictures in all).

    Returns:
        What the format has no place for, and pictures that could not be read.

    Raises:
        DataError: an unknown format, a folder with something in it, or a data set that the format
            cannot hold.
    """
    if to not in TARGETS:
        raise DataError(f"cannot convert to {to!r}; it can be {', '.join(TARGETS)}")
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: has something in it; give a folder that is empty or not there")
    if not any(len(scenes) for scenes in dataset.splits.values()):
        raise DataError(f"data set {dataset.name!r} at {dataset.root} has no scenes to convert")
    return TARGETS[to](dataset, out, progress)


def _to_scenes(dataset: Dataset, out: Path, progress: Progress | None) -> list[Dropped]:
    from personsearch.datasets import scenes

    folder = out / "images"
    folder.mkdir(parents=True, exist_ok=True)
    total, done = sum(len(s) for s in dataset.splits.values()), 0
    dropped: list[Dropped] = []
    splits: dict[str, list[Scene]] = {}
    for split, old in dataset.splits.items():
        splits[split] = []
        for scene in old:
            path = folder / _safe(scene)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                save_scene(scene, path)
            except PictureError:
                dropped.append(Dropped(scene.name, "picture that cannot be read"))
            splits[split].append(replace(scene, path=path, frame=None))
            done += 1
            if progress is not None:
                progress(done, total)
    scenes.write(replace(dataset, root=out, splits=splits), out)
    return dropped


def _safe(scene: Scene) -> Path:
    """Where a scene's picture goes: by its name, below the folder whatever the name says."""
    parts = [part for part in Path(scene.name).parts if part not in ("..", "/", "\\")]
    name = Path(*parts) if parts else Path("scene")
    if scene.frame is None and scene.path.suffix:
        suffix = scene.path.suffix.lower()
        same = name.suffix.lower() == suffix
        return name if same else name.with_name(name.name + suffix)
    return name.with_name(name.name + ".jpg")


def _to_cuhk_sysu(dataset: Dataset, out: Path, progress: Progress | None) -> list[Dropped]:
    from personsearch.datasets import cuhk_sysu_writer

    return cuhk_sysu_writer.write(dataset, out, progress=progress)


def _to_prw(dataset: Dataset, out: Path, progress: Progress | None) -> list[Dropped]:
    from personsearch.datasets import prw_writer

    return prw_writer.write(dataset, out, progress=progress)


TARGETS: dict[str, Callable[[Dataset, Path, Progress | None], list[Dropped]]] = {
    "scenes": _to_scenes,
    "cuhk-sysu": _to_cuhk_sysu,
    "prw": _to_prw,
}
"""The writers, by the names of their formats."""
