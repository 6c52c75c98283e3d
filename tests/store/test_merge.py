"""Merging two stores: the newer file wins, and erased files stay erased."""

import sqlite3
from contextlib import closing
from pathlib import Path

import few_people
import pytest
from odd_stores import DIM, MODEL, contents, files, one

from personsearch.engines.uri import made_by
from personsearch.errors import StoreError
from personsearch.store import (
    DATABASE,
    FileStamp,
    Filters,
    ModelIdentity,
    open_store,
)
from personsearch.store.audit import LOG, AuditLog
from personsearch.store.check import check_store
from personsearch.store.exchange import export_store, import_store
from personsearch.store.merge import Removal, merge_stores


def test_what_was_erased_stays_erased_on_both_sides(tmp_path: Path) -> None:
    stamp = FileStamp(9, 9)
    here, there = one(tmp_path / "here", stamp, 1.0), one(tmp_path / "there", stamp, 1.0)
    with open_store(there) as store:
        secret = store.embeddings()[1][0].tobytes()
    export_store(there, tmp_path / "whole")
    with open_store(there, write=True) as store:
        store.erase_files("/photos")
    # Erased where it comes from: erased here when that is asked for, bytes and all.
    assert merge_stores(there, here).left == ["/photos/a.jpg"]
    assert any(secret in content for content in files(here).values())
    assert merge_stores(there, here, apply_erasures=True).erased == 1
    assert not any(secret in content for content in files(here).values())
    # Erased here: does not come back, not even with another stamp.
    assert import_store(tmp_path / "whole", there).skipped == 1
    newer = one(tmp_path / "newer", FileStamp(9, 99), 1.0)
    assert merge_stores(newer, there).skipped == 1
    assert contents(there) == contents(here)
    with open_store(there) as store:
        assert store.known_files("/photos")["a.jpg"].state == "erased"
        assert store.counts()["people"] == 0


def test_the_newer_stamp_wins_and_is_named(tmp_path: Path) -> None:
    old = one(tmp_path / "old", FileStamp(9, 9), 1.0)
    new = one(tmp_path / "new", FileStamp(7, 10), 2.0)
    before = contents(new)
    assert merge_stores(old, new).kept == ["/photos/a.jpg"]
    assert contents(new) == before
    assert merge_stores(new, old).left == ["/photos/a.jpg"]
    assert contents(old) != before
    report = merge_stores(new, old, apply_erasures=True)
    assert (report.replaced, report.removed) == (["/photos/a.jpg"], 3)
    assert contents(old) == before


def test_a_whole_file_beats_one_that_is_not(tmp_path: Path) -> None:
    stamp = FileStamp(9, 9)
    whole = one(tmp_path / "whole", stamp, 1.0)
    for name in ("open", "unreadable"):
        with open_store(tmp_path / name, model=MODEL, write=True) as store:
            file = store.begin_file("/photos", "a.jpg", stamp)
            if name == "unreadable":
                store.finish_file(file, "broken")
        assert merge_stores(tmp_path / name, whole).skipped == 1
        assert merge_stores(whole, tmp_path / name).replaced == ["/photos/a.jpg"]
        assert contents(tmp_path / name) == contents(whole)


def test_stores_are_merged_under_new_ids(tmp_path: Path) -> None:
    one(tmp_path / "a", FileStamp(1, 1), 1.0, "a.jpg")
    one(tmp_path / "b", FileStamp(2, 2), 1.0, "b.jpg")
    both = sorted(map(repr, contents(tmp_path / "a") + contents(tmp_path / "b")))
    report = merge_stores(tmp_path / "a", tmp_path / "b")
    assert (report.files, report.people) == (1, 3)
    assert sorted(map(repr, contents(tmp_path / "b"))) == both
    with open_store(tmp_path / "b") as store:
        assert store.embeddings()[0].tolist() == [1, 2, 3, 4, 5, 6]
        assert store.people_in(Path("/photos/a.jpg")) == [4, 5, 6]
    with pytest.raises(StoreError, match="is the same store"):
        merge_stores(tmp_path / "a", tmp_path / "b" / ".." / "a")
    with pytest.raises(StoreError, match="no store here"):
        merge_stores(tmp_path / "none", tmp_path / "a")


