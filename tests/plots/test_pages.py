"""Pages of one file: what a template prints is escaped, and its style is the only one allowed."""

import base64
import hashlib
from importlib.resources import files
from pathlib import Path

import pytest

from personsearch.errors import DataError
from personsearch.plots.pages import render, write
from personsearch.plots.tables import TextTable


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with a page that shows a table and a filtered value."""
    folder = tmp_path / "of_a_page"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "page.css").write_text("p { color: red; }", encoding="utf-8")
    (folder / "page.html").write_text(
        '{% from "table.html" import table %}\n{{ style_digest }}|{{ style | safe }}|'
        "{{ 2 | twice }}|{{ table(shown) }}",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "of_a_page"


def test_a_page_has_its_style_its_filters_and_escaped_tables(package: str) -> None:
    shown = TextTable("a & b", ("what", "how"), [("<i>", "1")])
    text = render(package, {"twice": lambda number: str(2 * number)}, shown=shown)
    digest, style, filtered, table = text.split("|", maxsplit=3)
    assert digest == base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert (style, filtered) == ("p { color: red; }", "4")
    assert "<caption>a &amp; b</caption>" in table
    assert '<th scope="row">&lt;i&gt;</th><td>1</td>' in table


@pytest.mark.parametrize("package", ["personsearch.bench", "personsearch.demo"])
def test_shipped_pages_take_the_table_from_one_place(package: str) -> None:
    text = (files(package) / "page.html").read_text(encoding="utf-8")
    assert text.count('{% from "table.html" import table %}') == 1
    assert "macro table(" not in text


def test_a_page_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    write(tmp_path / "new" / "page.html", "text", parents=True)
    assert (tmp_path / "new" / "page.html").read_text(encoding="utf-8") == "text"
    (tmp_path / "file").touch()
    for parents in (False, True):
        with pytest.raises(DataError, match=r"page\.html: cannot be written"):
            write(tmp_path / "file" / "page.html", "text", parents=parents)
