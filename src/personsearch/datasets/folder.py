"""Reads a folder of pictures without annotations, at any depth."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from personsearch.datasets.dataset import Dataset, Dropped
from personsearch.errors import DataError, PictureError
from personsearch.media.pictures import SUFFIXES, picture_size
from personsearch.types import Scene


def read(root: Path) -> Dataset:
    """Read one split, ``test``, of scenes without boxes, named by their path below `root`.

    Unreadable pictures and links that lead out of the folder are dropped and counted. Hidden files
    and folders are skipped.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder of pictures")
    dropped: list[Dropped] = []
    scenes = []
    for path in pictures_below(root, dropped):
        name = path.relative_to(root).as_posix()
        try:
            size = picture_size(path)
        except PictureError as error:
            reason = "picture too large" if "the limit is" in str(error) else "picture unreadable"
            dropped.append(Dropped(name, reason))
            continue
        nobody = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        scenes.append(Scene(name, path, size, *nobody))
    if not scenes:
        raise DataError(
            f"{root}: has no readable picture ({len(dropped)} are unreadable); expected files "
            f"ending in {', '.join(sorted(SUFFIXES))}"
        )
    return Dataset(root.resolve().name, root, {"test": scenes}, {}, dropped)


def pictures_below(root: Path, dropped: list[Dropped]) -> Iterator[Path]:
    """Yield the pictures in a folder, at any depth, sorted; links that lead out are dropped."""
    base = root.resolve()
    for path in sorted(root.rglob("*")):
        below = path.relative_to(root)
        hidden = any(part.startswith(".") for part in below.parts)
        if hidden or path.suffix.lower() not in SUFFIXES or path.is_dir():
            continue
        # Path.resolve fails at a link to itself.
        if Path(os.path.realpath(path)).is_relative_to(base):
            yield path
        else:
            dropped.append(Dropped(below.as_posix(), "link that leads out of the folder"))
