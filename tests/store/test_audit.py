"""The audit log: every change of what was written shows, and a crash loses nothing."""

import os
import stat
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from personsearch.errors import StoreError
from personsearch.store.audit import BEGINNING, HEAD, LOG, AuditLog


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    made = AuditLog(tmp_path)
    for number in range(4):
        made.append("search", f"user {number}", {"people": [number], "matches": 3})
    return made


def lines(log: AuditLog) -> list[bytes]:
    return (log.folder / LOG).read_bytes().splitlines(keepends=True)


def write(log: AuditLog, content: list[bytes]) -> None:
    (log.folder / LOG).write_bytes(b"".join(content))


def test_what_was_written_is_read(log: AuditLog) -> None:
    found = list(log.entries())
    assert [entry.who for entry in found] == [f"user {number}" for number in range(4)]
    assert found[2].details == {"people": [2], "matches": 3}
    assert found[0].previous == BEGINNING
    assert [entry.previous for entry in found[1:]] == [entry.hash for entry in found[:-1]]
    assert log.head() == found[-1].hash
    assert log.verify() == ""
    assert log.verify(found[1].hash) == ""
    for name in (LOG, HEAD):
        assert stat.S_IMODE((log.folder / name).stat().st_mode) == 0o600


def test_an_empty_log_is_whole(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    assert (log.verify(), log.head(), list(log.entries())) == ("", BEGINNING, [])


def test_every_change_shows(log: AuditLog) -> None:
    first, second, third, fourth = lines(log)
    changed = second.replace(b"user 1", b"user 9")
    cases = {
        "line 3 does not follow": [first, changed, third, fourth],
        "line 2 does not follow": [first, third, fourth],
        "line 2 does not": [first, third, second, fourth],
        "line 3 does not": [first, second, second, third, fourth],
        "1 lines are missing at the end": [first, second, third],
        "4 lines are missing at the end": [],
        "line 1 does not follow": [second, third, fourth],
        "line 4 is not the line": [first, second, third, fourth.replace(b"user 3", b"user 4")],
        "line 4 is damaged": [first, second, third, fourth[:-5]],
        "line 2 is damaged": [first, b"nothing\n", third, fourth],
        "line 3 is damaged": [first, second, b'{"time": 1}\n', fourth],
    }
    for expected, content in cases.items():
        write(log, content)
        assert expected in log.verify(), expected
    write(log, [first, second, third, fourth])
    assert log.verify() == ""
    (log.folder / HEAD).unlink()
    assert log.verify() == f"{HEAD} is missing"
    (log.folder / HEAD).write_text("{}")
    assert "is damaged" in log.verify()


def test_another_log_does_not_have_the_noted_hash(log: AuditLog, tmp_path: Path) -> None:
    noted = log.head()
    other = AuditLog(tmp_path / "other")
    other.folder.mkdir()
    for number in range(4):
        other.append("search", f"user {number}", {"people": [number], "matches": 2})
    assert other.verify() == ""
    assert "no line has the hash" in other.verify(noted)


def test_a_torn_line_is_taken_out_and_said(log: AuditLog) -> None:
    whole = lines(log)
    write(log, [*whole, b'{"time": 17, "who": "us'])
    assert "line 5 is damaged or torn" in log.verify()
    log.append("search", "later", {})
    assert log.verify() == ""
    found = list(log.entries())
    assert [entry.action for entry in found[4:]] == ["torn line removed", "search"]
    assert found[4].details == {"bytes": 23}


def test_a_crash_before_the_head_was_noted_keeps_the_line(log: AuditLog) -> None:
    before = (log.folder / HEAD).read_bytes()
    log.append("search", "just before the crash", {})
    (log.folder / HEAD).write_bytes(before)
    assert log.verify() == ""
    log.append("search", "after it", {})
    assert log.verify() == ""
    assert [entry.who for entry in log.entries()][4:] == ["just before the crash", "after it"]


def test_it_does_not_go_on_from_an_end_that_was_changed(log: AuditLog) -> None:
    whole = lines(log)
    for content in (whole[:-1], [], [*whole[:-1], whole[-1].replace(b"user 3", b"user 4")]):
        write(log, content)
        with pytest.raises(StoreError, match="its end was changed"):
            log.append("search", "someone", {})
    write(log, whole)
    (log.folder / HEAD).unlink()
    with pytest.raises(StoreError, match="its end was changed"):
        log.append("search", "someone", {})


def append_some(folder: Path) -> None:
    for number in range(10):
        AuditLog(folder).append("search", str(os.getpid()), {"number": number})


def test_threads_and_processes_append_at_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2) as processes, ThreadPoolExecutor(4) as threads:
        running = [processes.submit(append_some, tmp_path) for _ in range(2)]
        running += [threads.submit(append_some, tmp_path) for _ in range(4)]
        for one in running:
            one.result()
    assert AuditLog(tmp_path).verify() == ""
    assert len(list(AuditLog(tmp_path).entries())) == 60


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        AuditLog(tmp_path / "gone").append("search", "someone", {})
    log = AuditLog(tmp_path)
    with pytest.raises(ValueError):
        log.append("search", "someone", {"similarity": float("nan")})
    (tmp_path / LOG).write_bytes(b"text\n")
    with pytest.raises(StoreError, match="line 1 is damaged"):
        list(log.entries())
