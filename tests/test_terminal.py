"""Text from files does not control the terminal that it is printed on."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.progress import Progress, TextColumn
from rich.table import Table

from personsearch import terminal
from personsearch.cli.options import print_table
from personsearch.store import FileStamp, ModelIdentity, open_store
from personsearch.terminal import console, echo, printable

HOSTILE = "gate\x1b[2J\x1b]0;owned\x07\u202egpj.exe\x9b31m\r\x7f"
SAFE = r"gate\x1b[2J\x1b]0;owned\x07\u202egpj.exe\x9b31m\x0d\x7f"


def test_control_and_bidi_characters_are_escaped() -> None:
    assert printable(HOSTILE) == SAFE
    assert printable("Tür 🚪, 門, שער, a\u0301") == "Tür 🚪, 門, שער, a\u0301"
    assert printable("a\nb\u2028\u2066\ud800") == r"a\x0ab\u2028\u2066\ud800"
    assert printable("a\nb\tc", lines=True) == "a\nb\\x09c"


def test_a_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    echo(f"{HOSTILE}\nerror: forged")
    echo(HOSTILE, err=True)
    assert capsys.readouterr() == (f"{SAFE}\\x0aerror: forged\n", f"{SAFE}\n")


def test_tables_and_bars_show_escapes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    print_table(("camera", "[red]name"), [(HOSTILE, "[bold]x[/bold]\nrow")])
    out = capsys.readouterr().out
    assert SAFE in out
    assert r"[bold]x[/bold]\x0arow" in out
    assert not any(ord(letter) < 32 and letter != "\n" for letter in out)
    screen = console()
    screen.file = io.StringIO()
    table = Table("name")
    table.add_row(HOSTILE)
    screen.print(table, HOSTILE, markup=False)
    with Progress(TextColumn("{task.fields[detail]}"), console=screen) as bars:
        bars.add_task("", detail=HOSTILE)
    shown = screen.file.getvalue()
    assert shown.count(r"gate\x1b[2J") == 3
    assert not set(shown) & set("\x1b\x07\u202e\x9b\r")


def test_colors_of_our_own_stay() -> None:
    screen = console()
    screen.file, screen._force_terminal, screen._color_system = io.StringIO(), True, None
    shown = "".join(segment.text for segment in screen.render("[red]plain[/red]"))
    assert shown.rstrip() == "plain"


def test_a_store_of_hostile_names_is_shown_safely(tmp_path: Path) -> None:
    model = ModelIdentity(f"m{HOSTILE}", "a" * 64, 8)
    with open_store(tmp_path / "store", model=model, write=True) as store:
        file = store.begin_file("/photos", f"{HOSTILE}.jpg", FileStamp(1, 1), HOSTILE)
        store.finish_file(file, f"is damaged {HOSTILE}")
    command = [sys.executable, "-m", "personsearch", "store", "info", "--store"]
    for flags in ([], ["--json"]):
        told = subprocess.run(
            [*command, str(tmp_path / "store"), *flags], capture_output=True, check=True
        ).stdout.decode()
        assert not set(told) & set("\x1b\x07\u202e\x9b\r")
    assert json.loads(told)["unreadable"][0]["name"] == f"{HOSTILE}.jpg"
    failed = subprocess.run(
        [*command, str(tmp_path / f"missing{HOSTILE}")], capture_output=True, check=False
    )
    assert failed.returncode == 1
    assert SAFE in failed.stderr.decode()


def test_the_log_of_the_server_is_escaped() -> None:
    import logging

    from personsearch.web.logs import Lines

    record = logging.LogRecord("x", logging.INFO, "x", 1, "%s\n%s", (HOSTILE, "next"), None)
    assert Lines("%(message)s").format(record) == f"{SAFE}\nnext"


def test_the_commands_print_through_here_alone() -> None:
    """Nothing prints text from files by another way."""
    folder = Path(terminal.__file__).parent
    others = {"typer.echo(", "Console(", "click.echo(", "from rich import print"}
    allowed = {"recipes.py": 1, "options.py": 1}  # a recipe's text, and JSON
    for path in sorted((folder / "cli").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert sum(text.count(other) for other in others) == allowed.get(path.name, 0), path
