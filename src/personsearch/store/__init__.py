"""The SQLite store: records, filters, schema, writing, merging, exchange, checks, audit."""

from personsearch.store.connection import DATABASE
from personsearch.store.filters import EVERYONE, Filters
from personsearch.store.people import (
    EmbeddingRows,
    FileState,
    FoundPeople,
    KnownFile,
    ModelIdentity,
    StoredPerson,
    TrackSpan,
)
from personsearch.store.reading import LAST_ID, NO_ID
from personsearch.store.store import Store, check_fingerprint, open_store
from personsearch.store.tracks import FrameDetection, Track
from personsearch.types import FileStamp

__all__ = [
    "DATABASE",
    "EVERYONE",
    "LAST_ID",
    "NO_ID",
    "EmbeddingRows",
    "FileStamp",
    "FileState",
    "Filters",
    "FoundPeople",
    "FrameDetection",
    "KnownFile",
    "ModelIdentity",
    "Store",
    "StoredPerson",
    "Track",
    "TrackSpan",
    "check_fingerprint",
    "open_store",
]
