"""Copies the pictures of scenes for the writers."""

from collections.abc import Callable, Sequence
from pathlib import Path

from personsearch.datasets.dataset import Dataset, Dropped
from personsearch.errors import PictureError
from personsearch.media.pictures import save_scene
from personsearch.types import Scene

Progress = Callable[[int, int], None]
"""Called with (pictures done, pictures in all)."""


def train_and_test(dataset: Dataset, target: str) -> tuple[list[Scene], list[Scene], list[Dropped]]:
    """Return the two splits that the format `target` has, and the others as dropped.

    Raises:
        DataError: there is no ``test``.
    """
    others = [split for split in dataset.splits if split not in ("train", "test")]
    dropped = [Dropped(split, f"split that {target} does not have") for split in others]
    return list(dataset.splits.get("train", ())), list(dataset.split("test")), dropped


def copy_pictures(
    scenes: Sequence[Scene], path_of: Callable[[Scene], Path], progress: Progress | None = None
) -> list[Dropped]:
    """Save the picture of each scene at `path_of`; return the scenes without a readable one."""
    dropped = []
    for done, scene in enumerate(scenes, start=1):
        path = path_of(scene)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_scene(scene, path)
        except PictureError:
            dropped.append(Dropped(scene.name, "picture that cannot be read"))
        if progress is not None:
            progress(done, len(scenes))
    return dropped
