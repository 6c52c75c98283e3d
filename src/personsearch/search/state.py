"""Where the keys and the audit log of an archive are kept."""

import hashlib
import os
from pathlib import Path

from platformdirs import user_data_path

from personsearch.engines.uri import check_scheme, scheme_of
from personsearch.store.rights import private_folder, read_only

VARIABLE = "PERSONSEARCH_STATE"
"""Environment variable that names the folder of keys and audit log of a store on a server."""


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
