"""`personsearch store`, through the entry point of the command line."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from personsearch.store import open_store
from personsearch.store.audit import AuditLog

Run = Callable[..., tuple[int, str, str]]


def test_info(cli: Run, small_store: Path) -> None:
    status, out, _ = cli("store", "info")
    assert status == 0
    for expected in ("model omz", "2 people", "camera gate: 2", "kept forever", "bad.jpg: is brok"):
        assert expected in out
    found = json.loads(cli("store", "info", "--json")[1])
    assert found["counts"]["people"] == 2
    assert found["cameras"] == {"gate": 2}
    assert (found["first"], found["last"], found["retention_days"]) == (1e9, 1e9, None)
    assert found["bytes"] >= (small_store / "people.sqlite").stat().st_size
    assert found["unreadable"] == [{"source": "/photos", "name": "bad.jpg", "reason": "is broken"}]


def test_check(cli: Run, small_store: Path) -> None:
    assert cli("store", "check")[:2] == (0, f"{small_store}: no problems\n")
    with open_store(small_store, write=True) as opened:
        opened.execute("UPDATE thumbnails SET jpeg = x'00' WHERE person = 2")
    status, out, _ = cli("store", "check")
    assert status == 1
    assert "person 2: thumbnail cannot be read" in out
    status, out, _ = cli("store", "check", "--json")
    assert status == 1
    assert len(json.loads(out)["problems"]) == 1


def test_compact_and_erase_by_camera(cli: Run, small_store: Path) -> None:
    status, out, _ = cli("store", "compact")
    assert status == 0
    assert "MB before" in out
    assert cli("erase", "--camera", "yard", "--yes")[:2] == (0, "0 people erased\n")
    assert cli("erase", "--camera", "gate", "--yes")[:2] == (0, "2 people erased\n")
    assert cli("store", "info", "--store", "gone")[0] == 1


def test_keep_and_expire(cli: Run, small_store: Path) -> None:
    assert "keeps forever; set a time" in cli("store", "expire")[1]
    assert "1 people are older" in cli("store", "keep", "30")[1]
    assert json.loads(cli("store", "info", "--json")[1])["outdated"] == 1
    assert cli("store", "expire")[:2] == (0, "1 people older than 30 days erased\n")
    assert json.loads(cli("store", "expire", "--json")[1])["erased"] == 0
    assert "kept forever" in cli("store", "keep", "forever")[1]
    for wrong in ("0", "nan", "inf", "soon"):
        status, _, err = cli("store", "keep", wrong)
        assert status == 2
        assert "expected days such as 30" in " ".join(err.replace("│", " ").split())
    with open_store(small_store) as opened:
        assert opened.embeddings()[0].tolist() == [2]
        assert (opened.times()[0] or time.time()) > 1e9


def test_an_erasure_that_is_not_finished_shows(cli: Run, small_store: Path) -> None:
    with open_store(small_store, write=True) as opened, opened.writing():
        opened.mark_erased()
    assert "an erasure is not finished" in cli("store", "info")[1]
    assert json.loads(cli("store", "info", "--json")[1])["scrubbed"] is False
    status, out, _ = cli("store", "check")
    assert (status, "an erasure is not finished" in out) == (1, True)
    assert cli("store", "compact")[0] == 0
    assert "not finished" not in cli("store", "info")[1]
    assert cli("store", "check")[0] == 0


def test_erased_files_are_allowed_again(cli: Run, small_store: Path) -> None:
    assert cli("erase", "--source", "/photos", "--picture", "old.jpg", "--yes")[0] == 0
    status, out, _ = cli("store", "unerase", "--source", "/photos", "--picture", "old.jpg")
    assert (status, out.startswith("1 files may be indexed again")) == (0, True)
    status, _, err = cli("store", "unerase", "--source", "/photos")
    assert (status, "nothing of source '/photos' was erased" in err) == (1, True)
    assert cli("store", "unerase", "--source", "")[0] == 2
    assert AuditLog(small_store).has("unerase")


def test_a_change_of_the_retention_is_logged(cli: Run, small_store: Path) -> None:
    assert cli("store", "keep", "30")[0] == 0
    assert cli("store", "expire")[0] == 0
    assert cli("store", "expire")[0] == 0
    entries = list(AuditLog(small_store).entries())
    assert [one.action for one in entries] == ["retention", "expire", "expired"]
    assert entries[0].details == {"days": 30.0, "before": None}
