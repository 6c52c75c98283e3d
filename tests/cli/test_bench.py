"""`personsearch bench` from the shell, on runs of a second each."""

import json
import subprocess
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from shell import personsearch

from personsearch.bench.ablation import ablation_names
from personsearch.datasets import scenes
from personsearch.datasets.dataset import Dataset
from personsearch.datasets.protocols import cross_camera_protocol
from personsearch.training.recipe import make_recipe
from personsearch.types import Scene

RECIPES = Path(__file__).parents[2] / "src" / "personsearch" / "recipes"
SHIPPED = RECIPES / "synthetic-small" / "oim.toml"
SMALL: dict[str, Any] = {
    "backbone_width": 4,
    "crop_iterations": 0,
    "iterations": 2,
    "images_per_iteration": 2,
    "min_size": 64,
    "max_size": 96,
    "anchor_sizes": [16, 28],
    "rois_per_image": 8,
    "rpn_post_nms_top_n_train": 12,
    "rpn_post_nms_top_n_test": 8,
    "detection_hidden": 8,
    "embedding_dim": 8,
    "queue_size": 4,
    "warmup": 0,
    "evaluate_every": 1,
    "checkpoint_every": 1,
    "log_every": 1,
    "validation_fraction": 0.0,
}
ABLATION = """
title = "the weight of OIM"
paper = "Someone 2020, table 1"
recipe = "oim"

[[column]]
measure = "mean_ap@truth"
title = "mAP on true boxes"

[[variant]]
name = "with"
label = "with the loss"
paper = { "mean_ap@truth" = 75.5 }

[[variant]]
name = "without"
set = { oim_weight = 0.0 }

[[variant]]
name = "broken"
set = { init = "nowhere" }

[[claim]]
says = "the loss helps"
better = "with"
worse = "without"
measure = "mean_ap@truth"

[[figure]]
kind = "training"
title = "curves"
"""


Bench = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The command in this process, which has torch; its runs are processes of their own."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "140")
    return partial(personsearch, "bench")


def draw(folder: Path) -> None:
    """Eight pictures by two cameras, each with two of four people."""
    rng = np.random.default_rng(0)
    splits: dict[str, list[Scene]] = {"train": [], "test": []}
    boxes = np.array([[8, 12, 24, 52], [54, 12, 70, 52]], dtype=np.float32)
    (folder / "images").mkdir(parents=True)
    for number in range(8):
        path = folder / "images" / f"{number}.png"
        Image.fromarray(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)).save(path)
        ids = np.array([number % 4, (number + 1) % 4])
        scene = Scene(path.name, path, (96, 64), boxes, ids, camera=number % 2)
        splits["train" if number < 4 else "test"].append(scene)
    protocols = {"cross-camera": cross_camera_protocol(splits["test"])}
    scenes.write(Dataset("drawn", folder, splits, protocols), folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data``, ``recipes/oim.toml`` and the ablation ``own.toml``."""
    folder = tmp_path_factory.mktemp("bench")
    draw(folder / "data")
    (folder / "recipes").mkdir()
    values = tomllib.loads(SHIPPED.read_text(encoding="utf-8")) | SMALL
    (folder / "recipes" / "oim.toml").write_text(make_recipe(values).to_toml())
    (folder / "own.toml").write_text(ABLATION)
    return folder


def options(place: Path) -> list[object]:
    return [
        *("--recipes", place / "recipes", "--data", place / "data", "--runs", place / "runs"),
        *("--seeds", 1),
    ]


def test_what_is_missing_is_run_once_and_shown(bench: Bench, place: Path) -> None:
    nothing = bench("ablation", place / "own.toml", *options(place), "--show")
    assert nothing.returncode == 0, nothing.stderr
    assert nothing.stdout.count("not run") == 4  # three rows and a claim
    assert not (place / "runs").exists() or not list((place / "runs").glob("oim-*"))

    out = place / "report" / "own.md"
    ran = bench("ablation", place / "own.toml", *options(place), "--jobs", 2, "--out", out)
    assert ran.returncode == 1
    assert "1 runs failed" in ran.stderr
    assert "nowhere" in ran.stderr.replace("\n", "")
    assert "the loss helps" in ran.stdout
    assert "1 of 5 seeds" in ran.stdout
    assert "75.5" in ran.stdout
    text = out.read_text(encoding="utf-8")
    assert text.startswith("## own: the weight of OIM\n\nPaper: Someone 2020, table 1.\n")
    assert "![the weight of OIM](images/own.png)" in text
    assert (out.parent / "images" / "own.png").is_file()
    assert (place / "runs" / "figures" / "own.png").is_file()
    finished = sorted((place / "runs").glob("oim-*/metrics.json"))
    assert len(finished) == 2

    times = [path.stat().st_mtime_ns for path in finished]
    shown = bench("ablation", place / "own.toml", *options(place), "--show", "--json")
    assert shown.returncode == 0
    known = json.loads(shown.stdout)
    assert known["variants"]["with"]["seeds"] == 1
    assert known["variants"]["with"]["paper"] == {"mean_ap@truth": 75.5}
    assert known["variants"]["broken"]["failures"] != []
    assert known["claims"][0]["here"] == "1 of 5 seeds"
    assert [path.stat().st_mtime_ns for path in finished] == times


def test_all_systems_are_one_table_and_the_document_has_every_ablation(
    bench: Bench, place: Path
) -> None:
    out = place / "docs" / "results.md"
    ran = bench("systems", *options(place), "--out", out)
    assert ran.returncode == 0, ran.stderr
    assert "oim" in ran.stdout
    text = out.read_text(encoding="utf-8")
    assert text.startswith("# Results\n")
    assert [line for line in text.splitlines() if line.startswith("| oim |")] != []
    for name in ablation_names():
        assert f"\n## {name}: " in text
    assert text.count("Not run") >= 20


def test_the_list_names_every_ablation(bench: Bench) -> None:
    listed = json.loads(bench("list", "--json").stdout)
    assert [row["name"] for row in listed] == ablation_names()
    assert all(row["paper"] for row in listed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ablation", "dcinet-table-44"), "did you mean 'dcinet-table-4'"),
        (("systems", "--set", "unheard"), "synthetic-standard"),
    ],
)
def test_a_wrong_name_is_one_line(
    bench: Bench, arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    ran = bench(*arguments, "--runs", tmp_path)
    assert ran.returncode == 1
    assert message in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
