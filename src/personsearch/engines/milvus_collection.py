"""A Milvus collection of people: its address, connection, fields and rows.

    NAME           one row a person: all of a `PersonRecord`, the thumbnail as base64
    NAME_files     one row an indexed file; row 0 holds the model and the version of the schema

Milvus has no field of bytes, so a thumbnail is a string: JPEG as base64, at most 49,149 bytes.
"""

import base64
import collections
import contextlib
import itertools
import json
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from personsearch.engines.engine import PersonRecord
from personsearch.errors import StoreError
from personsearch.parsing import parse_json
from personsearch.store import Filters, ModelIdentity, StoredPerson, TrackSpan, check_fingerprint

TOKEN = "PERSONSEARCH_MILVUS_TOKEN"
"""Environment variable of the token, ``user:password`` or an API key; never part of a URI."""
SCHEMA = 1
LIMIT = 16_384  # largest number of rows in one of Milvus's answers

SCHEMES = {"milvus": "http", "milvus+https": "https"}
LITE = "milvus-lite"

_PORT = 19_530
_DEFAULT = "people"
_TEXT = 4096  # largest number of bytes of a path on Linux
_BASE64 = 65_535  # largest number of characters of a VARCHAR
_JPEG = _BASE64 // 4 * 3
_OPTIONAL = {"nullable": True}
_PAGE = 512  # rows with thumbnails, so that an answer stays below Milvus's 64 MB
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")


@dataclass(frozen=True)
class MilvusAddress:
    """The address of a collection."""

    uri: str  # as the user named it
    server: str  # what pymilvus connects to: an address, or a local file's path
    collection: str  # name
    lite: bool = False  # whether it is a local file


def parse_address(uri: str) -> MilvusAddress:
    """Parse ``milvus://HOST:PORT/COLLECTION``, ``milvus+https:...`` or ``milvus-lite:PATH.db``."""
    scheme, _, rest = uri.partition(":")
    if scheme == LITE:
        if not rest.endswith(".db"):
            raise StoreError(f"{uri}: expected milvus-lite:PATH with a path that ends in .db")
        return MilvusAddress(uri, str(Path(rest).expanduser().absolute()), _DEFAULT, True)
    match = re.fullmatch(r"//([^/@?#\s:]+|\[[0-9a-fA-F:]+\])(?::(\d{1,5}))?(?:/([^/]*))?/?", rest)
    if scheme not in SCHEMES or match is None:
        raise StoreError(
            f"{uri}: expected milvus://HOST:PORT/COLLECTION, milvus+https://HOST:PORT/COLLECTION "
            f"or milvus-lite:PATH.db (a token goes into ${TOKEN})"
        )
    host, port, name = match[1], match[2] or _PORT, match[3] or _DEFAULT
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"{uri}: {name!r} is not a name of a collection; expected letters, digits and _"
        )
    return MilvusAddress(uri, f"{SCHEMES[scheme]}://{host}:{port}", name)


@contextlib.contextmanager
def reported(uri: str) -> Iterator[None]:
    """Raise pymilvus's errors as a `StoreError` of one line."""
    from pymilvus import MilvusException

    try:
        yield
    except MilvusException as error:
        said = " ".join(str(error.message).split())
        raise StoreError(f"{uri}: Milvus reports: {said}") from None


def connect(address: MilvusAddress, timeout: float = 10.0) -> Any:
    """Connect to the server, or to a local file."""
    try:
        import pymilvus
    except ModuleNotFoundError:
        raise StoreError(
            f"{address.uri}: needs pymilvus; install it with: pip install 'personsearch[milvus]'"
        ) from None
    # It also logs what it raises, with a traceback.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    if address.lite:
        try:
            import milvus_lite as _  # noqa: F401
        except ModuleNotFoundError:
            raise StoreError(
                f"{address.uri}: needs milvus-lite; install it with: pip install milvus-lite"
            ) from None
        Path(address.server).parent.mkdir(parents=True, exist_ok=True)
    with reported(address.uri):
        client = pymilvus.MilvusClient(
            address.server, token=os.environ.get(TOKEN, ""), timeout=timeout
        )
    with _LOCK:
        _FILES[address.server] += address.lite
    return client


def disconnect(client: Any, address: MilvusAddress) -> None:
    """Close a connection; the last one to a local file also stops its server."""
    client.close()
    if not address.lite:
        return
    from milvus_lite.server_manager import server_manager_instance

    with _LOCK:
        _FILES[address.server] -= 1
        if not _FILES[address.server]:
            server_manager_instance.release_server(address.server)


_FILES: collections.Counter[str] = collections.Counter()
"""Number of connections of this process to each local file."""
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Expression:
    """A boolean expression of Milvus; without a text it matches everyone.

    The text has ``{name}`` in place of each value; values are never part of what a server parses.
    """

    text: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, filters: Filters, without: Sequence[int] = ()) -> Self:
        """Filters as an expression."""
        return cls(*filters.milvus(without))

    @classmethod
    def ids(cls, ids: Sequence[int]) -> Self:
        """An expression that matches these ids."""
        return cls("id in {ids}", {"ids": [int(one) for one in ids]})

    def literal(self) -> str:
        """The text with its values written out, for Milvus Lite, which takes no values apart."""
        return self.text.format(**{name: _literal(value) for name, value in self.values.items()})


