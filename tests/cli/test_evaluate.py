"""`personsearch evaluate` on the drawn benchmark."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from shell import personsearch

from personsearch.datasets import open_dataset
from personsearch.evaluation.files import SavedDetections, save_detections
from personsearch.synthetic.benchmark import make_benchmark
from personsearch.training.checkpoint import save_checkpoint
from personsearch.training.recipe import make_recipe
from personsearch.types import Detections, FloatArray

IDS = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "tiny"
    make_benchmark(folder, size="tiny", workers=1)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network: it finds nobody well, but the figures are figures."""
    recipe = make_recipe(
        {
            "system": "oim",
            "backbone": "small",
            "backbone_width": 16,
            "iterations": 1,
            "lr": 0.1,
            "precision": "float32",
            "min_size": 120,
            "max_size": 160,
            "rpn_post_nms_top_n_test": 20,
            "score_threshold": 0.0,
        }
    )
    folder = tmp_path_factory.mktemp("checkpoint") / "oim"
    save_checkpoint(folder, recipe.build(IDS), recipe, IDS, {})
    return folder


def test_figures_bounds_and_files(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    ran = personsearch(
        "evaluate", checkpoint, "--data", data, "--protocol", "cross-camera", "--protocol", "all",
        "--score-threshold", 0.1, "--score-threshold", 0.5, "--context", "5,2", "--json",
        "--per-query", tmp_path / "queries.csv", "--save", tmp_path / "found.npz",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert [row["score_threshold"] for row in report["detection"]] == [0.1, 0.5]
    kinds = [(r["protocol"], r["embeddings"], r["boxes"]) for r in report["search"]]
    assert [r["confidence_weighted"] for r in report["search"]] == [False] * 8
    assert [r["other_weighting"] is not None for r in report["search"][:4]] == [True, *[False] * 3]
    assert {r["score_threshold"] for r in report["search"]} == {0.1}
    per_protocol = [
        ("model", "detected"),
        ("model", "ground truth"),
        ("HSV histogram", "ground truth"),
        ("model", "detected, with context"),
    ]
    assert kinds == [(p, *kind) for p in ("cross-camera", "all") for kind in per_protocol]
    floor = report["search"][2]
    assert 0.1 < floor["mean_ap"] < 0.5
    with (tmp_path / "queries.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    of_floor = [
        float(row["ap"])
        for row in rows
        if (row["protocol"], row["embeddings"]) == ("cross-camera", "HSV histogram")
    ]
    assert len(of_floor) == floor["queries"]
    assert sum(of_floor) / len(of_floor) == pytest.approx(floor["mean_ap"])
    detected = report["search"][0]
    weighted = [float(row["ap_other_weighting"]) for row in rows[: detected["queries"]]]
    assert np.mean(weighted) == pytest.approx(detected["other_weighting"]["mean_ap"])

    again = personsearch(
        "evaluate", tmp_path / "found.npz", "--data", data, "--protocol", "cross-camera",
        "--score-threshold", 0.1, "--context", "5,2", "--json",
    )  # fmt: skip
    assert (again.returncode, again.stderr) == (0, "")
    saved = json.loads(again.stdout)
    assert [row["mean_ap"] for row in saved["search"]] == [
        report["search"][row]["mean_ap"] for row in (0, 3)
    ]
    assert saved["detection"][0] == report["detection"][0]


def test_a_file_of_0_1_is_read_and_its_weighting_asked_for(data: Path, tmp_path: Path) -> None:
    """Embeddings that tell people apart a little, under scores that say nothing."""
    dataset, rng = open_dataset(data), np.random.default_rng(0)
    (name, protocol), *_ = dataset.protocols.items()
    faces = rng.normal(size=(100, 8))

    def embed(ids: Sequence[int]) -> FloatArray:
        vectors = faces[list(ids)] + rng.normal(size=(len(ids), 8))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    found = {
        scene.name: Detections(scene.boxes, rng.random(len(scene.ids)), embed(scene.ids.tolist()))
        for scene in dataset.split("test")
    }
    queries = {name: embed([query.id for query in protocol.queries])}
    save_detections(tmp_path / "old.npz", SavedDetections(found, queries))
    save_detections(tmp_path / "new.npz", SavedDetections(found, queries, True))

    def evaluate(file: str, *arguments: str) -> tuple[float, str]:
        ran = personsearch(
            *("evaluate", tmp_path / file, "--data", data, "--score-threshold", "0", "--json"),
            *arguments,
        )
        assert ran.returncode == 0
        return json.loads(ran.stdout)["search"][0]["mean_ap"], ran.stderr

    weighted, plain = evaluate("new.npz"), evaluate("new.npz", "--no-confidence-weighted")
    assert weighted[0] != plain[0]
    assert evaluate("old.npz", "--confidence-weighted") == weighted == (weighted[0], "")
    assert evaluate("old.npz")[0] == plain[0]
    assert "--no-confidence-weighted" in evaluate("old.npz")[1]


def test_a_metric_other_than_that_of_stores_is_said(data: Path, tmp_path: Path) -> None:
    dataset, rng = open_dataset(data), np.random.default_rng(0)
    (name, protocol), *_ = dataset.protocols.items()
    found = {
        s.name: Detections(s.boxes, np.ones(len(s.ids)), rng.normal(size=(len(s.ids), 4)))
        for s in dataset.split("test")
    }
    queries = {name: rng.normal(size=(len(protocol.queries), 4)).astype(np.float32)}
    file = tmp_path / "long.npz"
    save_detections(file, SavedDetections(found, queries, False, "euclidean"))
    printed = personsearch("evaluate", file, "--data", data)
    assert printed.returncode == 0, printed.stderr
    assert "Ranked by euclidean distance. A store of this model ranks by the" in printed.stdout
    known = json.loads(personsearch("evaluate", file, "--data", data, "--json").stdout)
    assert known["metric"] == "euclidean"


def test_tables_without_bounds(data: Path, checkpoint: Path) -> None:
    ran = personsearch("evaluate", checkpoint, "--data", data, "--no-bounds")
    assert ran.returncode == 0, ran.stderr
    assert "Search on synthetic-tiny" in ran.stdout
    assert "HSV" not in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--protocol", "nowhere"], 1, "no protocol 'nowhere'"),
        (["--split", "dev"], 1, "no split 'dev'"),
        (["--convention", "own"], 1, "convention"),
        (["--context", "five"], 2, "30,4"),
    ],
)
def test_wrong_words_are_one_error(
    data: Path, checkpoint: Path, arguments: list[str], status: int, says: str
) -> None:
    ran = personsearch("evaluate", checkpoint, "--data", data, *arguments)
    assert ran.returncode == status
    assert says in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_checkpoint_that_is_not_there(data: Path, tmp_path: Path) -> None:
    ran = personsearch("evaluate", tmp_path / "gone", "--data", data)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("error: ")
    assert len(ran.stderr.splitlines()) == 1