def test_who_is_too_old_for_a_store_does_not_stay(tmp_path: Path) -> None:
    here = one(tmp_path / "here", FileStamp(1, 1), 4e9, "here.jpg")
    with open_store(here, write=True) as store:
        store.set_retention(30)
    there = one(tmp_path / "there", FileStamp(2, 2), 1e9, "there.jpg")
    assert merge_stores(there, here).expired == 3
    with open_store(here) as store:
        assert store.counts()["people"] == 3
        assert store.retention() == 30


def test_another_model_is_refused(tmp_path: Path) -> None:
    here = one(tmp_path / "here", FileStamp(1, 1), 1.0)
    with open_store(tmp_path / "other", model=ModelIdentity("b", "b", DIM), write=True):
        pass
    export_store(here, tmp_path / "out")
    for call in (
        lambda: import_store(tmp_path / "out", tmp_path / "other"),
        lambda: merge_stores(here, tmp_path / "other"),
    ):
        with pytest.raises(StoreError, match=r"model 'b' .* cannot be compared. Use another store"):
            call()


def forged(tmp_path: Path, erased: bool) -> Path:
    """A store that says of your photo that it is erased, or that a newer version shows nobody."""
    folder = tmp_path / f"forged-{erased}"
    with open_store(folder, model=MODEL, write=True) as store:
        for name in ("a.jpg", "later.jpg"):
            store.begin_file("/photos", name, FileStamp(9, 99))
            if erased:
                store.erase_files("/photos", [name])
    return folder


@pytest.mark.parametrize("erased", [True, False])
def test_another_store_erases_nobody_unless_asked_and_says_whom(
    tmp_path: Path, erased: bool
) -> None:
    here = one(tmp_path / "here", FileStamp(9, 9), 1.0)
    other = forged(tmp_path, erased)
    export_store(other, tmp_path / "out")
    for bring, origin in ((merge_stores, other), (import_store, tmp_path / "out")):
        report = bring(origin, here)
        assert report.left[0] == "/photos/a.jpg"
        with open_store(here) as store:
            assert store.counts()["people"] == 3
            known = store.known_files("/photos")
            assert known["a.jpg"].state == "whole"
            # A file that was never seen here may still be indexed.
            assert "later.jpg" not in known or known["later.jpg"].state == "open"
    asked: list[Removal] = []

    def refuse(removals: object) -> None:
        asked.extend(removals)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_store(tmp_path / "out", here, apply_erasures=True, confirm=refuse)
    reason = "erased there" if erased else "newer there"
    assert asked == [Removal("/photos", "a.jpg", 3, reason)]
    with open_store(here) as store:
        assert store.counts()["people"] == 3
    report = import_store(tmp_path / "out", here, apply_erasures=True, caller="anna")
    assert report.removed == 3
    *_, wish, done = AuditLog(here).entries()
    assert (wish.action, wish.who, wish.details["erases"]) == ("import", "anna", [vars(asked[0])])
    assert (done.action, done.details["views"]) == ("imported", 3)


def test_people_who_came_after_the_question_are_not_erased(tmp_path: Path) -> None:
    here = one(tmp_path / "here", FileStamp(9, 9), 1.0)
    with open_store(here, write=True) as store:
        store.begin_file("/photos", "later.jpg", FileStamp(1, 1))

    def confirm(_: object) -> None:
        one(here, FileStamp(2, 2), 1.0, "later.jpg")

    report = merge_stores(forged(tmp_path, True), here, apply_erasures=True, confirm=confirm)
    assert (report.removed, report.left) == (3, ["/photos/later.jpg"])


