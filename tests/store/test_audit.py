"""The audit log: every change of what was written shows, and a crash loses nothing."""

import errno
import os
import stat
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from personsearch.errors import StoreError
from personsearch.store import DATABASE, ModelIdentity, open_store
from personsearch.store.audit import BEGINNING, HEAD, LOG, RESTARTED, AuditLog


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
    assert found[4].details == {"bytes": 23, "text": '{"time": 17, "who": "us'}


def test_a_line_behind_the_noted_end_shows_and_is_quoted_not_kept(log: AuditLog) -> None:
    """Of a crash before the head was noted, or forged: the call that wrote it did not return."""
    before = (log.folder / HEAD).read_bytes()
    log.append("search", "forged", {})
    (log.folder / HEAD).write_bytes(before)
    assert log.verify() == "1 lines are behind the noted end: of a crash, or of somebody else"
    log.append("search", "after it", {})
    assert log.verify() == ""
    removed, after = list(log.entries())[4:]
    assert (removed.action, after.who) == ("unnoted lines removed", "after it")
    assert '"who": "forged"' in removed.details["text"]


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


@pytest.fixture
def store_log(tmp_path: Path) -> AuditLog:
    """A log of four lines in the folder of a store."""
    with open_store(tmp_path / "store", model=ModelIdentity("m", "f" * 64, 4), write=True):
        made = AuditLog(tmp_path / "store")
        for number in range(4):
            made.append("search", f"user {number}", {"people": [number]})
    return made


def rewrite(log: AuditLog, users: list[str]) -> None:
    """Replace log and head by another log, as somebody can who writes both files."""
    database = (log.folder / DATABASE).read_bytes()
    for name in (LOG, HEAD, DATABASE):
        (log.folder / name).unlink()
    for user in users:
        log.append("search", user, {})
    (log.folder / DATABASE).write_bytes(database)


def test_the_database_knows_a_log_that_was_rewritten_with_its_head(store_log: AuditLog) -> None:
    original = {name: (store_log.folder / name).read_bytes() for name in (LOG, HEAD)}
    assert store_log.verify() == ""
    cases = {
        "1 lines are missing at the end, up to line 4 that the database notes": ["a", "b", "c"],
        "line 4 is not the line that the database notes": ["a", "b", "c", "d"],
        f"{LOG} and {HEAD} are missing; the database notes 4 lines": [],
    }
    for expected, users in cases.items():
        rewrite(store_log, users)
        assert store_log.verify() == expected
        with pytest.raises(StoreError, match="its end was changed"):
            store_log.append("search", "someone", {})
    for name, content in original.items():
        (store_log.folder / name).write_bytes(content)
    store_log.append("search", "someone", {})
    assert store_log.verify() == ""


def test_a_damaged_log_is_replaced_on_request_and_kept(store_log: AuditLog) -> None:
    with pytest.raises(StoreError, match="is complete"):
        store_log.restart("owner")
    noted = store_log.head()
    before = (store_log.folder / LOG).read_bytes()
    write(store_log, lines(store_log)[:2])
    kept = store_log.restart("owner")
    assert store_log.verify() == ""
    (first,) = store_log.entries()
    assert (first.action, first.who) == (RESTARTED, "owner")
    assert first.details["problem"].startswith("2 lines are missing at the end")
    assert (first.details["lines"], first.details["head"]) == (4, noted)
    assert first.details["kept"] == kept
    assert before.startswith((store_log.folder / kept[0]).read_bytes())


def test_a_busy_database_is_noted_later(store_log: AuditLog) -> None:
    with open_store(store_log.folder) as reader, open_store(store_log.folder, write=True) as store:
        with store.writing():
            store_log.append("search", "meanwhile", {})
            store_log.append("search", "meanwhile", {})
        assert store_log.verify() == ""
        assert reader.execute("SELECT audit_lines FROM keeping").fetchone() == (4,)
        store_log.append("search", "later", {})
        assert reader.execute("SELECT audit_lines FROM keeping").fetchone() == (7,)
    assert store_log.verify() == ""


def test_an_older_database_of_a_backup_is_no_damage(store_log: AuditLog) -> None:
    backup = (store_log.folder / DATABASE).read_bytes()
    for number in range(400):  # more than a block
        store_log.append("search", f"user {number}", {"text": "x" * 300})
    (store_log.folder / DATABASE).write_bytes(backup)
    assert store_log.verify() == ""
    store_log.append("search", "later", {})
    assert store_log.verify() == ""


FULL_DISK = """
import resource, sys
from personsearch.errors import StoreError
from personsearch.store.audit import AuditLog
log, size = AuditLog(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
try:
    log.append("search", "cut off", {"text": "x" * 500})
except StoreError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.append("search", "later", {})
"""


def test_a_line_that_is_written_in_part_is_an_error_and_stops_nothing_later(log: AuditLog) -> None:
    size = (log.folder / LOG).stat().st_size + 100
    command = [sys.executable, "-c", FULL_DISK, str(log.folder), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cannot be written (File too large)" in done.stdout
    assert log.verify() == ""
    assert [one.who for one in log.entries()][-1] == "later"


def test_a_head_that_cannot_be_written_takes_the_line_back(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = lines(log)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StoreError, match="No space left"):
            log.append("search", "someone", {})
    assert lines(log) == before
    log.append("search", "later", {})
    assert log.verify() == ""


def test_anchors_are_compared_one_by_one(log: AuditLog) -> None:
    first = log.anchor()
    log.append("search", "later", {})
    second = log.anchor()
    assert (first.lines, second.lines, second.head) == (4, 5, log.head())
    assert log.verify(anchors=[first, second]) == ""
    rewrite_all = [f"user {number}" for number in range(5)]
    for name in (LOG, HEAD):
        (log.folder / name).unlink()
    for user in rewrite_all[:4]:
        log.append("search", user, {})
    assert log.verify() == ""
    assert log.verify(anchors=[first, second]) == "line 4 is not the line that was anchored"
    assert log.verify(anchors=[second]) == (
        "1 lines are missing at the end, up to line 5 that was anchored"
    )
    write(log, lines(log)[:3])
    with pytest.raises(StoreError, match="was changed: 1 lines are missing"):
        log.anchor()


def test_an_action_is_found(log: AuditLog) -> None:
    log.append("search", "action", {"text": "key made"})
    assert not log.has("key made")
    log.append("key made", "owner", {})
    assert log.has("key made")
    assert not AuditLog(log.folder / "none").has("key made")


def test_a_restart_that_was_killed_is_begun_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(folder)
    log.append("search", "anna", {})
    (folder / HEAD).unlink()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "_add", killed)
        with pytest.raises(KeyboardInterrupt):
            log.restart()
    assert log.verify() != ""
    log.restart("anna")
    assert [entry.action for entry in log.entries()] == [RESTARTED]
    assert log.verify() == ""
