"""`personsearch erase`: what is erased, what is asked, and what is refused."""

from pathlib import Path

import pytest
from blocks import GREEN, RED, paint
from colored_archive import index, use_blocks
from typer.testing import CliRunner, Result

from personsearch.cli.main import app
from personsearch.store import open_store
from personsearch.store.audit import AuditLog


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of two folders, each with a picture of two people, in the current folder."""
    use_blocks(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERSONSEARCH_STORE", str(tmp_path / "store"))
    for folder in ("gate", "hall"):
        paint(tmp_path / folder / "20261121_130000.png", RED, GREEN)
    index(tmp_path / "store", tmp_path / "gate", tmp_path / "hall")
    return tmp_path


def erase(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, ["erase", *arguments], input=answer, env={"COLUMNS": "200"})


def people(place: Path) -> int:
    with open_store(place / "store") as store:
        return store.count()


def test_erasing_asks_and_logs_the_wish_and_the_result(place: Path) -> None:
    assert erase("--person", "1", answer="n\n").exit_code == 1
    assert people(place) == 4
    assert not list(AuditLog(place / "store").entries())
    done = erase("--person", "1", answer="y\n")
    assert done.exit_code == 0, done.output
    assert "1 people erased" in done.stdout
    assert people(place) == 3
    lines = [(one.action, one.details) for one in AuditLog(place / "store").entries()]
    assert lines == [("erase", {"people": [1]}), ("erased", {"people": [1], "views": 1})]


def test_a_picture_or_a_source_as_it_was_typed_when_it_was_indexed(place: Path) -> None:
    done = erase("--source", "gate", "--picture", "20261121_130000.png", "--yes")
    assert done.stdout.startswith("2 people erased\n"), done.output
    done = erase("--source", str(place / "hall"), "--yes")
    assert done.stdout == "2 people erased\n", done.output
    wishes = [one.details for one in AuditLog(place / "store").entries() if one.action == "erase"]
    assert wishes == [
        {"source": str(place / "gate"), "pictures": ["20261121_130000.png"]},
        {"source": str(place / "hall")},
    ]


def test_copies_that_were_indexed_before_are_named(place: Path) -> None:
    done = erase("--source", "gate", "--yes")
    copy = place / "hall" / "20261121_130000.png"
    assert done.stdout.splitlines() == [
        "2 people erased",
        "1 copies of erased files are still in it, and show people:",
        f"  {copy}",
    ]
    assert erase("--source", "hall", "--yes").stdout == "2 people erased\n"


def test_a_camera(place: Path) -> None:
    assert erase("--camera", "hall", "--yes").stdout == "2 people erased\n"
    assert people(place) == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "nobody is named"),
        (["--picture", "a.jpg"], "nobody is named"),
        (["--source", "x", "--person", "1"], "erase in two steps"),
        (["--source", ""], "is empty"),
        (["--source", " "], "is empty"),
        (["--source", "gate", "--picture", ""], "is empty"),
        (["--camera", ""], "is empty"),
        (["--store", "", "--person", "1"], "is empty"),
    ],
)
def test_what_is_refused_erases_nobody(
    place: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    # In the folder of a source, where an empty text once meant this folder.
    monkeypatch.chdir(place / "gate")
    refused = erase(*arguments, "--yes")
    assert refused.exit_code == 2
    assert expected in " ".join(refused.output.replace("│", " ").split())
    assert people(place) == 4
    assert not list(AuditLog(place / "store").entries())


def test_errors_of_the_store_are_passed_on(place: Path) -> None:
    for arguments, expected in (
        (["--source", "nowhere"], "has no source"),
        (["--source", "gate", "--picture", "none.png"], "has no file 'none.png'"),
        (["--person", "1", "--store", "none"], "there is no store here"),
        (["--person", "99999"], "has no person 99999"),
        (["--person", "1", "--person", "99999"], "has no person 99999"),
    ):
        failed = erase(*arguments, "--yes")
        assert failed.exit_code == 1
        assert expected in str(failed.exception)
    assert people(place) == 4
