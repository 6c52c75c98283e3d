"""`personsearch audit`: the log is read, and changes of it are found."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from personsearch.store.audit import HEAD, LOG, AuditLog


def test_the_log_is_read_and_checked(
    cli: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PERSONSEARCH_STORE", str(tmp_path))
    log = AuditLog(tmp_path)
    log.append("key made", "anna\x1b[2J", {"key": "desk"})
    log.append("key revoked", "anna", {"key": "desk"})
    lines = cli("audit", "read", "--json")[1].splitlines()
    assert [json.loads(line)["action"] for line in lines] == ["key made", "key revoked"]
    shown = cli("audit", "read")[1]
    assert '"desk"' in shown
    assert "\x1b" not in shown
    head = json.loads(lines[0])["hash"]
    assert json.loads(cli("audit", "check", "--head", head, "--json")[1]) == {
        "whole": True,
        "problem": "",
        "entries": 2,
        "head": json.loads(lines[1])["hash"],
        "anchors": 0,
        "restarts": [],
    }
    assert cli("audit", "check")[1].startswith("intact: 2 entries; head ")
    (tmp_path / LOG).write_text((tmp_path / LOG).read_text().replace("desk", "chair"))
    status, _, notes = cli("audit", "check")
    assert status == 1
    assert "the audit log was changed: line 2 does not follow" in notes


def test_an_anchor_shows_that_the_whole_log_was_rewritten(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, noted = tmp_path / "store", str(tmp_path / "anchors.jsonl")
    store.mkdir()
    monkeypatch.setenv("PERSONSEARCH_STORE", str(store))
    for who in ("anna", "bert"):
        AuditLog(store).append("search", who, {})
        status, printed, _ = cli("audit", "anchor", "--file", noted)
        assert status == 0
    assert f"2 entries are anchored; head {AuditLog(store).head()}" in printed
    assert cli("audit", "check", "--anchor", noted)[1].startswith(
        "intact: 2 entries; 2 anchors are in it; head "
    )
    (store / LOG).unlink()
    (store / HEAD).unlink()
    for who in ("anna", "carl"):
        AuditLog(store).append("search", who, {})
    assert cli("audit", "check")[0] == 0
    status, _, notes = cli("audit", "check", "--anchor", noted)
    assert status == 1
    assert "line 1 is not the line that was anchored" in notes
    assert cli("audit", "anchor")[0] == 2


def test_a_damaged_log_is_not_anchored_and_is_replaced_on_request(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    monkeypatch.setenv("PERSONSEARCH_STORE", str(store))
    AuditLog(store).append("search", "anna", {})
    (store / LOG).write_bytes(b"")
    status, _, notes = cli("audit", "anchor", "--file", str(tmp_path / "anchors.jsonl"))
    assert status == 1
    assert "1 lines are missing at the end" in notes
    assert not (tmp_path / "anchors.jsonl").exists()
    assert "a new log begins; kept: audit.jsonl." in cli("audit", "restart")[1]
    status, printed, _ = cli("audit", "check")
    assert status == 0
    assert "a damaged log was replaced at" in printed
    assert "1 lines are missing at the end" in printed
