"""`personsearch store`, through the entry point of the command line."""

import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from personsearch.store import FileStamp, FoundPeople, ModelIdentity, open_store

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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


def test_info(run: Run, store: Path) -> None:
    status, out, _ = run("store", "info")
    assert status == 0
    for expected in ("model omz", "2 people", "camera gate: 2", "kept forever", "bad.jpg: is brok"):
        assert expected in out
    found = json.loads(run("store", "info", "--json")[1])
    assert found["counts"]["people"] == 2
    assert found["cameras"] == {"gate": 2}
    assert (found["first"], found["last"], found["retention_days"]) == (1e9, 1e9, None)
    assert found["bytes"] >= (store / "people.sqlite").stat().st_size
    assert found["unreadable"] == [{"source": "/photos", "name": "bad.jpg", "reason": "is broken"}]


def test_check(run: Run, store: Path) -> None:
    assert run("store", "check")[:2] == (0, f"{store}: no problems\n")
    with open_store(store, write=True) as opened:
        opened.execute("UPDATE thumbnails SET jpeg = x'00' WHERE person = 2")
    status, out, _ = run("store", "check")
    assert status == 1
    assert "person 2: thumbnail cannot be read" in out
    status, out, _ = run("store", "check", "--json")
    assert status == 1
    assert len(json.loads(out)["problems"]) == 1


def test_keep_and_expire(run: Run, store: Path) -> None:
    assert "keeps forever; set a time" in run("store", "expire")[1]
    assert "1 people are older" in run("store", "keep", "30")[1]
    assert json.loads(run("store", "info", "--json")[1])["outdated"] == 1
    assert run("store", "expire")[:2] == (0, "1 people older than 30 days erased\n")
    assert json.loads(run("store", "expire", "--json")[1])["erased"] == 0
    assert "kept forever" in run("store", "keep", "forever")[1]
    for wrong in ("0", "nan", "inf", "soon"):
        status, _, err = run("store", "keep", wrong)
        assert status == 2
        assert "expected days such as 30" in " ".join(err.replace("│", " ").split())
    with open_store(store) as opened:
        assert opened.embeddings()[0].tolist() == [2]
        assert (opened.times()[0] or time.time()) > 1e9


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_export_import_merge(run: Run, store: Path, format: str) -> None:
    status, out, _ = run("store", "export", "out", "--format", format)
    assert (status, out) == (0, "out: 2 people in 3 files\n")
    assert run("store", "export", "out")[0] == 1
    status, out, _ = run("store", "import", "out", "--store", "again")
    assert status == 0
    assert "2 people in 3 files are new; 0 files were there already" in out
    report = json.loads(run("store", "import", "out", "--store", "again", "--json")[1])
    assert (report["files"], report["skipped"]) == (0, 3)
    assert run("erase", "--source", "/photos", "--picture", "old.jpg", "--yes")[0] == 0
    assert "1 files were erased there" in run("store", "merge", str(store), "--store", "again")[1]
    status, _, err = run("store", "merge", "nowhere")
    assert (status, err.count("error: ")) == (1, 1)
    assert "there is no store here" in err
    (Path("out") / f"people.{format}").write_bytes(b"")
    status, _, err = run("store", "import", "out", "--store", "third")
    assert (status, err.count("error: ")) == (1, 1)
    assert "is damaged" in err
    assert not Path("third").exists()


def test_compact_and_erase_by_camera(run: Run, store: Path) -> None:
    status, out, _ = run("store", "compact")
    assert status == 0
    assert "MB before" in out
    assert run("erase", "--camera", "yard", "--yes")[:2] == (0, "0 people erased\n")
    assert run("erase", "--camera", "gate", "--yes")[:2] == (0, "2 people erased\n")
    assert run("store", "info", "--store", "gone")[0] == 1