_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPED)}"'
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_literal, value))}]"
    assert isinstance(value, int | float)
    return repr(value)


_EVERYONE = Expression("id >= {least}", {"least": 0})


class Collection:
    """The rows of a collection; opened by `open_collection`, for several threads."""

    def __init__(
        self, client: Any, address: MilvusAddress, name: str, half: bool, templates: bool
    ) -> None:
        self.client, self.address, self.name, self.half = client, address, name, half
        self._templates = templates

    def arguments(self, expression: Expression) -> dict[str, Any]:
        """Arguments of pymilvus for an expression, with reads that see the last write."""
        strong = {"consistency_level": "Strong"}
        if not self._templates:
            return {"filter": expression.literal(), **strong}
        return {"filter": expression.text, "filter_params": dict(expression.values), **strong}

    def rows(self, expression: Expression, fields: Sequence[str]) -> list[dict[str, Any]]:
        """The matching rows, at most `LIMIT`."""
        with reported(self.address.uri):
            found = self.client.query(
                self.name, output_fields=list(fields), **self.arguments(expression)
            )
        return list(found)

    def pages(
        self, expression: Expression, fields: Sequence[str], page: int = LIMIT
    ) -> Iterator[list[dict[str, Any]]]:
        """All matching rows, by ascending id."""
        arguments = self.arguments(expression if expression.text else _EVERYONE)
        if "filter_params" in arguments:  # pymilvus's iterator has another name for it
            arguments["expr_params"] = arguments.pop("filter_params")
        with reported(self.address.uri):
            pages = self.client.query_iterator(
                self.name, batch_size=page, output_fields=list(fields), **arguments
            )
            try:
                while found := pages.next():
                    yield list(found)
            finally:
                pages.close()

    def every(self, expression: Expression, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
        """All matching rows one after the other, by ascending id."""
        return itertools.chain.from_iterable(self.pages(expression, fields))

    def count(self, expression: Expression) -> int:
        """Number of matching rows."""
        (row,) = self.rows(expression if expression.text else _EVERYONE, ["count(*)"])
        return int(row["count(*)"])

    def upsert(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write rows, or replace those of the same id."""
        with reported(self.address.uri):
            for begin in range(0, len(rows), _PAGE):
                self.client.upsert(self.name, list(rows[begin : begin + _PAGE]))

    def delete(self, ids: Sequence[int]) -> None:
        """Delete rows by id."""
        with reported(self.address.uri):
            for begin in range(0, len(ids), LIMIT):
                self.client.delete(self.name, ids=[int(one) for one in ids[begin : begin + LIMIT]])

    def vector(self, value: NDArray[np.float16]) -> Any:
        """A vector in the form of the collection's field."""
        half = np.ascontiguousarray(value, np.float16)
        return half.tobytes() if self.half else half.astype(np.float32)


_TRACK = ("track", "track_first", "track_last", "track_views")
FIELDS = (
    *("id", "source", "name", "camera", "time", "frame", "position", "x1", "y1", "x2", "y2"),
    *("score", "picture_width", "picture_height"),
    *_TRACK,
)
"""The fields of a `StoredPerson`."""


def row_of(collection: Collection, record: PersonRecord) -> dict[str, Any]:
    """Return a person as a row."""
    person = record.person
    if len(record.thumbnail) > _JPEG:
        raise StoreError(
            f"{collection.address.uri}: received a thumbnail of {len(record.thumbnail)} bytes for "
            f"person {person.id}, expected at most {_JPEG}"
        )
    x1, y1, x2, y2 = np.asarray(person.box, np.float32).tolist()
    track: tuple[float | None, ...] = (None,) * len(_TRACK)
    if (span := person.track) is not None:
        track = (int(span.id), float(span.first), float(span.last), int(span.views))
    return {
        "id": int(person.id),
        "vector": collection.vector(record.vector),
        "source": person.source,
        "name": person.name,
        "camera": person.camera,
        "time": _or_none(float, person.time),
        "frame": _or_none(int, person.frame),
        "position": _or_none(float, person.position),
        **{"x1": x1, "y1": y1, "x2": x2, "y2": y2, "height": y2 - y1},
        "score": float(person.score),
        "picture_width": int(person.size[0]),
        "picture_height": int(person.size[1]),
        **dict(zip(_TRACK, track, strict=True)),
        "thumbnail": base64.b64encode(record.thumbnail).decode("ascii"),
    }


def _or_none(kind: type, value: Any) -> Any:
    return None if value is None else kind(value)


def person_of(row: Mapping[str, Any]) -> StoredPerson:
    """Return the person in a row."""
    track = None if row["track"] is None else TrackSpan(*(row[name] for name in _TRACK))
    return StoredPerson(
        *(row["id"], row["source"], row["name"]),
        np.array([row[side] for side in ("x1", "y1", "x2", "y2")], np.float32),
        *(row["score"], row["frame"], row["position"], row["time"], row["camera"]),
        size=(row["picture_width"], row["picture_height"]),
        track=track,
    )


def vectors_of(rows: Sequence[Mapping[str, Any]], dim: int) -> NDArray[np.float16]:
    """Return the embeddings (N, D) of rows."""
    found = np.empty((len(rows), dim), np.float16)
    for index, row in enumerate(rows):
        value = row["vector"]
        if isinstance(value, list) and value and isinstance(value[0], bytes):
            (value,) = value
        found[index] = np.frombuffer(value, np.float16) if isinstance(value, bytes) else value
    return found


def thumbnail_of(row: Mapping[str, Any]) -> bytes:
    """Return the thumbnail of a row."""
    return base64.b64decode(row["thumbnail"])


def open_collection(
    client: Any, address: MilvusAddress, model: ModelIdentity | None, create: bool
) -> tuple[Collection, Collection, ModelIdentity]:
    """Open the collections of people and files, created on request, and read their model."""
    uri, name = address.uri, address.collection
    with reported(uri):
        lite = str(client.get_server_version()).startswith("milvus_lite")
        half = not lite  # Milvus Lite has no vectors of half precision; it keeps the same numbers
        files = Collection(client, address, f"{name}_files", False, not lite)
        if not client.has_collection(name):
            if not create or model is None:
                raise StoreError(
                    f"{uri}: there is no collection {name!r} here; make one with: personsearch "
                    f"index SOURCE --store {uri}"
                )
            if not client.has_collection(files.name):
                # Its vector is unused: Milvus has no collection without one.
                _make(client, files.name, _INDEXED, 2)
            about = json.dumps({"schema": SCHEMA, **vars(model)})
            files.upsert([file_row(files, 0, note=about, state="model")])
            # Created last: where it exists, the other does.
            _make(client, name, _PEOPLE, model.dim, half)
        there = {one["name"]: one for one in client.describe_collection(name)["fields"]}
        known = client.has_collection(files.name)
    if not known or not {*FIELDS, "vector", "thumbnail"} <= there.keys():
        raise StoreError(f"{uri}: collection {name!r} was not made by personsearch; name another")
    half = there["vector"]["type"].name == "FLOAT16_VECTOR"
    with reported(uri):
        for one in (files.name, name):
            client.load_collection(one)
    made_by = _model(uri, files)
    if model is not None:
        check_fingerprint(uri, made_by, model, "into another collection")
    return Collection(client, address, name, half, not lite), files, made_by


def file_row(files: Collection, row: int, **values: Any) -> dict[str, Any]:
    """Return a row of the collection of files."""
    empty = {"source": "", "name": "", "bytes": -1, "changed": 0, "state": "", "note": ""}
    return {"id": row, "vector": np.zeros(2, np.float32), **empty, **values}


def _model(uri: str, files: Collection) -> ModelIdentity:
    rows = files.rows(Expression.ids([0]), ["note"])
    try:
        about = parse_json(rows[0]["note"])
        schema = int(about.pop("schema"))
        made_by = ModelIdentity(**about)
    except (IndexError, KeyError, TypeError, ValueError):
        raise StoreError(f"{uri}: does not name the model that made it; it is damaged") from None
    if schema > SCHEMA:
        raise StoreError(
            f"{uri}: was written by a newer version of personsearch (schema {schema}, this one "
            f"knows {SCHEMA}); update personsearch"
        )
    return made_by


_Fields = Mapping[str, tuple[str, Mapping[str, Any]]]  # type and options by name
_PEOPLE: _Fields = {
    **dict.fromkeys(("source", "name"), ("VARCHAR", {"max_length": _TEXT})),
    "camera": ("VARCHAR", {"max_length": _TEXT, **_OPTIONAL}),
    **dict.fromkeys(("time", "position", "track_first", "track_last"), ("DOUBLE", _OPTIONAL)),
    **dict.fromkeys(("frame", "track", "track_views"), ("INT64", _OPTIONAL)),
    **dict.fromkeys(("x1", "y1", "x2", "y2", "height", "score"), ("DOUBLE", {})),
    **dict.fromkeys(("picture_width", "picture_height"), ("INT64", {})),
    # Read one by one, for display: it stays on the disk.
    "thumbnail": ("VARCHAR", {"max_length": _BASE64, "mmap_enabled": True}),
}
_INDEXED: _Fields = {
    **dict.fromkeys(("source", "name", "note"), ("VARCHAR", {"max_length": _TEXT})),
    "state": ("VARCHAR", {"max_length": 16}),
    **dict.fromkeys(("bytes", "changed"), ("INT64", {})),
}


def _make(client: Any, name: str, fields: _Fields, dim: int, half: bool = False) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT16_VECTOR if half else DataType.FLOAT_VECTOR, dim=dim)
    for field_name, (kind, options) in fields.items():
        schema.add_field(field_name, DataType[kind], **options)
    # Exact. Users with too many people for it create another index in Milvus.
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="IP")
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")
