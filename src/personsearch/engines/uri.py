"""Opens the engine that a URI names: a folder's store, or a Milvus collection."""

import re
from contextlib import closing
from pathlib import Path

from personsearch.engines.engine import Engine
from personsearch.errors import StoreError
from personsearch.store import DATABASE, ModelIdentity, open_store

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?=//)|(milvus-lite):")


def scheme_of(uri: Path | str) -> str:
    """Return the scheme, such as ``milvus`` or ``milvus-lite``; empty for a folder."""
    match = None if isinstance(uri, Path) else _SCHEME.match(uri)
    return "" if match is None else match[1] or match[2]


def open_engine(
    uri: Path | str, *, model: ModelIdentity | None = None, create: bool = False
) -> Engine:
    """Open the engine of a store.

    Args:
        uri: a store's folder, ``milvus://HOST:PORT/COLLECTION``, ``milvus+https://...`` (a token
            comes from the environment: PERSONSEARCH_MILVUS_TOKEN) or ``milvus-lite:PATH.db``.
        model: whose embeddings are expected; None for any.
        create: create the store if there is none; needs `model`.

    Raises:
        StoreError: there is none, it is another model's, or the scheme is unknown.
    """
    scheme = scheme_of(uri)
    if not scheme:
        from personsearch.engines.sqlite import StoreEngine

        if create:
            with open_store(uri, model=model, write=True):
                pass
        return StoreEngine(uri, model)
    check_scheme(uri)
    from personsearch.engines.milvus import MilvusEngine

    return MilvusEngine(str(uri), model, create=create)


def check_scheme(uri: Path | str) -> None:
    """Raise `StoreError` for an unknown scheme."""
    scheme = scheme_of(uri)
    if scheme in ("", "milvus", "milvus+https", "milvus-lite"):
        return
    raise StoreError(
        f"{uri}: unknown store scheme {scheme!r}; expected a folder, "
        "milvus://HOST:PORT/COLLECTION, milvus+https://HOST:PORT/COLLECTION or milvus-lite:PATH.db"
    )


def made_by(uri: Path | str) -> ModelIdentity | None:
    """Return the model that made a store's embeddings; None if there is no store yet."""
    check_scheme(uri)
    if not scheme_of(uri):
        if not (Path(uri) / DATABASE).is_file():
            return None
    else:
        from personsearch.engines.milvus import has_people

        if not has_people(str(uri)):
            return None
    with closing(open_engine(uri)) as engine:
        return engine.model
