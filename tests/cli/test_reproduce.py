"""`personsearch reproduce` from the shell: a paper of two tables, runs of a second each."""

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from shell import personsearch
from tiny_bench import draw, write_recipe

from personsearch.bench import ablation, binding, fingerprint, reproduce
from personsearch.datasets import cuhk_sysu_writer, prw_writer, scenes

FIRST = """
title = "the weight of OIM"
paper = "Someone 2020, table 1 (CUHK-SYSU)"
dataset = "cuhk-sysu"
protocol = "gallery-3"
recipe = "oim"

[[column]]
measure = "mean_ap"
title = "mAP"

[[variant]]
name = "with"
label = "with <the> loss"
paper = { mean_ap = 75.5 }

[[variant]]
name = "without"
set = { oim_weight = 0.0 }

[[variant]]
name = "later"
left_out = "needs a detector that is not here"
paper = { mean_ap = 60.1 }

[[claim]]
says = "the loss helps"
better = "with"
worse = "without"

[[figure]]
kind = "training"
title = "curves"
"""
SECOND = """
title = "on another data set"
paper = "Someone 2020, table 2 (PRW)"
dataset = "prw"
recipe = "oim"

[data.more]
dataset = "mot"

[[column]]
measure = "mean_ap"
title = "mAP"

[[variant]]
name = "only"

[[variant]]
name = "elsewhere"
test = "more"
"""
BINDING = """
title = "Han et al. 2021, On People"

[table.some-table-1]
variant.without = { set = { oim_weight = 0.5 } }
"""

Reproduce = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data``, ``cuhk`` and ``prw``, ``recipes``, ``ablations``, ``bindings``."""
    folder = tmp_path_factory.mktemp("paper")
    draw(folder / "data")
    dataset = scenes.read(folder / "data")
    cuhk_sysu_writer.write(dataset, folder / "cuhk")
    prw_writer.write(dataset, folder / "prw")
    write_recipe(folder / "recipes")
    for name in ("ablations", "bindings"):
        (folder / name).mkdir()
    (folder / "ablations" / "some-table-1.toml").write_text(FIRST)
    (folder / "ablations" / "some-table-2.toml").write_text(SECOND)
    (folder / "bindings" / "some.toml").write_text(BINDING)
    return folder


@pytest.fixture
def run(place: Path, forked: None, monkeypatch: pytest.MonkeyPatch) -> Reproduce:
    """The command in this process, which has torch; its runs are forked."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(ablation, "FOLDER", place / "ablations")
    monkeypatch.setattr(binding, "FOLDER", place / "bindings")
    common = ("--recipes", place / "recipes", "--device", "cpu")
    return lambda *words: personsearch("reproduce", *words, *common)


def test_a_paper_is_run_whole_on_its_data(
    run: Reproduce, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = place / "out"
    command = partial(run, "some", "--data", place / "cuhk", "--out", out)
    asked = command("--dry-run")
    assert asked.returncode == 0, asked.stderr
    assert "2 runs to make, about 0.0 CPU hours" in asked.stderr
    assert "left out: some-table-2 needs the data set prw, but cuhk holds one" in asked.stderr
    assert not (out / "page.html").exists()

    ran = command("--yes")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"page: {out / 'page.html'}\n"
    page = (out / "page.html").read_text(encoding="utf-8")
    assert "<h1>Han et al. 2021, On People</h1>" in page
    assert "What the paper compares with" in page
    assert '<th scope="row">Trident (AGWF)</th><td>detected</td><td>multi-view</td>' in page
    assert "with &lt;the&gt; loss" in page
    assert "75.5" in page
    assert "<li>some-table-1, later: needs a detector that is not here</li>" in page
    assert "some-table-2: not run: some-table-2 needs the data set prw" in page
    assert "cuhk: " in page  # with the fingerprint
    assert fingerprint.commit() in page
    assert page.count("data:image/png;base64,") == 1
    assert "1 of 5 seeds" in page
    text = (out / "page.md").read_text(encoding="utf-8")
    assert "| with <the> loss |" in text
    assert "## Han 2021, table 3, %" in text
    assert "- some-table-1, later: needs a detector that is not here" in text

    # The protocol of the paper, on pictures of the folder, by its own recipe.
    metrics = json.loads(next((out / "runs").glob("oim-*/metrics.json")).read_text())
    times = {file: file.stat().st_mtime_ns for file in (out / "runs").glob("oim-*/metrics.json")}
    assert metrics["machine"]["commit"] == fingerprint.commit()
    again = command()  # nothing is left to make, so it does not ask
    assert again.returncode == 0, again.stderr
    assert times == {file: file.stat().st_mtime_ns for file in times}

    # Another version of the code made them.
    monkeypatch.setattr(fingerprint, "of_code", lambda system: "edited")
    shown = command("--dry-run")
    assert "2 finished runs in" in shown.stderr
    assert "are of another version of the code" in shown.stderr


def test_two_data_sets_are_told_apart_by_their_format(run: Reproduce, place: Path) -> None:
    both = ("--data", place / "prw", "--data", place / "cuhk")
    asked = run("some", *both, "--out", place / "both", "--dry-run")
    assert asked.returncode == 0, asked.stderr
    assert "3 runs to make" in asked.stderr
    assert "left out" not in asked.stderr
    # A row that needs a third is missing alone.
    ran = run("some", *both, "--out", place / "both", "--yes")
    assert ran.returncode == 0, ran.stderr
    text = (place / "both" / "page.md").read_text(encoding="utf-8")
    needed = "some-table-2 needs the data set mot; give its folder: --data more=FOLDER"
    assert f"- some-table-2, elsewhere: {needed}" in text
    assert "- some-table-2, only" not in text


def test_a_paper_at_the_synthetic_scale_says_what_stands_for_its_values(
    run: Reproduce, place: Path
) -> None:
    out = place / "synthetic"
    data = ("--scale", "synthetic", "--data", place / "data", "--seeds", 1)
    ran = run("some", *data, "--out", out, "--yes")
    assert ran.returncode == 0, ran.stderr
    page = (out / "page.html").read_text(encoding="utf-8")
    assert "<li>without: oim_weight = 0.5 (paper: 0.0)</li>" in page
    assert "some-table-2, only" not in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("newton", "--data", "cuhk"), "no paper 'newton'; there are some"),
        (("some",), "some-table-1 needs the data set cuhk-sysu; give its folder"),
        (
            ("some", "--data", "data"),
            "needs the data set cuhk-sysu, but data holds one of format scenes",
        ),
        (("some", "--data", "nothing"), "no such data set"),
    ],
)
def test_wrong_input_is_one_line(
    run: Reproduce,
    place: Path,
    words: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    ran = run(*words, "--out", "wrong")
    assert ran.returncode == 1
    assert message in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_too_small_a_disk_is_said_before_anything_is_run(
    run: Reproduce, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce, "SPARE", 1e18)
    ran = run("some", "--data", place / "cuhk", "--out", place / "asked", "--yes")
    assert ran.returncode == 1
    assert "GB are free; give --out on a larger disk" in ran.stderr
    assert not list((place / "asked").rglob("last"))


def test_nothing_is_begun_without_consent(run: Reproduce, place: Path) -> None:
    ran = run("some", "--data", place / "cuhk", "--out", place / "asked")
    assert ran.returncode == 1
    assert "Begin?" in ran.stderr
    assert not list((place / "asked").rglob("last"))
