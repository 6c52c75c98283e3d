from pathlib import Path

from personsearch.bench.files import read_json, write_json


def test_what_is_written_is_read_back_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "values.json"
    write_json(path, {"figure": 0.5, "name": "ä"})
    write_json(path, {"figure": 0.25})
    assert read_json(path) == {"figure": 0.25}
    assert [file.name for file in path.parent.iterdir()] == ["values.json"]


def test_what_is_missing_or_damaged_is_none(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none.json") is None
    for number, text in enumerate(("{", "[1]", "")):
        path = tmp_path / f"{number}.json"
        path.write_text(text)
        assert read_json(path) is None
