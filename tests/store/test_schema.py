"""Versions of a store: an older one is brought up to date, all of it or not at all."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from personsearch.errors import StoreError
from personsearch.store import DATABASE, Filters, ModelIdentity, open_store
from personsearch.store import schema as store_schema
from personsearch.store.schema import SCHEMA

VERSION_1 = """
CREATE TABLE model (
    name TEXT NOT NULL, fingerprint TEXT NOT NULL, dim INTEGER NOT NULL,
    weighted INTEGER NOT NULL, made REAL NOT NULL
) STRICT;
CREATE TABLE counter (changes INTEGER NOT NULL) STRICT;
INSERT INTO counter VALUES (0);
CREATE TABLE sources (id INTEGER PRIMARY KEY, place TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE files (
    id INTEGER PRIMARY KEY, source INTEGER NOT NULL REFERENCES sources ON DELETE CASCADE,
    name TEXT NOT NULL, bytes INTEGER NOT NULL, changed INTEGER NOT NULL,
    camera TEXT, state TEXT NOT NULL CHECK (state IN ('open', 'whole', 'unreadable', 'erased')),
    reason TEXT NOT NULL DEFAULT '', UNIQUE (source, name)
) STRICT;
CREATE TABLE pictures (
    id INTEGER PRIMARY KEY, file INTEGER NOT NULL REFERENCES files ON DELETE CASCADE,
    frame INTEGER, position REAL, time REAL, width INTEGER NOT NULL, height INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX pictures_once ON pictures (file, coalesce(frame, -1));
CREATE INDEX pictures_by_time ON pictures (time);
CREATE TABLE tracks (
    id INTEGER PRIMARY KEY, file INTEGER NOT NULL REFERENCES files ON DELETE CASCADE,
    first REAL NOT NULL, last REAL NOT NULL, views INTEGER NOT NULL
) STRICT;
CREATE TABLE people (
    id INTEGER PRIMARY KEY, picture INTEGER NOT NULL REFERENCES pictures ON DELETE CASCADE,
    track INTEGER REFERENCES tracks ON DELETE SET NULL,
    x1 REAL NOT NULL, y1 REAL NOT NULL, x2 REAL NOT NULL, y2 REAL NOT NULL, score REAL NOT NULL
) STRICT;
CREATE INDEX people_by_picture ON people (picture);
CREATE INDEX people_by_track ON people (track) WHERE track NOT NULL;
CREATE TABLE embeddings (
    person INTEGER PRIMARY KEY REFERENCES people ON DELETE CASCADE, vector BLOB NOT NULL
) STRICT;
CREATE TABLE thumbnails (
    person INTEGER PRIMARY KEY REFERENCES people ON DELETE CASCADE, jpeg BLOB NOT NULL
) STRICT;
PRAGMA application_id = 1886610785;
PRAGMA user_version = 1;
INSERT INTO model VALUES ('omz', 'aa', 4, 0, 1000.0);
INSERT INTO sources VALUES (1, '/photos');
INSERT INTO files VALUES (1, 1, 'a.jpg', 9, 9, 'door', 'whole', '');
INSERT INTO files VALUES (2, 1, 'v.mp4', 9, 9, NULL, 'whole', '');
INSERT INTO pictures VALUES (1, 1, NULL, NULL, 5000.0, 640, 480);
INSERT INTO pictures VALUES (2, 2, 7, 3.5, NULL, 640, 480);
INSERT INTO tracks VALUES (1, 2, 3.5, 4.5, 9);
INSERT INTO people VALUES (3, 1, NULL, 0, 0, 10, 20, 0.5);
INSERT INTO people VALUES (8, 2, 1, 0, 0, 10, 20, 0.75);
INSERT INTO embeddings VALUES (3, x'003C000000000000');
INSERT INTO embeddings VALUES (8, x'0000003C00000000');
INSERT INTO thumbnails VALUES (8, x'FFD8');
"""
MODEL = ModelIdentity("omz", "aa", 4)


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    """An older version of the schema."""
    number: int = request.param
    return number


@pytest.fixture
def old(tmp_path: Path, version: int) -> Path:
    """A store as an older version wrote it."""
    connection = sqlite3.connect(tmp_path / DATABASE)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(VERSION_1)
    for number in range(1, version):
        store_schema._run(connection, store_schema._MIGRATIONS[number])
        connection.execute(f"PRAGMA user_version = {number + 1}")
        connection.commit()
    connection.close()
    return tmp_path


def _look(folder: Path) -> tuple[int, list[tuple[object, ...]]]:
    """Version and columns, as SQLite tells them."""
    connection = sqlite3.connect(folder / DATABASE)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    columns = connection.execute(
        "SELECT m.type, m.name, c.* FROM sqlite_master m LEFT JOIN pragma_table_info(m.name) c "
        "ORDER BY m.name, c.cid"
    ).fetchall()
    connection.close()
    return version, columns


def test_an_older_store_is_brought_up_to_date(old: Path, version: int, tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match=rf"older schema \({version}\); .* store compact --store"),
        open_store(old),
    ):
        pass
    assert _look(old)[0] == version
    with open_store(old, model=MODEL, write=True) as store:
        assert store.damage() == ""
        assert store.counts()["people"] == 2
        ids, vectors = store.embeddings()
        assert ids.tolist() == [3, 8]
        assert np.array_equal(vectors, np.eye(4, dtype=np.float16)[:2])
        photo, view = store.people([3, 8])
        assert (photo.time, photo.camera, photo.track) == (5000.0, "door", None)
        assert view.track is not None
        assert (view.frame, view.track.views, store.thumbnail(8)) == (7, 9, b"\xff\xd8")
        assert store.retention() is None
        # Both were added when the store was made, or later.
        store.set_retention(1)
        assert store.outdated(999.5 + 86_400) == 0
        assert store.outdated(1000.5 + 86_400) == 2
        store.execute("UPDATE pictures SET added = 9000.0 WHERE id = 1")
        assert store.expire(1000.5 + 86_400) == 1
        assert store.new_ids(1) == range(9, 10)
        assert store.erase(Filters(people=(3,))) == 1
    with open_store(tmp_path / "new", model=MODEL, write=True):
        pass
    assert _look(old) == _look(tmp_path / "new")
    assert _look(old)[0] == SCHEMA
    with open_store(old) as store:
        assert store.retention() == 1


def test_tokens_and_new_columns_of_an_older_store(old: Path) -> None:
    with open_store(old, write=True) as store:
        token = store.token(0)
        assert token is not None
        assert len(token) == 16
        (kept,) = store.query("SELECT length(erasure), audit_lines, audit_head FROM keeping")
        assert kept == (16, None, None)
        assert list(store.query("SELECT here FROM sources")) == [(1,)]
        assert list(store.query("SELECT content FROM files")) == [(None,), (None,)]
        assert list(store.query("SELECT * FROM erased")) == []
        store.set_retention(3)
        assert store.token(0) == token
        later = store.token(1)
        assert later is not None
        assert later != token
        assert store.token(2) is None


def test_times_that_no_calendar_has_are_dropped(old: Path) -> None:
    with sqlite3.connect(old / DATABASE) as connection:
        connection.execute("UPDATE pictures SET time = 1e300, position = -1.0 WHERE id = 1")
        connection.execute("UPDATE pictures SET time = 253402300799, position = 1e300 WHERE id = 2")
        connection.execute("UPDATE tracks SET first = -1e300, last = 9e999")
    connection.close()
    with open_store(old, write=True) as store:
        people = store.people([3, 8])
        assert [(one.time, one.position) for one in people] == [(None, None)] * 2
        assert people[1].track is not None
        assert (people[1].track.first, people[1].track.last) == (0.0, 0.0)
        assert store.times() == (None, None)
        store.set_retention(3)
        assert store.expire(3e9) == 2


def test_a_migration_that_is_cut_short_leaves_the_old_version(
    old: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _look(old)
    statements = store_schema._MIGRATIONS[version].split(";\n")
    for count in range(1, len(statements)):
        cut = ";\n".join([*statements[:count], "SELECT no_such_function()"])
        with monkeypatch.context() as patch:
            patch.setitem(store_schema._MIGRATIONS, version, cut)
            with pytest.raises(StoreError, match="no such function"), open_store(old, write=True):
                pass
        assert _look(old) == before
    with open_store(old, write=True) as store:
        assert store.counts()["people"] == 2


def test_a_newer_store_is_left_alone(old: Path) -> None:
    connection = sqlite3.connect(old / DATABASE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    for write in (False, True):
        with (
            pytest.raises(StoreError, match=r"newer version .*schema 99.* update"),
            open_store(old, model=MODEL, write=write),
        ):
            pass
    assert _look(old)[0] == 99
