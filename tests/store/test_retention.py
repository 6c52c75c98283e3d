"""Outdated people are erased while a store is in use, and by no clock that jumped."""

import logging
import time
from pathlib import Path

import pytest
from few_people import MODEL, STAMP, found

from personsearch.store import Store, open_store
from personsearch.store.audit import AuditLog
from personsearch.store.clock import DAY
from personsearch.store.retention import Retention, expire_if_due

NOW = 1.8e9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that this machine shows."""
    shown = [NOW]
    monkeypatch.setattr(time, "time", lambda: shown[0])
    return shown


@pytest.fixture
def store(tmp_path: Path, clock: list[float]) -> Path:
    """Kept for 30 days: one person of yesterday, one of today, and one taken in the year 2100."""
    with open_store(tmp_path / "store", model=MODEL, write=True) as opened:
        for number, taken in enumerate((NOW - DAY, None, 4.1e9)):
            add(opened, str(number), taken)
        opened.set_retention(30)
    return tmp_path / "store"


def add(store: Store, name: str, taken: float | None) -> None:
    file = store.begin_file("/photos", name, STAMP)
    store.add(file, [found(1, 1, time=taken)], finished=True)


def people(folder: Path) -> int:
    with open_store(folder) as store:
        return store.count()


def test_age_counts_from_the_earlier_of_taken_and_added(store: Path, clock: list[float]) -> None:
    for day in range(0, 33, 3):
        clock[0] = NOW + day * DAY + 60
        expire_if_due(store)
        assert people(store) == (3 if day < 30 else 0)
    actions = [(one.who, one.action) for one in AuditLog(store).entries()]
    assert ("retention", "expire") in actions


@pytest.mark.parametrize("jump", [31 * DAY, 4e9, -NOW, -400 * DAY])
def test_a_clock_that_jumps_erases_nobody(
    store: Path, clock: list[float], jump: float, caplog: pytest.LogCaptureFixture
) -> None:
    clock[0] = NOW + jump
    for hour in range(24):
        clock[0] = NOW + jump + hour * 3600
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            assert expire_if_due(store) == 0
        assert "Nobody is erased until the clock has run for a day" in caplog.text
        # Whoever is added now moves nothing: only retention itself says what was trusted.
        with open_store(store, write=True) as opened:
            add(opened, f"new{hour}", None)
    assert people(store) == 27
    clock[0] = NOW + DAY + 60
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        assert expire_if_due(store) == 0
    assert caplog.text == ""
    assert people(store) == 27


def test_a_store_that_was_not_used_for_long(store: Path, clock: list[float]) -> None:
    clock[0] = NOW + 100 * DAY
    assert expire_if_due(store) == 0
    clock[0] = NOW + 101 * DAY
    assert expire_if_due(store) == 3


def test_a_clock_that_the_operator_trusts(store: Path, clock: list[float]) -> None:
    clock[0] = NOW + 100 * DAY
    with open_store(store, write=True) as opened:
        opened.trust_clock()
        assert opened.expire() == 3


def test_pictures_of_a_clock_that_was_ahead(store: Path, clock: list[float]) -> None:
    """They count as added when a trusted clock finds them, and are not kept until 2100."""
    clock[0] = 4.1e9
    with open_store(store, write=True) as opened:
        add(opened, "later", None)
    clock[0] = NOW + 60
    expire_if_due(store)
    assert people(store) == 4
    for day in range(5, 45, 5):
        clock[0] = NOW + day * DAY + 120
        expire_if_due(store)
    assert people(store) == 0


def test_a_thread_erases_while_the_store_is_written(tmp_path: Path) -> None:
    with open_store(tmp_path, model=MODEL, write=True) as opened:
        opened.set_retention(1)
        with Retention(tmp_path, every=0.02) as retention:
            for number in range(20):
                add(opened, f"old{number}", 1000.0)
                add(opened, f"new{number}", None)
            until = time.monotonic() + 60
            while opened.count() > 20 and time.monotonic() < until:
                time.sleep(0.01)
        assert opened.count() == 20
        assert retention.erased == 20
        assert not retention._thread.is_alive()


def test_a_run_that_fails_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(tmp_path, model=MODEL, write=True) as opened:
        opened.set_retention(1)
        add(opened, "old", 1000.0)
        monkeypatch.setattr(Store, "patience", 0.05)
        with opened.writing(), caplog.at_level(logging.WARNING):
            with Retention(tmp_path, every=0.02) as retention:
                while "is writing to this store" not in caplog.text:
                    time.sleep(0.01)
            assert retention.erased == 0
        assert expire_if_due(tmp_path) == 1
