"""`personsearch models`, with a server on this machine."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from unittest import mock

import pytest
from loopback import loopback
from shell import personsearch

from personsearch.zoo import zoo

REAL = Path(__file__).parents[3] / "shared" / "data" / "models"


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    with mock.patch.dict(os.environ, {"PERSONSEARCH_MODELS": str(folder), "COLUMNS": "200"}):
        return personsearch("models", *arguments)


def test_list_says_what_there_is_and_what_is_here(tmp_path: Path) -> None:
    result = _run(tmp_path, "list")
    assert result.returncode == 0, result.stderr
    assert "omz-small" in result.stdout
    assert "Apache-2.0" in result.stdout
    pairs = json.loads(_run(tmp_path, "list", "--json").stdout)
    assert [(p["name"], p["here"], p["default"]) for p in pairs] == [
        ("omz", "no", True),
        ("omz-small", "no", False),
    ]
    assert pairs[0]["bytes"] == 10_883_936
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data/models")
def test_pull_takes_what_the_mirror_has_and_says_what_it_has_not(tmp_path: Path) -> None:
    """The mirror has the real weights of the detector, and nothing else that is right."""
    files = {file.name: file.path for file in zoo().pair("omz-small").files}
    content = {
        files["person-detection-0202.xml"]: b"<net/>",
        files["person-detection-0202.bin"]: (REAL / "person-detection-0202.bin").read_bytes(),
    }
    with loopback(content) as server:
        wrong = _run(tmp_path, "pull", "omz-small", "--mirror", server.address)
        assert wrong.returncode == 1
        assert "has 6 bytes, expected 200,631" in wrong.stderr.replace("\n", " ")
        assert "Traceback" not in wrong.stderr
        assert list(tmp_path.iterdir()) == []
    checked = _run(tmp_path, "check", "omz-small")
    assert checked.returncode == 1
    assert checked.stdout.count("missing") == 4
    assert "models pull omz-small" in checked.stdout


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data/models")
def test_pull_from_a_folder_and_check(tmp_path: Path) -> None:
    stick, folder = tmp_path / "stick", tmp_path / "models"
    stick.mkdir()
    shutil.copy(REAL / "person-detection-0202.bin", stick)
    result = _run(folder, "pull", "omz-small", "--from", str(stick))
    assert result.returncode == 1
    assert "has no person-detection-0202.xml" in result.stderr
    assert not folder.exists()
    # Beside the rest, a file of the right bytes is recognised.
    folder.mkdir()
    shutil.copy(REAL / "person-detection-0202.bin", folder)
    problems = json.loads(_run(folder, "check", "omz-small", "--json").stdout)["omz-small"]
    assert len(problems) == 3
    assert json.loads(_run(folder, "list", "--json").stdout)[1]["here"] == "in part"


def test_wrong_usage(tmp_path: Path) -> None:
    both = _run(tmp_path, "pull", "--from", str(tmp_path), "--mirror", "http://127.0.0.1:9")
    assert both.returncode == 2
    assert "exclude each other" in both.stderr
    unknown = _run(tmp_path, "check", "omx")
    assert unknown.returncode == 1
    assert "expected omz, omz-small" in unknown.stderr
