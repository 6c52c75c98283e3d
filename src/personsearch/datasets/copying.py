"""Copies the pictures of scenes for the writers."""

from collections.abc import Callable, Sequence
from pathlib import Path

from personsearch.datasets.dataset import Dropped
from personsearch.errors import PictureError
from personsearch.media.pictures import save_scene
from personsearch.types import Scene

Progress = Callable[[int, int], None]
"""Called with (pictures done, pictures in all)."""


def copy_pictures(
    scenes: Sequence[Scene], path_of: Callable[[Scene], Path], progress: Progress | None = None
) -> list[Dropped]:
    """Save the picture of each scene at the path that `path_of` gives; folders are created.

    Returns:
        The scenes whose picture cannot be read.
    """
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