@pytest.mark.parametrize("expired", [True, False])
def test_without_its_line_nothing_comes_and_nobody_goes(tmp_path: Path, expired: bool) -> None:
    here = one(tmp_path / "here", FileStamp(1, 1), 4e9, "here.jpg")
    with open_store(here, write=True) as store:
        store.set_retention(30)
    there = one(tmp_path / "there", FileStamp(2, 2), 1e9 if expired else 4e9, "there.jpg")
    assert merge_stores(there, here).expired == (3 if expired else 0)
    actions = [entry.action for entry in AuditLog(here).entries()]
    assert actions == ["retention", "merge", "merged"] + ["expire", "expired"] * expired
    (here / LOG).write_bytes(b"")
    before = contents(here)
    with pytest.raises(StoreError, match="its end was changed"):
        merge_stores(one(tmp_path / "third", FileStamp(3, 3), 4e9, "third.jpg"), here)
    with pytest.raises(StoreError, match="its end was changed"):
        export_store(here, tmp_path / "stolen")
    assert not (tmp_path / "stolen").exists()
    assert contents(here) == before


def test_a_copy_of_an_erased_file_is_not_merged(tmp_path: Path) -> None:
    for name in ("here", "there"):
        with open_store(tmp_path / name, model=MODEL, write=True) as store:
            file = store.begin_file("/photos", f"{name}.jpg", FileStamp(1, 1), None, b"c" * 32)
            store.add(file, [few_people.found(2)], finished=True)
    with open_store(tmp_path / "here", write=True) as store:
        store.erase_files("/photos")
    assert merge_stores(tmp_path / "there", tmp_path / "here").skipped == 1
    with open_store(tmp_path / "here") as store:
        assert store.counts()["people"] == 0


@pytest.mark.parametrize("everyone", [True, False])
@pytest.mark.parametrize("apply_erasures", [True, False])
def test_a_newer_stamp_brings_nobody_back(
    tmp_path: Path, everyone: bool, apply_erasures: bool
) -> None:
    here, there, other = (tmp_path / name for name in ("here", "there", "other"))
    for folder, changed, content in ((here, 1, b"c"), (there, 2, b"c"), (other, 3, b"d")):
        with open_store(folder, model=MODEL, write=True) as store:
            file = store.begin_file("/photos", "a.jpg", FileStamp(1, changed), None, content * 32)
            store.add(file, [few_people.found(2)], finished=True)
    with open_store(here, write=True) as store:
        store.erase(Filters(people=(1, 2) if everyone else (1,)))
    export_store(there, tmp_path / "out")
    left = 0 if everyone else 1
    for bring, origin in ((merge_stores, there), (import_store, tmp_path / "out")):
        assert bring(origin, here, apply_erasures=apply_erasures).skipped == 1
        with open_store(here) as store:
            assert store.counts()["people"] == left
    # A version with another content may come.
    report = merge_stores(other, here, apply_erasures=apply_erasures)
    assert report.people == (2 if everyone or apply_erasures else 0)


@pytest.mark.parametrize("created", [True, False])
def test_a_store_whose_first_merge_was_killed_takes_the_retention_time(
    tmp_path: Path, created: bool
) -> None:
    there = one(tmp_path / "there", FileStamp(1, 1), 4e9)
    with open_store(there, write=True) as store:
        store.set_retention(30)
    new = tmp_path / "new"
    if created:
        with open_store(new, model=MODEL, write=True):
            pass
    else:
        new.mkdir()
        with closing(sqlite3.connect(new / DATABASE)) as database:
            database.execute("PRAGMA journal_mode = WAL")
        assert made_by(new) is None
    assert merge_stores(there, new).people == 3
    with open_store(new, write=True) as store:
        assert store.retention() == 30
        store.set_retention(None)
    merge_stores(there, new)
    with open_store(new) as store:
        assert store.retention() is None


def test_a_store_whose_columns_take_any_type_is_not_merged(tmp_path: Path) -> None:
    here, there = one(tmp_path / "here", FileStamp(1, 1), 1.0), tmp_path / "there"
    one(there, FileStamp(1, 2), 1.0)
    for statement in (
        "UPDATE sqlite_master SET sql = replace(sql, 'STRICT', '') WHERE name = 'pictures'",
        "UPDATE pictures SET position = 'x'",
    ):
        with closing(sqlite3.connect(there / DATABASE, isolation_level=None)) as database:
            database.execute("PRAGMA writable_schema = ON")
            database.execute(statement)
    with open_store(there) as store:
        assert check_store(store) == ["pictures is not a strict table"]
    with pytest.raises(StoreError, match="pictures is not a strict table"):
        merge_stores(there, here)
