from pathlib import Path

import pytest
from PIL import Image

from personsearch.datasets import folder
from personsearch.errors import DataError


def test_pictures_at_any_depth(tmp_path: Path) -> None:
    root, outside = tmp_path / "photos", tmp_path / "outside.jpg"
    (root / "2020" / "may").mkdir(parents=True)
    (root / ".thumbs").mkdir()
    for path in (root / "a.PNG", root / "2020" / "may" / "b.jpg", root / ".thumbs" / "c.jpg"):
        Image.new("RGB", (30, 20)).save(path)
    Image.new("RGB", (30, 20)).save(outside)
    (root / "link.jpg").symlink_to(outside)
    (root / "itself.jpg").symlink_to("itself.jpg")
    (root / "empty.jpg").write_bytes(b"")
    (root / "notes.txt").write_text("no picture")
    dataset = folder.read(root)
    pictures = dataset.split("test")
    assert [(scene.name, scene.size) for scene in pictures] == [
        ("2020/may/b.jpg", (30, 20)),
        ("a.PNG", (30, 20)),
    ]
    assert all(len(scene.boxes) == 0 for scene in pictures)
    assert (dataset.name, dict(dataset.protocols)) == ("photos", {})
    assert [(entry.where, entry.reason) for entry in dataset.dropped] == [
        ("empty.jpg", "picture unreadable"),
        ("itself.jpg", "picture unreadable"),
        ("link.jpg", "link that leads out of the folder"),
    ]


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        folder.read(tmp_path / "absent")
    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"no readable picture \(1 are unreadable\)"):
        folder.read(tmp_path)
