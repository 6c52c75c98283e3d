"""`personsearch bench` from the shell, on runs of a second each."""

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from shell import personsearch
from tiny_bench import draw, write_recipe

from personsearch.bench.ablation import ablation_names, read_ablation

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


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data``, ``recipes/oim.toml`` and the ablation ``own.toml``."""
    folder = tmp_path_factory.mktemp("bench")
    draw(folder / "data")
    write_recipe(folder / "recipes")
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


@pytest.mark.usefixtures("forked")
def test_the_cost_of_what_is_missing_is_said_first(bench: Bench, place: Path) -> None:
    folder = place / "cost"
    said = bench("ablation", place / "own.toml", *options(place), "--runs", folder, "--dry-run")
    assert said.returncode == 0, said.stderr
    assert "3 runs to make, about 0.0 CPU hours at the rate measured here" in said.stderr
    assert said.stdout == ""
    (rate,) = folder.glob("oim-*/metrics.json")
    assert "seconds@scenes" in rate.read_text()


@pytest.mark.usefixtures("forked")
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
    listed = text.split("## Not run\n")[1]
    for name in ablation_names():
        drawn = not read_ablation(name).shown  # from equations, without a run
        assert (f"\n## {name}: " in text) == drawn
        assert (f"\n- {name}: " in listed) != drawn


def test_the_list_names_every_ablation(bench: Bench) -> None:
    listed = json.loads(bench("list", "--json").stdout)
    assert [row["name"] for row in listed] == ablation_names()
    assert all(row["paper"] for row in listed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ablation", "dcinet-table-44"), "did you mean 'dcinet-table-4'"),
        (("systems", "--set", "unheard"), "synthetic-standard"),
        (("ablation", "dcinet-table-4", "--device", "cuda:99"), "device 'cuda:99' was asked for"),
        (("systems", "--device", "gpu"), "device is 'gpu', expected 'cpu', 'cuda' or 'cuda:N'"),
        (("ablation", "dcinet-table-4", "--out", __file__ + "/x.md"), "choose another --out"),
        (("ablation", "dcinet-table-4", "--data", "nowhere"), "nowhere: no such data set"),
    ],
)
def test_a_wrong_name_is_one_line(
    bench: Bench, arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    ran = bench(*arguments, "--runs", tmp_path)
    assert ran.returncode == 1
    assert message in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
