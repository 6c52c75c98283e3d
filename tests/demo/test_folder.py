"""The demo's folder reuses what fits and refuses what it did not make."""

import json
from pathlib import Path

import pytest

from personsearch.demo.folder import DemoFolder
from personsearch.errors import DataError


def test_pictures_are_drawn_once_for_each_seed(tmp_path: Path) -> None:
    def ignore(done: int, total: int) -> None:
        pass

    first = DemoFolder(tmp_path / "demo").draw("tiny", 0, ignore)
    scenes = tmp_path / "demo" / "data" / "scenes.json"
    before = scenes.read_bytes()
    again = DemoFolder(tmp_path / "demo").draw("tiny", 0, ignore)
    assert (first.earlier, again.earlier) == (False, True)
    assert again.seconds == first.seconds
    (tmp_path / "demo" / "run").mkdir()
    assert not DemoFolder(tmp_path / "demo").draw("tiny", 1, ignore).earlier
    assert scenes.read_bytes() != before
    assert not (tmp_path / "demo" / "run").exists()  # it was trained on other pictures


@pytest.mark.parametrize("name", ["data", "run"])
def test_a_foreign_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="not made by the demo"):
        DemoFolder(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{", json.dumps({"data": {"of": 1}})])
def test_a_damaged_record_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "demo.json").write_text(text)
    with pytest.raises(DataError, match=r"demo\.json: is damaged"):
        DemoFolder(tmp_path)
