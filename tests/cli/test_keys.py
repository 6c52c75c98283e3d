"""`personsearch keys`: keys are made, listed and revoked, and each of it is logged."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from personsearch.store.audit import AuditLog, user_of_this_machine


def test_keys_are_made_listed_and_revoked(
    cli: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PERSONSEARCH_STORE", str(tmp_path))
    make = ("keys", "make", "--name", "desk", "--scope", "search", "--scope", "erase")
    status, secret, notes = cli(*make)
    assert status == 0, notes
    assert re.fullmatch(r"psk_[\w-]{43}\n", secret)
    assert "shown once" in notes
    assert secret.strip() not in "".join(p.read_text() for p in tmp_path.iterdir() if p.is_file())
    assert cli(*make)[0] == 1  # the name is used
    (listed,) = json.loads(cli("keys", "list", "--json")[1])
    assert (listed["name"], listed["scopes"]) == ("desk", ["search", "erase"])
    assert listed["revoked"] is None
    assert cli("keys", "revoke", "desk")[:2] == (0, "desk is revoked\n")
    assert "desk" in cli("keys", "list")[1]
    status, _, notes = cli("keys", "revoke", "desk")
    assert (status, "has no valid key" in notes) == (1, True)
    assert [(one.action, one.who, one.details) for one in AuditLog(tmp_path).entries()] == [
        ("key made", user_of_this_machine(), {"key": "desk", "scopes": ["search", "erase"]}),
        ("key revoked", user_of_this_machine(), {"key": "desk"}),
    ]
