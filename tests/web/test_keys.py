"""Keys: shown once, kept as hashes, refused from the moment they are revoked."""

import stat
from pathlib import Path

import pytest

from personsearch.errors import StoreError
from personsearch.store import DATABASE, ModelIdentity, open_store
from personsearch.store.audit import HEAD, LOG, AuditLog
from personsearch.web.keys import KEYS, PREFIX, Keys


def test_a_key_is_known_and_its_secret_is_kept_nowhere(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    secret = keys.make("desk", ["erase", "search"])
    assert secret.startswith(PREFIX)
    assert len(secret) >= len(PREFIX) + 43  # 256 bits
    holder = keys.holder(secret)
    assert holder is not None
    assert (holder.name, holder.scopes) == ("desk", ("search", "erase"))
    assert keys.make("other", ["audit"]) != secret
    written = (tmp_path / KEYS).read_text(encoding="utf-8")
    assert secret not in written
    assert secret.removeprefix(PREFIX) not in written
    assert stat.S_IMODE((tmp_path / KEYS).stat().st_mode) == 0o600
    for wrong in ("", secret[:-1], secret + "x", secret.upper(), "\udcff", holder.hash):
        assert keys.holder(wrong) is None


def test_revoking_works_at_once_in_other_processes(tmp_path: Path) -> None:
    serving, command = Keys(tmp_path), Keys(tmp_path)
    secret = command.make("desk", ["search"])
    assert serving.holder(secret) is not None
    command.revoke("desk")
    assert serving.holder(secret) is None
    assert serving.valid() == []
    assert [key.name for key in serving.all()] == ["desk"]
    with pytest.raises(StoreError, match="has no valid key named 'desk'; it has: none"):
        command.revoke("desk")
    with pytest.raises(StoreError, match="choose another name"):
        command.make("desk", ["search"])


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    assert keys.all() == ()
    for name in ("", "a b", "../x", "x" * 65, "-x", "<b>"):
        with pytest.raises(StoreError, match="not a name for a key"):
            keys.make(name, ["search"])
    for name in ("local", "Local"):
        with pytest.raises(StoreError, match="stands for requests without a key"):
            keys.make(name, ["search"])
    with pytest.raises(StoreError, match="unknown scope 'all'"):
        keys.make("desk", ["search", "all"])
    with pytest.raises(StoreError, match="no scope"):
        keys.make("desk", [])
    for text in ("", "{}", '{"keys": [{"name": "x"}]}', "[1]"):
        (tmp_path / KEYS).write_text(text, encoding="utf-8")
        with pytest.raises(StoreError, match="is damaged"):
            Keys(tmp_path).all()


def test_deleted_files_do_not_hide_that_keys_were_made(tmp_path: Path) -> None:
    with open_store(tmp_path, model=ModelIdentity("m", "f" * 64, 4), write=True):
        pass
    AuditLog(tmp_path).append("search", "anna", {"text": "key made"})
    serving = Keys(tmp_path)
    assert not serving.were_made()
    Keys(tmp_path).make("desk", ["search"])
    assert serving.were_made()
    (tmp_path / KEYS).unlink()
    assert serving.were_made()
    assert Keys(tmp_path).were_made()
    head = (tmp_path / HEAD).read_bytes()
    for path in (tmp_path / LOG, tmp_path / HEAD):
        path.unlink()
        with pytest.raises(StoreError, match="its end was changed"):
            Keys(tmp_path).were_made()
    (tmp_path / DATABASE).unlink()
    assert not Keys(tmp_path).were_made()
    (tmp_path / HEAD).write_bytes(head)
    with pytest.raises(StoreError, match="its end was changed"):
        Keys(tmp_path).were_made()


def test_a_key_is_made_only_with_its_line_and_revoked_without(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    keys.make("desk", ["search"], caller="anna")
    (tmp_path / LOG).write_bytes(b"")
    with pytest.raises(StoreError, match="its end was changed"):
        keys.make("door", ["search"])
    assert [key.name for key in Keys(tmp_path).all()] == ["desk"]
    with pytest.raises(StoreError, match="its end was changed"):
        keys.revoke("desk")
    assert Keys(tmp_path).valid() == []
