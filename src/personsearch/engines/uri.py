"""Opens the engine that a URI names: a folder's store, or a Milvus collection."""

from contextlib import closing
from pathlib import Path

from personsearch.engines.engine import Engine
from personsearch.engines.state import check_scheme as check_scheme
from personsearch.engines.state import scheme_of as scheme_of
from personsearch.store import ModelIdentity, open_store
from personsearch.store.store import has_store


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


def made_by(uri: Path | str) -> ModelIdentity | None:
    """Return the model that made a store's embeddings; None if there is no store yet."""
    check_scheme(uri)
    if not scheme_of(uri):
        if not has_store(Path(uri)):
            return None
    else:
        from personsearch.engines.milvus import has_people

        if not has_people(str(uri)):
            return None
    with closing(open_engine(uri)) as engine:
        return engine.model
