"""Opening a store: what is no store, of another version or model, or damaged is refused."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from few_people import DIM, MODEL

from personsearch.errors import StoreError
from personsearch.store import (
    DATABASE,
    Filters,
    ModelIdentity,
    open_store,
)


def test_another_model_is_refused_with_a_remedy(folder: Path) -> None:
    other = ModelIdentity("mine", "b" * 64, DIM)
    for write in (False, True):
        with (
            pytest.raises(StoreError, match=r"made by model 'omz' .* Use --model omz"),
            open_store(folder, model=other, write=write),
        ):
            pass


def test_no_store(tmp_path: Path) -> None:
    for write in (False, True):
        with (
            pytest.raises(StoreError, match=r"no store here; .* personsearch index"),
            open_store(tmp_path / "none", write=write),
        ):
            pass
    assert not (tmp_path / "none").exists()


def test_a_newer_store_and_another_database(folder: Path) -> None:
    with sqlite3.connect(folder / DATABASE) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match=r"newer version .*schema 99.* update"), open_store(folder):
        pass
    with sqlite3.connect(folder / DATABASE) as connection:
        connection.execute("PRAGMA application_id = 7")
    connection.close()
    with pytest.raises(StoreError, match="database of something else"), open_store(folder):
        pass


def _read_all(folder: Path) -> None:
    with open_store(folder) as store:
        store.embeddings()
        store.people(range(1, 10))


@pytest.mark.parametrize("damage", ["cut", "overwritten", "no database"])
def test_a_damaged_store_says_so(folder: Path, damage: str) -> None:
    file = folder / DATABASE
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 3])
    elif damage == "overwritten":
        file.write_bytes(content[:4096] + b"\x55" * (len(content) - 4096))
    else:
        file.write_bytes(b"not a database at all" * 400)
    with pytest.raises(StoreError, match="damaged"):
        _read_all(folder)


def test_an_empty_database_is_no_store_yet(tmp_path: Path) -> None:
    (tmp_path / DATABASE).touch()
    for write in (False, True):
        with (
            pytest.raises(StoreError, match="its database is empty; make a store"),
            open_store(tmp_path, write=write),
        ):
            pass
    with open_store(tmp_path, model=MODEL, write=True) as store:
        assert store.counts()["people"] == 0


def test_another_database_is_left_as_it_is(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("CREATE TABLE mine (name TEXT)")
    connection.close()
    before = (tmp_path / DATABASE).read_bytes()
    for write in (False, True):
        with (
            pytest.raises(StoreError, match="database of something else"),
            open_store(tmp_path, model=MODEL, write=write),
        ):
            pass
    assert (tmp_path / DATABASE).read_bytes() == before


@pytest.mark.parametrize("seed", range(30))
def test_flipped_bytes_are_said_or_harmless(folder: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    content = bytearray((folder / DATABASE).read_bytes())
    for place in generator.integers(0, len(content), 40):
        content[place] = generator.integers(0, 256)
    (folder / DATABASE).write_bytes(content)
    said = ""
    try:
        with open_store(folder, write=True) as store:
            store.people(store.embeddings()[0].tolist())
            store.unreadable()
            store.cameras()
            store.damage()
            store.erase(Filters(people=(1,)))
    except StoreError as error:  # anything else fails the test
        said = str(error)
    assert "\n" not in said


def test_the_old_name_of_the_revision(folder: Path) -> None:
    with open_store(folder) as store, pytest.warns(DeprecationWarning, match="revision"):
        assert store.changes() == store.revision() > 0
