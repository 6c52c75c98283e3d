"""The store: the people found in pictures, in one SQLite database, the one source of truth.

    STORE/people.sqlite    sources, files, pictures, people, embeddings, thumbnails
    STORE/writer.lock      held by the one run that indexes
    STORE/turn.lock        held by whoever writes next
    STORE/index/           derived files for quick search, if there are many people

A picture and the people in it are written in one transaction: after a kill or a power cut all of it
is there, or nothing. Erased people are overwritten, and so is every copy of them in the database's
log and in derived files.
"""

import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from personsearch.errors import StoreError
from personsearch.store.connection import DATABASE, connect, reported
from personsearch.store.people import ModelIdentity
from personsearch.store.rights import private_folder
from personsearch.store.schema import check_version, is_empty, prepare
from personsearch.store.writing import Writing


class Store(Writing):
    """An open store. Opened by `open_store`; not for several threads at once."""

    def changes(self) -> int:
        """Old name of `revision`."""
        warnings.warn("Store.changes() is now revision()", DeprecationWarning, stacklevel=2)
        return self.revision()


@contextmanager
def open_store(
    folder: Path | str,
    *,
    model: ModelIdentity | None = None,
    write: bool = False,
    caller: str | None = None,
) -> Iterator[Store]:
    """Open a store; created, if it is opened for writing and there is none.

    Args:
        model: that indexes or searches; a store of another model is refused. None to read or erase
            only.
        write: whether to open for writing. Several processes may: each transaction waits for its
            turn, see `Connection.writing`. A run that indexes holds `locks.indexing_lock`, too.
        caller: who erases, for the audit log; None for the user of this machine.

    Raises:
        StoreError: there is none, it is no store, damaged, of a newer version, or made by another
            model; or an older one is to be migrated while another process writes to it.
    """
    folder = Path(folder)
    exists = (folder / DATABASE).is_file()
    if not exists and not (write and model is not None):
        raise StoreError(
            f"{folder}: there is no store here; make one with: personsearch index SOURCE --store "
            f"{folder}"
        )
    if write:
        private_folder(folder)
    connection = connect(folder, write)
    try:
        with reported(folder):
            if write:
                prepare(folder, connection, model)
            check_version(folder, connection)
            made_by = _model(folder, connection)
        if model is not None:
            check_fingerprint(str(folder), made_by, model, "into another store")
        yield Store(folder, connection, made_by, caller)
    finally:
        connection.close()


def has_store(folder: Path) -> bool:
    """Return whether a folder has a store; False where the creation of one was interrupted."""
    if not (folder / DATABASE).is_file():
        return False
    with reported(folder), closing(connect(folder, write=False)) as connection:
        return not is_empty(connection)


def check_fingerprint(uri: str, made_by: ModelIdentity, model: ModelIdentity, where: str) -> None:
    """Raise `StoreError` for a model whose embeddings cannot be compared with a store's."""
    if model.fingerprint != made_by.fingerprint:
        raise StoreError(
            f"{uri}: was made by model {made_by.name!r} ({made_by.fingerprint[:12]}), this is "
            f"{model.name!r} ({model.fingerprint[:12]}); their embeddings cannot be compared. Use "
            f"--model {made_by.name}, or index {where}"
        )


def _model(folder: Path, connection: sqlite3.Connection) -> ModelIdentity:
    row = connection.execute("SELECT name, fingerprint, dim, weighted FROM model").fetchone()
    if row is None:
        raise StoreError(f"{folder}: does not say which model made it; the store is damaged")
    return ModelIdentity(row[0], row[1], int(row[2]), bool(row[3]))
