"""A server erases what is too old, says so in the audit log, and prepares a large store."""

from pathlib import Path

import pytest
from crowd import open_crowd

from personsearch.engines.sqlite import StoreEngine
from personsearch.errors import StoreError
from personsearch.store import Store, open_store
from personsearch.store.audit import AuditLog
from personsearch.web import housekeeping
from personsearch.web.housekeeping import Housekeeping
from personsearch.web.service import Service, Settings


def test_what_is_too_old_is_erased(store: Path) -> None:
    with open_crowd(store) as archive:
        service = Service(archive, Settings())
        assert Housekeeping(service).once() == 0
        with open_store(store, write=True) as opened:
            people = opened.count()
            opened.set_retention(0.5 / 86_400)  # the pictures are of yesterday or before
        assert Housekeeping(service).once() == people
        assert archive.engine.count() == 0
        changed, wish, done = AuditLog(store).entries()
        assert (changed.action, wish.action, done.action) == ("retention", "expire", "expired")
        assert (wish.who, done.who, done.details["views"]) == ("retention", "retention", people)
        service.close()


def test_copies_that_an_erasing_left_are_overwritten(store: Path) -> None:
    with open_store(store, write=True) as opened:
        with opened.writing():
            opened.mark_erased()
        assert not opened.scrubbed()
    with open_crowd(store) as archive:
        service = Service(archive, Settings())
        assert Housekeeping(service).once() == 0
        with open_store(store) as opened:
            assert opened.scrubbed()
        service.close()


def test_another_process_writes(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "patience", 0.1)
    with open_crowd(store) as archive, open_store(store, write=True) as opened:
        opened.set_retention(0.5 / 86_400)
        service = Service(archive, Settings())
        with opened.writing(), pytest.raises(StoreError, match="is writing"):
            Housekeeping(service).once()
        assert Housekeeping(service).once() > 0
        service.close()


def test_a_large_store_is_prepared(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(StoreEngine, "prepare", lambda _: bool(asked.append(1)))
    with open_crowd(store) as archive:
        service = Service(archive, Settings())
        Housekeeping(service).once()
        assert not asked
        monkeypatch.setattr(housekeeping, "MANY", 5)
        Housekeeping(service).once()
        assert asked
        service.close()
