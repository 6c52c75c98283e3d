"""Pictures are copied where the writer wants them, and the unreadable ones are reported."""

from pathlib import Path

import numpy as np
from PIL import Image

from personsearch.datasets.copying import copy_pictures
from personsearch.types import Scene


def test_readable_pictures_are_copied_and_the_others_reported(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "a.jpg")
    nobody = np.zeros((0, 4)), np.zeros(0, int)
    scenes = [Scene(name, tmp_path / name, (8, 6), *nobody) for name in ("a.jpg", "gone.jpg")]
    seen: list[tuple[int, int]] = []
    dropped = copy_pictures(
        scenes, lambda s: tmp_path / "deep" / "out" / s.name, lambda *p: seen.append(p)
    )
    assert [(d.where, d.reason) for d in dropped] == [("gone.jpg", "picture that cannot be read")]
    assert seen == [(1, 2), (2, 2)]
    copied = tmp_path / "deep" / "out" / "a.jpg"
    assert copied.read_bytes() == (tmp_path / "a.jpg").read_bytes()
