"""`personsearch evaluate` on folders like those of CUHK-SYSU and PRW prints what papers report."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shell import personsearch

from personsearch.datasets import cuhk_sysu_writer, open_dataset, prw_writer
from personsearch.datasets.dataset import Dataset
from personsearch.datasets.protocols import all_protocol
from personsearch.evaluation.files import SavedDetections, save_detections
from personsearch.evaluation.published import published_results
from personsearch.types import Detections, Scene


def people() -> Dataset:
    """Two people, each in a picture of cameras 1 and 2."""
    box = np.array([[10, 20, 60, 160]], np.float32)
    scenes = [
        Scene(f"{k}.jpg", Path(f"{k}.jpg"), (320, 240), box, np.array([k % 2]), 1 + k // 2)
        for k in range(4)
    ]
    train = Scene("t.jpg", Path("t.jpg"), (320, 240), box, np.array([0]), 1)
    protocol = all_protocol(scenes)
    of_cuhk = {
        name: replace(protocol, name=name)
        for name in ("gallery-50", "gallery-100", "gallery-4000", "occlusion", "resolution")
    }
    return Dataset("made", Path(), {"train": [train], "test": scenes}, of_cuhk)


@pytest.fixture
def prw(tmp_path: Path) -> Path:
    prw_writer.write(people(), tmp_path / "prw", pictures=False)
    return tmp_path / "prw"


@pytest.fixture
def cuhk_sysu(tmp_path: Path) -> Path:
    cuhk_sysu_writer.write(people(), tmp_path / "cuhk", pictures=False)
    return tmp_path / "cuhk"


def printed(folder: Path, monkeypatch: pytest.MonkeyPatch, *protocols: str) -> str:
    """Evaluate true boxes with embeddings that know everybody; return what is printed."""
    dataset, faces = open_dataset(folder), np.eye(1000, 8, dtype=np.float32)
    found = {
        scene.name: Detections(scene.boxes, np.ones(len(scene.ids)), faces[scene.ids % 8])
        for scene in dataset.split("test")
    }
    queries = {
        name: faces[[query.id % 8 for query in protocol.queries]]
        for name, protocol in dataset.protocols.items()
    }
    save_detections(folder / "found.npz", SavedDetections(found, queries, False))
    monkeypatch.setenv("COLUMNS", "200")
    options = [word for protocol in protocols for word in ("--protocol", protocol)]
    ran = personsearch("evaluate", folder / "found.npz", "--data", folder, *options)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def rows(text: str, title: str) -> list[list[str]]:
    """Return the cells of the table of that title."""
    body = text[text.index(title) :].splitlines()[1:]
    ends = [number for number, line in enumerate(body) if line.startswith("└")]
    cells = [line.strip("│").split("│") for line in body[: ends[0]] if line.startswith("│")]
    return [[cell.strip() for cell in row] for row in cells]


@pytest.mark.parametrize("protocol", ["gallery-50", "gallery-100", "gallery-4000", "occlusion"])
def test_cuhk_sysu(cuhk_sysu: Path, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    text = printed(cuhk_sysu, monkeypatch, protocol)
    ours = rows(text, "Search on CUHK-SYSU")
    assert {(row[1], row[3]) for row in ours} == {(protocol, "100.0")}
    shown = rows(text, "Published results on CUHK-SYSU")
    assert {row[2] for row in shown} == {protocol}
    assert len(shown) == len(published_results("cuhk-sysu", protocol))


def test_cuhk_sysu_prints_both_kinds_of_boxes(
    cuhk_sysu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = rows(printed(cuhk_sysu, monkeypatch, "gallery-100"), "Published results on CUHK-SYSU")
    j3 = [row[1:5] for row in shown if row[0] == "Loesch J3"]
    assert j3 == [
        ["ground truth", "gallery-100", "84.4", "84.0"],
        ["detected", "gallery-100", "79.4", "80.5"],
    ]


def test_prw_says_which_networks_saw_its_videos(prw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(prw, monkeypatch, "regular", "regular-labelled", "multi-view")
    shown = rows(text, "Published results on PRW")
    trident = [row[1:] for row in shown if row[0] == "Trident (AGWF)"]
    assert trident == [
        ["detected", "regular-labelled", "53.3", "87.7", "Han 2021, table 3"],
        ["detected", "multi-view", "48.0", "73.2", "Han 2021, table 3"],
    ]
    assert ["SeqNet", "detected", "regular", "46.7", "83.4"] in [row[:5] for row in shown]
    assert any(row[0] == "SeqNet + HKD †" for row in shown)
    assert "† A network was trained on Market-1501" in text
    others = printed(prw, monkeypatch, "multi-view")
    assert "Market-1501" not in others
    assert "regular" not in others


def test_nothing_is_published_on_own_pictures(prw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Published" not in printed(prw, monkeypatch, "original")
