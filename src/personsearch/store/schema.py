"""The tables of a store, their version, and migrations of older stores."""

import sqlite3
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from personsearch.errors import StoreError
from personsearch.store.clock import EARLIEST, LATEST, LONGEST
from personsearch.store.locks import Turn, indexing_lock

if TYPE_CHECKING:
    from personsearch.store.people import ModelIdentity

SCHEMA = 3  # older stores are migrated when opened for writing

_APPLICATION = 0x70736561  # "psea", in the database's header
# counter, one row: the revision, and the last ids of people and files; no id is given twice.
# commits: a random token for each revision, by which files derived from another time line are
# recognised. keeping, one row: days of the retention time; whether copies of erased people are
# left; a random token that every erasure renews; number of lines and last hash of the audit log;
# the clock when retention last trusted it, and since when it doubts it. erased: SHA-256 of files
# whose people were erased. sources.here: 1 if indexed on this machine, 0 if imported or merged.
# files.content: SHA-256 of the bytes, NULL if unknown.
_TABLES = """
CREATE TABLE model (
    name TEXT NOT NULL, fingerprint TEXT NOT NULL, dim INTEGER NOT NULL,
    weighted INTEGER NOT NULL, made REAL NOT NULL
) STRICT;
CREATE TABLE counter (
    changes INTEGER NOT NULL, people INTEGER NOT NULL DEFAULT 0, files INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO counter VALUES (0, 0, 0);
CREATE TABLE commits (changes INTEGER PRIMARY KEY, token BLOB NOT NULL) STRICT;
INSERT INTO commits VALUES (0, randomblob(16));
CREATE TABLE keeping (
    days REAL CHECK (days > 0), unscrubbed INTEGER NOT NULL,
    erasure BLOB, audit_lines INTEGER, audit_head TEXT, clock REAL, doubted REAL
) STRICT;
INSERT INTO keeping VALUES (NULL, 0, randomblob(16), NULL, NULL, NULL, NULL);
CREATE TABLE erased (content BLOB PRIMARY KEY, time REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE sources (
    id INTEGER PRIMARY KEY, place TEXT NOT NULL UNIQUE, here INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE TABLE files (
    id INTEGER PRIMARY KEY, source INTEGER NOT NULL REFERENCES sources ON DELETE CASCADE,
    name TEXT NOT NULL, bytes INTEGER NOT NULL, changed INTEGER NOT NULL,
    camera TEXT, state TEXT NOT NULL CHECK (state IN ('open', 'whole', 'unreadable', 'erased')),
    reason TEXT NOT NULL DEFAULT '', content BLOB, UNIQUE (source, name)
) STRICT;
CREATE TABLE pictures (
    id INTEGER PRIMARY KEY, file INTEGER NOT NULL REFERENCES files ON DELETE CASCADE,
    frame INTEGER, position REAL, time REAL, width INTEGER NOT NULL, height INTEGER NOT NULL,
    added REAL NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX pictures_once ON pictures (file, coalesce(frame, -1));
CREATE INDEX pictures_by_time ON pictures (time);
CREATE TABLE tracks (
    id INTEGER PRIMARY KEY, file INTEGER NOT NULL REFERENCES files ON DELETE CASCADE,
    first REAL NOT NULL, last REAL NOT NULL, views INTEGER NOT NULL
) STRICT;
CREATE INDEX tracks_by_file ON tracks (file);
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
"""
# Files derived from the embeddings need to know which embeddings have changed: by blocks of 1,024
# ids, the last revision that did more than append. A trigger is one line.
_TOUCH = (
    "BEGIN INSERT INTO blocks VALUES (%s.person >> 10, (SELECT changes + 1 FROM counter)) "
    "ON CONFLICT (block) DO UPDATE SET changes = excluded.changes; END;\n"
)
_BLOCKS = (
    "CREATE TABLE blocks (block INTEGER PRIMARY KEY, changes INTEGER NOT NULL) STRICT;\n"
    "CREATE TRIGGER embedding_deleted AFTER DELETE ON embeddings "
    + _TOUCH % "old"
    + "CREATE TRIGGER embedding_updated AFTER UPDATE ON embeddings "
    + _TOUCH % "new"
    # An id that is used again, or one among older ones, is not appended.
    + "CREATE TRIGGER embedding_between AFTER INSERT ON embeddings "
    "WHEN new.person < (SELECT max(person) FROM embeddings) "
    "OR EXISTS (SELECT 1 FROM blocks WHERE block = new.person >> 10) " + _TOUCH % "new"
)
_MIGRATIONS: dict[int, str] = {
    # The time at which a picture was added was not kept: take the store's creation. No id is used
    # twice. Erased rows may have left copies: the next erasure rewrites the database.
    1: """
ALTER TABLE pictures ADD COLUMN added REAL NOT NULL DEFAULT 0;
UPDATE pictures SET added = (SELECT made FROM model);
ALTER TABLE counter ADD COLUMN people INTEGER NOT NULL DEFAULT 0;
UPDATE counter SET people = (SELECT coalesce(max(id), 0) FROM people);
CREATE TABLE keeping (days REAL CHECK (days > 0), unscrubbed INTEGER NOT NULL) STRICT;
INSERT INTO keeping VALUES (NULL, 1);
CREATE INDEX tracks_by_file ON tracks (file);
"""
    + _BLOCKS,
    # What came by import or merge was not noted: its sources count as indexed here.
    2: """
CREATE TABLE commits (changes INTEGER PRIMARY KEY, token BLOB NOT NULL) STRICT;
INSERT INTO commits SELECT changes, randomblob(16) FROM counter;
ALTER TABLE counter ADD COLUMN files INTEGER NOT NULL DEFAULT 0;
UPDATE counter SET files = (SELECT coalesce(max(id), 0) FROM files);
ALTER TABLE keeping ADD COLUMN erasure BLOB;
ALTER TABLE keeping ADD COLUMN audit_lines INTEGER;
ALTER TABLE keeping ADD COLUMN audit_head TEXT;
ALTER TABLE keeping ADD COLUMN clock REAL;
ALTER TABLE keeping ADD COLUMN doubted REAL;
UPDATE keeping SET erasure = randomblob(16);
CREATE TABLE erased (content BLOB PRIMARY KEY, time REAL NOT NULL) STRICT, WITHOUT ROWID;
ALTER TABLE files ADD COLUMN content BLOB;
ALTER TABLE sources ADD COLUMN here INTEGER NOT NULL DEFAULT 1;
"""
    # Version 0.1 took times and positions that no calendar has.
    + f"""
UPDATE pictures SET time = NULL WHERE NOT time BETWEEN {EARLIEST} AND {LATEST};
UPDATE pictures SET added = min(max(added, {EARLIEST}), {LATEST});
UPDATE pictures SET position = NULL WHERE NOT position BETWEEN 0 AND {LONGEST};
UPDATE tracks SET first = 0.0 WHERE NOT first BETWEEN 0 AND {LONGEST};
UPDATE tracks SET last = first WHERE NOT last BETWEEN first AND {LONGEST};
""",
}
"""By version, the statements that migrate a store to the next version."""


