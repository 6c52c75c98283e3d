"""`personsearch recipes`: the shipped recipes by name, and copies of them."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from personsearch.cli.recipes import app
from personsearch.errors import RecipeError
from personsearch.recipes import find, names


def test_lists_shows_and_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    assert run(app, ["list"]).stdout.split() == names()
    text = find("prw/seqnet").read_text(encoding="utf-8")
    assert run(app, ["show", "prw/seqnet"]).stdout == text
    assert run(app, ["copy", "prw/seqnet"]).exit_code == 0
    assert Path("seqnet.toml").read_text(encoding="utf-8") == text
    assert run(app, ["copy", "prw/oim", "--out", "deep/mine.toml"]).exit_code == 0
    assert Path("deep/mine.toml").is_file()


def test_a_copy_replaces_no_file(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("changed", encoding="utf-8")
    result = CliRunner().invoke(app, ["copy", "prw/seqnet", "--out", str(mine)])
    assert result.exit_code == 2
    assert mine.read_text(encoding="utf-8") == "changed"


def test_an_unknown_name_is_an_error() -> None:
    result = CliRunner().invoke(app, ["show", "prw/seqent"])
    assert isinstance(result.exception, RecipeError)
    assert "prw/seqnet" in str(result.exception)
