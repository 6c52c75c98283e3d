"""Opens the engine that a place names: a folder's store, or a Milvus collection."""

import re
from contextlib import closing
from pathlib import Path

from personsearch.engines.engine import Engine
from personsearch.errors import StoreError
from personsearch.store import DATABASE, ModelIdentity, open_store

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?=//)|(milvus-lite):")


def scheme_of(place: Path | str) -> str:
    """What stands before ``://``, or ``milvus-lite``; empty for a folder."""
    match = None if isinstance(place, Path) else _SCHEME.match(place)
    return "" if match is None else match[1] or match[2]


def open_engine(
    place: Path | str, *, model: ModelIdentity | None = None, create: bool = False
) -> Engine:
    """Opens what keeps people.

    Args:
        place: a store's folder, ``milvus://HOST:PORT/COLLECTION``, ``milvus+https://...`` (a token
            comes from the environment: PERSONSEARCH_MILVUS_TOKEN) or ``milvus-lite:PATH.db``.
        model: whose embeddings are expected; None for any.
        create: make it if there is none; needs `model`.

    Raises:
        StoreError: there is none, it is another model's, or a place of another kind.
    """
    scheme = scheme_of(place)
    if not scheme:
        from personsearch.engines.sqlite import StoreEngine

        if create:
            with open_store(place, model=model, write=True):
                pass
        return StoreEngine(place, model)
    check_scheme(place)
    from personsearch.engines.milvus import MilvusEngine

    return MilvusEngine(str(place), model, create=create)


def check_scheme(place: Path | str) -> None:
    """A place of an unknown kind is refused.

    Raises:
        StoreError: it is one.
    """
    scheme = scheme_of(place)
    if scheme in ("", "milvus", "milvus+https", "milvus-lite"):
        return
    raise StoreError(
        f"{place}: {scheme!r} is no kind of store; expected a folder, "
        "milvus://HOST:PORT/COLLECTION, milvus+https://HOST:PORT/COLLECTION or milvus-lite:PATH.db"
    )


def made_by(place: Path | str) -> ModelIdentity | None:
    """Which model made the embeddings there; None if nothing is there yet.

    Raises:
        StoreError: what is there cannot be read.
    """
    check_scheme(place)
    if not scheme_of(place):
        if not (Path(place) / DATABASE).is_file():
            return None
    else:
        from personsearch.engines.milvus import has_people

        if not has_people(str(place)):
            return None
    with closing(open_engine(place)) as engine:
        return engine.model
