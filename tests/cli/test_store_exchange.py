"""`personsearch store export`, `import` and `merge`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_export_import_merge(cli: Run, small_store: Path, format: str) -> None:
    status, out, _ = cli("store", "export", "out", "--format", format)
    assert (status, out) == (0, "out: 2 people in 3 files\n")
    assert cli("store", "export", "out")[0] == 1
    status, out, _ = cli("store", "import", "out", "--store", "again")
    assert status == 0
    assert "2 people in 3 files are new; 0 files were there already" in out
    report = json.loads(cli("store", "import", "out", "--store", "again", "--json")[1])
    assert (report["files"], report["skipped"]) == (0, 3)
    assert cli("erase", "--source", "/photos", "--picture", "old.jpg", "--yes")[0] == 0
    assert (
        "1 files were erased there"
        in cli("store", "merge", str(small_store), "--store", "again")[1]
    )
    status, _, err = cli("store", "merge", "nowhere")
    assert (status, err.count("error: ")) == (1, 1)
    assert "there is no store here" in err
    (Path("out") / f"people.{format}").write_bytes(b"")
    status, _, err = cli("store", "import", "out", "--store", "third")
    assert (status, err.count("error: ")) == (1, 1)
    assert "is damaged" in err
    assert not Path("third").exists()
