"""`personsearch store export`, `import` and `merge`."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from personsearch.store.audit import LOG, AuditLog

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_export_import_merge(
    cli: Run, small_store: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, _ = cli("store", "export", "out", "--format", format)
    assert (status, out) == (0, "out: 2 people in 3 files\n")
    assert cli("store", "export", "out")[0] == 1
    status, out, _ = cli("store", "import", "out", "--store", "again")
    assert status == 0
    assert "2 people in 3 files are new; 0 files were there already" in out
    report = json.loads(cli("store", "import", "out", "--store", "again", "--json")[1])
    assert (report["files"], report["skipped"]) == (0, 3)
    assert cli("erase", "--source", "/photos", "--picture", "old.jpg", "--yes")[0] == 0
    merge = ("store", "merge", str(small_store), "--store", "again")
    assert "1 files are erased or newer there and stay as they are here" in cli(*merge)[1]
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    status, _, err = cli(*merge, "--apply-erasures")
    assert status == 1
    assert "1 people in 1 files are erased here:\n  /photos/old.jpg: 1 (erased there)" in err
    status, out, _ = cli(*merge, "--apply-erasures", "--yes")
    assert (status, "1 files were erased there" in out, "1 people were erased" in out) == (0, 1, 1)
    status, _, err = cli("store", "merge", "nowhere")
    assert (status, err.count("error: ")) == (1, 1)
    assert "there is no store here" in err
    (Path("out") / f"people.{format}").write_bytes(b"")
    status, _, err = cli("store", "import", "out", "--store", "third")
    assert (status, err.count("error: ")) == (1, 1)
    assert "is damaged" in err
    assert not Path("third").exists()


def test_an_export_is_logged_before_it_is_written(cli: Run, small_store: Path) -> None:
    assert cli("store", "export", "out")[0] == 0
    *_, entry = AuditLog(small_store).entries()
    assert (entry.action, entry.details["people"]) == ("export", 2)
    (small_store / LOG).write_bytes(b"")
    status, _, err = cli("store", "export", "more")
    assert (status, "its end was changed" in err) == (1, True)
    assert not Path("more").exists()
