"""The SQLite store: records, filters, schema, writing, merging, exchange, checks, audit."""

from personsearch.store.filters import EVERYONE, Filters
from personsearch.store.store import (
    DATABASE,
    LAST_ID,
    NO_ID,
    EmbeddingRows,
    FoundPeople,
    KnownFile,
    ModelIdentity,
    Store,
    StoredPerson,
    TrackSpan,
    open_store,
)
from personsearch.types import FileStamp

__all__ = [
    "DATABASE",
    "EVERYONE",
    "LAST_ID",
    "NO_ID",
    "EmbeddingRows",
    "FileStamp",
    "Filters",
    "FoundPeople",
    "KnownFile",
    "ModelIdentity",
    "Store",
    "StoredPerson",
    "TrackSpan",
    "open_store",
]
