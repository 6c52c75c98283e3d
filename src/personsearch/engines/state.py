"""Schemes of stores, and where the keys and the audit log of a store are kept."""

import hashlib
import os
import re
from pathlib import Path

from platformdirs import user_data_path

from personsearch.errors import StoreError
from personsearch.store.rights import private_folder, read_only

VARIABLE = "PERSONSEARCH_STATE"
"""Environment variable that names the folder of keys and audit log of a store on a server."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?=//)|(milvus-lite):")


def scheme_of(uri: Path | str) -> str:
    """Return the scheme, such as ``milvus`` or ``milvus-lite``; empty for a folder."""
    match = None if isinstance(uri, Path) else _SCHEME.match(uri)
    return "" if match is None else match[1] or match[2]


def check_scheme(uri: Path | str) -> None:
    """Raise `StoreError` for an unknown scheme."""
    scheme = scheme_of(uri)
    if scheme in ("", "milvus", "milvus+https", "milvus-lite"):
        return
    raise StoreError(
        f"{uri}: unknown store scheme {scheme!r}; expected a folder, "
        "milvus://HOST:PORT/COLLECTION, milvus+https://HOST:PORT/COLLECTION or milvus-lite:PATH.db"
    )


def state_folder(uri: Path | str) -> Path:
    """Return the folder of keys and audit log: the store's own, if it is a folder.

    For a store on a server or on read-only media it is ``$PERSONSEARCH_STATE``, or a folder of this
    user for that URI or folder.

    Raises:
        StoreError: a URI of an unknown scheme.
    """
    if not scheme_of(uri):
        if not read_only(Path(uri)):
            return Path(uri)
        uri = str(Path(uri).resolve())
    check_scheme(uri)
    digest = hashlib.sha256(str(uri).encode()).hexdigest()[:16]
    named = os.environ.get(VARIABLE)
    folder = Path(named) if named else user_data_path("personsearch") / "state" / digest
    private_folder(folder)
    return folder
