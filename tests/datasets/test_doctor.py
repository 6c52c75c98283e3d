from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from personsearch.datasets.dataset import Dataset, Dropped
from personsearch.datasets.doctor import Finding, examine
from personsearch.types import UNLABELLED, Scene

GOOD = [[10, 10, 20, 30], [30, 10, 40, 30]]


def scene(root: Path, name: str, ids: list[int], boxes: list[list[float]] | None = None) -> Scene:
    pixels = np.random.default_rng(sum(name.encode())).integers(0, 255, (60, 80, 3), np.uint8)
    Image.fromarray(pixels).save(root / name)
    rows = np.array((boxes or GOOD)[: len(ids)], np.float32).reshape(-1, 4)
    return Scene(name, root / name, (80, 60), rows, np.array(ids, dtype=int), 1)


def healthy(root: Path) -> Dataset:
    train = [scene(root, "a.jpg", [0, 1]), scene(root, "b.jpg", [1, 0])]
    return Dataset("mine", root, {"train": train}, source_ids=[4, 5])


def found(dataset: Dataset, *, decode: bool = True) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine(dataset, decode=decode)}


def test_nothing_is_wrong_with_a_healthy_one(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert examine(healthy(tmp_path), progress=lambda *p: seen.append(p)) == []
    assert seen == [(1, 2), (2, 2)]


def test_pictures(tmp_path: Path) -> None:
    names = ("gone.jpg", "cut.jpg", "empty.jpg", "large.jpg", "same.jpg", "again.jpg", "test.jpg")
    scenes = {name: scene(tmp_path, name, [0, 1]) for name in names}
    (tmp_path / "gone.jpg").unlink()
    data = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    Image.new("RGB", (81, 60)).save(tmp_path / "large.jpg")
    for name in ("again.jpg", "test.jpg"):
        (tmp_path / name).write_bytes((tmp_path / "same.jpg").read_bytes())
    test = scenes.pop("test.jpg")
    dataset = Dataset("mine", tmp_path, {"train": list(scenes.values()), "test": []})
    findings = found(dataset)
    assert findings["missing picture"].examples == ["gone.jpg"]
    assert findings["unreadable picture"].count == 2
    assert findings["picture of another size than annotated"].examples == [
        "large.jpg: (81, 60), annotated (80, 60)"
    ]
    assert findings["same picture twice"].examples == ["same.jpg = again.jpg"]
    assert findings["same picture twice"].severity == "warning"
    # Headers alone do not show that a picture is cut off.
    assert found(dataset, decode=False)["unreadable picture"].count == 1
    across = found(replace(dataset, splits={"train": [scenes["same.jpg"]], "test": [test]}))
    assert across["same picture in two splits"].severity == "error"


def test_annotations(tmp_path: Path) -> None:
    odd = [
        scene(tmp_path, "over.jpg", [0, 1], [[-2, 0, 9, 9], [70, 50, 80, 60.5]]),
        scene(tmp_path, "double.jpg", [0, 0, UNLABELLED], [GOOD[0], GOOD[1], GOOD[1]]),
        scene(tmp_path, "tiny.jpg", [1, 3], [[1, 1, 2, 9], GOOD[0]]),
        scene(tmp_path, "nobody.jpg", []),
    ]
    findings = found(Dataset("mine", tmp_path, {"train": odd}))
    assert findings["box outside its picture"].count == 2
    assert findings["same box twice"].examples == ["double.jpg: box [30.0, 10.0, 40.0, 30.0]"]
    assert findings["one id twice in a picture"].examples == ["double.jpg: id 0"]
    assert findings["box under 2 pixels"].count == 1
    assert findings["picture without boxes"].severity == "note"
    assert findings["train id without a box"].examples == ["2"]
    assert findings["train id in one picture alone"].examples == ["3"]


def test_people_of_both_splits(tmp_path: Path) -> None:
    dataset = healthy(tmp_path)
    test = [scene(tmp_path, "t.jpg", [5, 9])]
    both = replace(dataset, splits=dict(dataset.splits) | {"test": test})
    assert found(both)["id in train and test"].examples == ["5"]
    assert found(both)["no search protocol"].severity == "warning"
    # Without common numbers equal ids mean nothing.
    assert "id in train and test" not in found(replace(both, source_ids=None))


def test_published_counts(tmp_path: Path) -> None:
    finding = found(replace(healthy(tmp_path), name="PRW"))["count other than published"]
    assert finding.count == 6
    assert finding.examples[0] == "train images: 2, published 5,704"


def test_what_the_reader_dropped(tmp_path: Path) -> None:
    dropped = [Dropped(f"row {k}", "box of no size") for k in range(7)]
    finding = found(replace(healthy(tmp_path), dropped=dropped))["box of no size"]
    assert (finding.severity, finding.count) == ("warning", 7)
    assert finding.examples == ["row 0", "row 1", "row 2", "row 3", "row 4"]


def test_errors_come_first(tmp_path: Path) -> None:
    dataset = healthy(tmp_path)
    (tmp_path / "b.jpg").unlink()
    dataset = replace(dataset, dropped=[Dropped("x", "y")])
    assert [finding.severity for finding in examine(dataset)] == ["error", "warning"]


def test_cameras_named_by_text_are_listed(tmp_path: Path) -> None:
    finding = found(replace(healthy(tmp_path), camera_names={1: "gate"}))["camera named by text"]
    assert (finding.severity, finding.examples) == ("note", ["'gate' is camera 1"])