def prepare(folder: Path, connection: sqlite3.Connection, model: "ModelIdentity | None") -> None:
    """Create the tables of an empty database, or migrate an older one, in one transaction."""
    if model is None or not is_empty(connection):
        check_version(folder, connection, older=True)
    # Only now: a database of something else is left unchanged.
    connection.execute("PRAGMA synchronous = FULL")
    if not is_empty(connection) and _version(connection) == SCHEMA:
        connection.execute("PRAGMA journal_mode = WAL")
        return
    # Version 0.1 holds the lock of indexing for whatever it writes.
    alone = nullcontext() if is_empty(connection) else indexing_lock(folder)
    with alone, Turn(folder) as turn:
        connection.execute("PRAGMA journal_mode = WAL")
        turn.begin(connection)
        if is_empty(connection):
            assert model is not None
            _run(connection, _TABLES + _BLOCKS)
            about = (model.name, model.fingerprint, model.dim, int(model.weighted), time.time())
            connection.execute("INSERT INTO model VALUES (?, ?, ?, ?, ?)", about)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        else:
            for number in range(_version(connection), SCHEMA):
                _run(connection, _MIGRATIONS[number])
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.execute("COMMIT")


def check_version(folder: Path, connection: sqlite3.Connection, older: bool = False) -> None:
    """Raise `StoreError` unless it is a store of this version, or an older one if allowed."""
    if is_empty(connection):
        raise StoreError(
            f"{folder}: its database is empty; make a store with: personsearch index SOURCE "
            f"--store {folder}"
        )
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != _APPLICATION:
        raise StoreError(f"{folder}: people.sqlite is a database of something else, not a store")
    version = _version(connection)
    if version > SCHEMA:
        raise StoreError(
            f"{folder}: was written by a newer version of personsearch (schema {version}, this one "
            f"knows {SCHEMA}); update personsearch"
        )
    if version < SCHEMA and not older:
        raise StoreError(
            f"{folder}: has an older schema ({version}); migrate it with: "
            f"personsearch store compact --store {folder}"
        )


def is_empty(connection: sqlite3.Connection) -> bool:
    """Return whether a database has no tables, as one whose creation was interrupted."""
    return not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _run(connection: sqlite3.Connection, statements: str) -> None:
    # Not executescript(), which would commit what was done before.
    for statement in statements.split(";\n"):
        connection.execute(statement)
