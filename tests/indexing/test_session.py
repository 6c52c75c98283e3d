"""One run of a user: options that exclude each other, and the same run for every store."""

import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from blocks import GREEN, RED, paint
from colored_archive import use_blocks
from footage import contents

from personsearch.errors import DataError
from personsearch.indexing import session
from personsearch.indexing.report import IndexReport
from personsearch.indexing.session import IndexRequest, index
from personsearch.media.sampling import Sampling
from personsearch.media.streams import parse_stream
from personsearch.store import open_store
from personsearch.store.retention import Retention

CAMERA = parse_stream("rtsp://cam/1")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"streams": [CAMERA], "watch": True}, "--watch and --prune are for folders"),
        ({"streams": [CAMERA], "prune": True}, "--watch and --prune are for folders"),
        ({"duration": 3.0}, "--for goes with live cameras or --watch"),
        ({"workers": 2}, "--workers goes with --ray"),
        ({"ray": "local", "device": "cuda:1"}, "with --ray expected auto, cpu or cuda"),
        ({"ray": "local", "watch": True}, "take photos and videos only"),
        ({"uri": "milvus-lite:a.db", "streams": [CAMERA]}, "take photos and videos only"),
        (
            {"uri": "milvus-lite:a.db", "sampling": Sampling(scenes=9.0)},
            "--every-frames and --scenes",
        ),
    ],
)
def test_options_that_exclude_each_other(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        IndexRequest(**{"uri": "store", **wrong})


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_blocks(monkeypatch)
    paint(tmp_path / "photos" / "a.png", RED, GREEN)
    paint(tmp_path / "photos" / "b.png", RED)
    (tmp_path / "photos" / "c.gif").write_bytes(b"GIF89a")
    return tmp_path / "photos"


@pytest.mark.parametrize("kind", ["store", "milvus"])
def test_the_same_run_for_every_store(tmp_path: Path, photos: Path, kind: str) -> None:
    uri = str(tmp_path / "store") if kind == "store" else f"milvus-lite:{tmp_path / 'p.db'}"
    result = index(IndexRequest(uri=uri, sources=[photos]))
    assert (result.report.people, result.counts["people"], result.expired) == (3, 3, 0)
    assert result.complete
    assert [one.path.name for one in result.report.unreadable] == ["c.gif"]
    assert [row[0] for row in contents(uri)] == ["a.png", "a.png", "b.png"]
    assert index(IndexRequest(uri=uri, sources=[photos])).report.skipped == 2
    assert index(IndexRequest(uri=uri)).report.skipped == 0


def test_what_is_too_old_is_erased_and_logged(tmp_path: Path, photos: Path) -> None:
    store = tmp_path / "store"
    index(IndexRequest(uri=str(store), sources=[photos]))
    with open_store(store, write=True) as opened:
        opened.set_retention(1.0)
    paint(photos / "20010203_040506.png", RED)
    result = index(IndexRequest(uri=str(store), sources=[photos]))
    assert (result.report.people, result.expired, result.counts["people"]) == (1, 1, 3)
    assert '"expired"' in (store / "audit.jsonl").read_text(encoding="utf-8")


def test_retention_runs_while_a_folder_is_watched(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    index(IndexRequest(uri=str(store), sources=[photos]))
    with open_store(store, write=True) as opened:
        opened.set_retention(1.0)
    monkeypatch.setattr(session, "Retention", partial(Retention, every=0.05))
    monkeypatch.setattr("personsearch.indexing.watching.INTERVAL", 0.05)
    left: list[int] = []

    def see(done: int, total: int, report: IndexReport) -> None:
        until = time.monotonic() + 60
        with open_store(store) as opened:
            while not left and opened.counts()["people"] < 4:
                return  # before it is written
            while opened.outdated() and time.monotonic() < until:
                time.sleep(0.01)
            left.append(opened.outdated())

    paint(photos / "20010203_040506.png", RED)
    result = index(
        IndexRequest(uri=str(store), sources=[photos], watch=True, duration=8.0), progress=see
    )
    assert left
    assert not any(left)
    assert (result.expired, result.counts["people"]) == (1, 3)


def test_a_missing_source_is_reported_before_a_network_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: no such file or folder"):
        index(IndexRequest(uri=str(tmp_path / "store"), sources=[tmp_path / "gone"], model="none"))
    assert not (tmp_path / "store").exists()


def test_a_thread_that_may_not_handle_signals(tmp_path: Path, photos: Path) -> None:
    results = []
    request = IndexRequest(uri=str(tmp_path / "store"), sources=[photos])
    thread = threading.Thread(target=lambda: results.append(index(request)))
    thread.start()
    thread.join()
    assert results[0].complete
