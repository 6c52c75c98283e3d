"""Merging two stores: the newer file wins, and erased files stay erased."""

from pathlib import Path

import pytest
from odd_stores import DIM, MODEL, contents, files, one

from personsearch.errors import StoreError
from personsearch.store import (
    FileStamp,
    ModelIdentity,
    open_store,
)
from personsearch.store.exchange import export_store, import_store
from personsearch.store.merge import merge_stores


def test_what_was_erased_stays_erased_on_both_sides(tmp_path: Path) -> None:
    stamp = FileStamp(9, 9)
    here, there = one(tmp_path / "here", stamp, 1.0), one(tmp_path / "there", stamp, 1.0)
    with open_store(there) as store:
        secret = store.embeddings()[1][0].tobytes()
    export_store(there, tmp_path / "whole")
    with open_store(there, write=True) as store:
        store.erase_files("/photos")
    # Erased where it comes from: erased here, bytes and all.
    assert merge_stores(there, here).erased == 1
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
    assert merge_stores(new, old).replaced == ["/photos/a.jpg"]
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
