"""The command line is quick to answer, and turns every error into one line and a status."""

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from shell import personsearch as in_this_process

HEAVY = ("torch", "torchvision", "numpy", "cv2", "scipy", "matplotlib", "openvino", "faiss", "av")


def personsearch(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "personsearch", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from personsearch.cli.main import main\n"
        "sys.argv = ['personsearch', '--help']\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        f"    print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0
    assert ran.stderr == "[]\n"
    commands = (
        *("data", "train", "evaluate", "index", "search", "timeline", "calibrate", "erase"),
        *("migrate", "store", "serve", "keys", "audit", "demo", "models", "bench", "export"),
    )
    for name in (*commands, "--debug", "--version"):
        assert re.search(rf"^\W*{name}\b", ran.stdout, re.MULTILINE), name


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    ran = personsearch("--version")
    assert (ran.returncode, ran.stdout) == (0, f"personsearch {version('personsearch')}\n")


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["--dance"], ["train"], ["train", "x.toml", "--seed", "one"]]
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    ran = personsearch(*arguments)
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    assert "Usage" in ran.stdout + ran.stderr


def test_an_error_is_one_line_and_its_traceback_is_shown_on_request(tmp_path: Path) -> None:
    recipe = str(tmp_path / "gone.toml")
    ran = personsearch("train", recipe)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith(f"error: {recipe}: no such file")
    assert ran.stderr.count("\n") == 1
    for arguments in (["--debug", "train", recipe], ["train", recipe, "--debug"]):
        ran = personsearch(*arguments)
        assert ran.returncode == 1
        assert "Traceback" in ran.stderr
        assert "RecipeError" in ran.stderr


def test_commands_of_one_process_leave_no_log_behind() -> None:
    in_this_process("recipes", "list")
    networks = logging.getLogger("personsearch.external")
    assert (networks.handlers, networks.level) == ([], logging.NOTSET)


def test_an_interrupt_exits_with_130() -> None:
    code = (
        "import sys\n"
        "from personsearch.cli import main as module\n"
        "def interrupted(*arguments): raise KeyboardInterrupt\n"
        "module.app = interrupted\n"
        "module.main()\n"
    )
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (130, "interrupted\n")
