"""What is missing is named, and the disk is looked at; tests/cli/test_reproduce.py runs it all."""

import math
from pathlib import Path

import pytest

from personsearch.bench import reproduce
from personsearch.bench.ablation import Ablation, Column, Variant
from personsearch.bench.binding import Binding
from personsearch.bench.estimate import Estimate
from personsearch.bench.plan import Planner
from personsearch.bench.runs import Result
from personsearch.bench.tables import Section
from personsearch.errors import DataError

ABLATION = Ablation(
    name="some-table-1",
    title="losses",
    recipe="oim",
    column=(Column(measure="mean_ap", title="mAP"),),
    variant=(
        Variant(name="a"),
        Variant(name="b", label="B & C"),
        Variant(name="c", left_out="no data"),
    ),
)
DONE = Result({"mean_ap": 0.5}, machine={"commit": "personsearch 1", "device": "cpu, x86_64"})
SECTION = Section(ABLATION, {"a": [DONE, DONE], "b": [DONE, Result({})]}, [], 0, math.nan)


def test_every_row_that_is_not_complete_is_named() -> None:
    assert reproduce.missing([SECTION], 2) == [
        "some-table-1, B & C: 1 of 2 seeds",
        "some-table-1, c: no data",
    ]
    broken = Section(ABLATION, {}, [], 0, math.nan, "no such recipe")
    assert reproduce.missing([broken], 2) == ["some-table-1: not run: no such recipe"]


def test_too_small_a_disk_is_an_error(tmp_path: Path) -> None:
    reproduce.check_disk(Estimate(1, 1.0, 0.0, {}), tmp_path / "not" / "there")
    with pytest.raises(DataError, match=r"need 1000000000\.0 GB .* give --out on a larger disk"):
        reproduce.check_disk(Estimate(1, 1.0, 1e18, {}), tmp_path)


@pytest.mark.parametrize("name", ["page.html", "page.md"])
def test_no_page_but_its_own_is_replaced(tmp_path: Path, name: str) -> None:
    paper = Binding(name="some", title="Someone & Co 2020")
    reproduce.check_place(paper, tmp_path / "new" / "folder")
    reproduce.write_page(Planner(None, tmp_path), paper, [SECTION], 1, tmp_path)
    reproduce.check_place(paper, tmp_path)
    (tmp_path / name).write_bytes(b"\xff my notes")
    with pytest.raises(DataError, match="is not a page of 'some' and would be replaced"):
        reproduce.check_place(paper, tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=r"cannot be written .* give --out another folder"):
        reproduce.check_place(paper, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="Not a directory"):
        reproduce.check_place(paper, tmp_path / "file" / "out")


def test_the_page_says_how_it_was_made(tmp_path: Path) -> None:
    planner, paper = Planner(None, tmp_path / "runs"), Binding(name="some", title="Someone 2020")
    page = reproduce.write_page(planner, paper, [SECTION], 2, tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert "<h1>Someone 2020</h1>" in text
    assert "B &amp; C" in text
    assert "<dd>personsearch 1</dd>" in text
    assert "<li>some-table-1, B &amp; C: 1 of 2 seeds</li>" in text
    markdown = page.with_suffix(".md").read_text(encoding="utf-8")
    assert "- finished runs shown: 3" in markdown
    assert "| a | 50.0 ± 0.0 |" in markdown


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    paper = Binding(name="some", title="Someone 2020")
    with pytest.raises(DataError, match="cannot be written"):
        reproduce.write_page(Planner(None, tmp_path), paper, [SECTION], 1, tmp_path / "out")
