"""The command line in this process: quick, and with the status and messages of the real one."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from labelled_blocks import make_footage
from PIL import Image
from tiny_bench import Forked

from personsearch.bench import execute
from personsearch.cli.main import main
from personsearch.store import FileStamp, FoundPeople, ModelIdentity, open_store


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command; return its status, output and errors."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["personsearch", *arguments])
        status = 0
        try:
            main()
        except SystemExit as error:
            status = int(error.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def small_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two people: in a photo of 2001, and in one whose time is not known."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERSONSEARCH_STORE", str(tmp_path / "store"))
    written = io.BytesIO()
    Image.new("RGB", (16, 40), "red").save(written, "JPEG")
    model = ModelIdentity("omz", "a" * 64, 4)
    with open_store(tmp_path / "store", model=model, write=True) as opened:
        for name, seconds in (("old.jpg", 1e9), ("new.jpg", None)):
            file = opened.begin_file("/photos", name, FileStamp(1, 1), "gate")
            box = np.array([[0, 0, 10, 20]], np.float32)
            unit = np.eye(1, 4, dtype=np.float32)
            score = np.ones(1, np.float32)
            thumbnails = [written.getvalue()]
            found = FoundPeople((64, 48), box, score, unit, thumbnails, time=seconds)
            opened.add(file, [found], finished=True)
        opened.finish_file(opened.begin_file("/photos", "bad.jpg", FileStamp(1, 1)), "is broken")
    return tmp_path / "store"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a store and labelled pictures; see `labelled_blocks`."""
    return make_footage(tmp_path, monkeypatch)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of the bench are forked, which spares them seconds of imports."""
    pretended = SimpleNamespace(**vars(subprocess) | {"Popen": Forked})
    monkeypatch.setattr(execute, "subprocess", pretended)
