"""`personsearch evaluate`, through the real entry point, on the drawn benchmark."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from personsearch.synthetic.benchmark import make_benchmark
from personsearch.training.checkpoint import save_checkpoint
from personsearch.training.recipe import make_recipe

IDS = 12


def personsearch(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "personsearch", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


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
            "rpn_test_proposals": 20,
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

    again = personsearch(
        "evaluate", tmp_path / "found.npz", "--data", data, "--protocol", "cross-camera",
        "--score-threshold", 0.1, "--json",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    saved = json.loads(again.stdout)
    assert saved["search"][0]["mean_ap"] == report["search"][0]["mean_ap"]
    assert saved["detection"][0] == report["detection"][0]


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
