"""`personsearch audit`: the log is read, and changes of it are found."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from personsearch.store.audit import LOG, AuditLog


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
    }
    assert cli("audit", "check")[1].startswith("intact: 2 entries; head ")
    (tmp_path / LOG).write_text((tmp_path / LOG).read_text().replace("desk", "chair"))
    status, _, notes = cli("audit", "check")
    assert status == 1
    assert "the audit log was changed: line 2 does not follow" in notes
