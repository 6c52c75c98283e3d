"""A Milvus collection of people: where it lies, its fields, and rows of them.

    NAME           a row a person: all of a `PersonRecord`, the thumbnail as base64
    NAME_files     a row a file that was indexed, and row 0: the model and the version of all this

A thumbnail is a string, for Milvus has no field of bytes: JPEG as base64, at most 49,149 bytes.
"""

import base64
import collections
import contextlib
import json
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.engines.engine import PersonRecord
from personsearch.errors import StoreError
from personsearch.store import Filters, ModelIdentity, StoredPerson, TrackSpan

TOKEN = "PERSONSEARCH_MILVUS_TOKEN"
"""Environment variable of the token, ``user:password`` or an API key; it is never in a place."""
SCHEMA = 1
LIMIT = 16_384
"""Rows that Milvus gives in one answer, at the most."""

SCHEMES = {"milvus": "http", "milvus+https": "https"}
LITE = "milvus-lite"

_PORT = 19_530
_DEFAULT = "people"
_TEXT = 4096  # bytes of a path, at the most, on Linux
_BASE64 = 65_535  # characters of a VARCHAR, at the most
_JPEG = _BASE64 // 4 * 3
_PAGE = 512  # rows with thumbnails, so that an answer stays below Milvus's 64 MB
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")


@dataclass(frozen=True)
class MilvusAddress:
    """Where a collection lies.

    Attributes:
        place: as it was named.
        uri: what pymilvus connects to: an address, or a local file's path.
        collection: name.
        lite: whether it is a local file.
    """

    place: str
    uri: str
    collection: str
    lite: bool = False


def parse_address(place: str) -> MilvusAddress:
    """``milvus://HOST:PORT/COLLECTION``, ``milvus+https://...`` or ``milvus-lite:PATH.db``.

    Raises:
        StoreError: it is none of these.
    """
    scheme, _, rest = place.partition(":")
    if scheme == LITE:
        if not rest.endswith(".db"):
            raise StoreError(f"{place}: expected milvus-lite:PATH with a path that ends in .db")
        return MilvusAddress(place, str(Path(rest).expanduser().absolute()), _DEFAULT, True)
    match = re.fullmatch(r"//([^/@?#\s:]+|\[[0-9a-fA-F:]+\])(?::(\d{1,5}))?(?:/([^/]*))?/?", rest)
    if scheme not in SCHEMES or match is None:
        raise StoreError(
            f"{place}: expected milvus://HOST:PORT/COLLECTION, milvus+https://HOST:PORT/COLLECTION "
            f"or milvus-lite:PATH.db (a token goes into ${TOKEN})"
        )
    host, port, name = match[1], match[2] or _PORT, match[3] or _DEFAULT
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"{place}: {name!r} is not a name of a collection; expected letters, digits and _"
        )
    return MilvusAddress(place, f"{SCHEMES[scheme]}://{host}:{port}", name)


@contextlib.contextmanager
def reported(place: str) -> Iterator[None]:
    """Turns what pymilvus raises into one clear line."""
    from pymilvus import MilvusException

    try:
        yield
    except MilvusException as error:
        said = " ".join(str(error.message).split())
        raise StoreError(f"{place}: Milvus says: {said}") from None


def connect(address: MilvusAddress, timeout: float = 10.0) -> Any:
    """A client of the server, or of a local file.

    Raises:
        StoreError: it cannot be reached, or pymilvus is not installed.
    """
    try:
        import pymilvus
    except ModuleNotFoundError:
        raise StoreError(
            f"{address.place}: needs pymilvus; install it with: pip install 'personsearch[milvus]'"
        ) from None
    # It logs with a traceback what it raises, too.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    if address.lite:
        try:
            import milvus_lite as _  # noqa: F401
        except ModuleNotFoundError:
            raise StoreError(
                f"{address.place}: needs milvus-lite; install it with: pip install milvus-lite"
            ) from None
        Path(address.uri).parent.mkdir(parents=True, exist_ok=True)
    with reported(address.place):
        client = pymilvus.MilvusClient(
            address.uri, token=os.environ.get(TOKEN, ""), timeout=timeout
        )
    with _LOCK:
        _FILES[address.uri] += address.lite
    return client


def disconnect(client: Any, address: MilvusAddress) -> None:
    """Ends a connection; the last one to a local file ends its server, too."""
    client.close()
    if not address.lite:
        return
    from milvus_lite.server_manager import server_manager_instance

    with _LOCK:
        _FILES[address.uri] -= 1
        if not _FILES[address.uri]:
            server_manager_instance.release_server(address.uri)


_FILES: collections.Counter[str] = collections.Counter()
"""How many connections this process has to a local file."""
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Expression:
    """Milvus's boolean expression with named places for values.

    Attributes:
        text: in which ``{name}`` stands for a value.
        values: by name; never part of the text that a server gets.
    """

    text: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    def literal(self) -> str:
        """The text with its values written out: Milvus Lite takes no values beside it."""
        return self.text.format(**{name: _literal(value) for name, value in self.values.items()})


_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPED)}"'
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_literal, value))}]"
    assert isinstance(value, int | float)
    return repr(value)


def condition(filters: Filters, without: Sequence[int] = ()) -> Expression:
    """Filters as an expression."""
    return Expression(*filters.milvus(without))


def named(ids: Sequence[int]) -> Expression:
    """Rows of some ids."""
    return Expression("id in {ids}", {"ids": [int(one) for one in ids]})


class Collection:
    """People in Milvus, row by row. Made by `open_collection`; for several threads."""

    def __init__(
        self, client: Any, address: MilvusAddress, name: str, half: bool, templates: bool
    ) -> None:
        self.client, self.address, self.name, self.half = client, address, name, half
        self._templates = templates

    def given(self, expression: Expression) -> dict[str, Any]:
        """An expression as arguments of pymilvus, and that the last write has to be seen."""
        strong = {"consistency_level": "Strong"}
        if not self._templates:
            return {"filter": expression.literal(), **strong}
        return {"filter": expression.text, "filter_params": dict(expression.values), **strong}

    def rows(self, expression: Expression, fields: Sequence[str]) -> list[dict[str, Any]]:
        """Those that are meant; at most `LIMIT`."""
        with reported(self.address.place):
            found = self.client.query(
                self.name, output_fields=list(fields), **self.given(expression)
            )
        return list(found)

    def pages(
        self, expression: Expression, fields: Sequence[str], page: int = LIMIT
    ) -> Iterator[list[dict[str, Any]]]:
        """All that are meant, by ascending id."""
        given = self.given(expression)
        if "filter_params" in given:  # pymilvus's iterator has another name for it
            given["expr_params"] = given.pop("filter_params")
        with reported(self.address.place):
            pages = self.client.query_iterator(
                self.name, batch_size=page, output_fields=list(fields), **given
            )
            try:
                while found := pages.next():
                    yield list(found)
            finally:
                pages.close()

    def count(self, expression: Expression) -> int:
        """How many are meant."""
        everyone = expression if expression.text else Expression("id >= {least}", {"least": 0})
        (row,) = self.rows(everyone, ["count(*)"])
        return int(row["count(*)"])

    def upsert(self, rows: Sequence[dict[str, Any]]) -> None:
        """Writes rows, or replaces those of the same id."""
        with reported(self.address.place):
            for begin in range(0, len(rows), _PAGE):
                self.client.upsert(self.name, list(rows[begin : begin + _PAGE]))

    def delete(self, ids: Sequence[int]) -> None:
        """Deletes rows."""
        with reported(self.address.place):
            for begin in range(0, len(ids), LIMIT):
                self.client.delete(self.name, ids=[int(one) for one in ids[begin : begin + LIMIT]])

    def vector(self, value: NDArray[np.float16]) -> Any:
        """A vector as the collection's field takes it."""
        half = np.ascontiguousarray(value, np.float16)
        return half.tobytes() if self.half else half.astype(np.float32)


FIELDS = (
    *("id", "source", "name", "camera", "time", "frame", "position", "x1", "y1", "x2", "y2"),
    *("score", "picture_width", "picture_height"),
    *("track", "track_first", "track_last", "track_views"),
)
"""All that a `StoredPerson` is made of."""


def row_of(collection: Collection, record: PersonRecord) -> dict[str, Any]:
    """A person as a row.

    Raises:
        StoreError: the thumbnail is too large for Milvus.
    """
    person = record.person
    if len(record.thumbnail) > _JPEG:
        raise StoreError(
            f"{collection.address.place}: a thumbnail of {len(record.thumbnail)} bytes came for "
            f"person {person.id}, expected at most {_JPEG}"
        )
    x1, y1, x2, y2 = np.asarray(person.box, np.float32).tolist()
    span = person.track
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
        "track": None if span is None else int(span.id),
        "track_first": None if span is None else float(span.first),
        "track_last": None if span is None else float(span.last),
        "track_views": None if span is None else int(span.views),
        "thumbnail": base64.b64encode(record.thumbnail).decode("ascii"),
    }


def _or_none(kind: type, value: Any) -> Any:
    return None if value is None else kind(value)


def person_of(row: Mapping[str, Any]) -> StoredPerson:
    """A row as a person."""
    track = None
    if row["track"] is not None:
        track = TrackSpan(row["track"], row["track_first"], row["track_last"], row["track_views"])
    return StoredPerson(
        *(row["id"], row["source"], row["name"]),
        np.array([row[side] for side in ("x1", "y1", "x2", "y2")], np.float32),
        *(row["score"], row["frame"], row["position"], row["time"], row["camera"]),
        size=(row["picture_width"], row["picture_height"]),
        track=track,
    )


def vectors_of(rows: Sequence[Mapping[str, Any]], dim: int) -> NDArray[np.float16]:
    """The embeddings (N, D) of rows."""
    found = np.empty((len(rows), dim), np.float16)
    for index, row in enumerate(rows):
        value = row["vector"]
        if isinstance(value, list) and value and isinstance(value[0], bytes):
            (value,) = value
        half = np.frombuffer(value, np.float16) if isinstance(value, bytes) else value
        found[index] = half
    return found


def thumbnail_of(row: Mapping[str, Any]) -> bytes:
    """The thumbnail of a row."""
    return base64.b64decode(row["thumbnail"])


def open_collection(
    client: Any, address: MilvusAddress, model: ModelIdentity | None, create: bool
) -> tuple[Collection, Collection, ModelIdentity]:
    """The collections of people and files, made if wished, and the model of the embeddings.

    Raises:
        StoreError: there is none, or it is something else, of a newer version, or another model's.
    """
    place, name = address.place, address.collection
    with reported(place):
        lite = str(client.get_server_version()).startswith("milvus_lite")
        half = not lite  # Milvus Lite has no vectors of half precision; it keeps the same numbers
        files = Collection(client, address, f"{name}_files", False, not lite)
        if not client.has_collection(name):
            if not create or model is None:
                raise StoreError(
                    f"{place}: there is no collection {name!r} here; make one with: personsearch "
                    f"index SOURCE --store {place}"
                )
            if not client.has_collection(files.name):
                _make_files(client, files.name)
            files.upsert([_about(files, model)])
            # Made last: where it is, everything is.
            _make_people(client, name, model.dim, half)
        there = {one["name"]: one for one in client.describe_collection(name)["fields"]}
        known = client.has_collection(files.name)
    if not known or not {*FIELDS, "vector", "thumbnail"} <= there.keys():
        raise StoreError(f"{place}: collection {name!r} was not made by personsearch; name another")
    half = there["vector"]["type"].name == "FLOAT16_VECTOR"
    with reported(place):
        for one in (files.name, name):
            client.load_collection(one)
    made_by = _model(place, files)
    if model is not None and model.fingerprint != made_by.fingerprint:
        raise StoreError(
            f"{place}: was made by model {made_by.name!r} ({made_by.fingerprint[:12]}), this is "
            f"{model.name!r} ({model.fingerprint[:12]}); their embeddings cannot be compared. Use "
            f"--model {made_by.name}, or index into another collection"
        )
    return Collection(client, address, name, half, not lite), files, made_by


def _about(files: Collection, model: ModelIdentity) -> dict[str, Any]:
    about = json.dumps({"schema": SCHEMA, **vars(model)})
    return file_row(files, 0, note=about, state="model")


def file_row(files: Collection, row: int, **values: Any) -> dict[str, Any]:
    """A row of the collection of files."""
    empty = {"source": "", "name": "", "bytes": -1, "changed": 0, "state": "", "note": ""}
    return {"id": row, "vector": np.zeros(2, np.float32), **empty, **values}


def _model(place: str, files: Collection) -> ModelIdentity:
    rows = files.rows(named([0]), ["note"])
    try:
        about = json.loads(rows[0]["note"])
        schema = int(about.pop("schema"))
        made_by = ModelIdentity(**about)
    except (IndexError, KeyError, TypeError, ValueError):
        raise StoreError(f"{place}: does not say which model made it; it is damaged") from None
    if schema > SCHEMA:
        raise StoreError(
            f"{place}: was written by a newer version of personsearch (schema {schema}, this one "
            f"knows {SCHEMA}); update personsearch"
        )
    return made_by


def _make_people(client: Any, name: str, dim: int, half: bool) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    kind = DataType.FLOAT16_VECTOR if half else DataType.FLOAT_VECTOR
    schema.add_field("vector", kind, dim=dim)
    for text in ("source", "name"):
        schema.add_field(text, DataType.VARCHAR, max_length=_TEXT)
    schema.add_field("camera", DataType.VARCHAR, max_length=_TEXT, nullable=True)
    for number in ("time", "position", "track_first", "track_last"):
        schema.add_field(number, DataType.DOUBLE, nullable=True)
    for number in ("frame", "track", "track_views"):
        schema.add_field(number, DataType.INT64, nullable=True)
    for number in ("x1", "y1", "x2", "y2", "height", "score"):
        schema.add_field(number, DataType.DOUBLE)
    for number in ("picture_width", "picture_height"):
        schema.add_field(number, DataType.INT64)
    # Read one by one for showing: it stays on the disk.
    schema.add_field("thumbnail", DataType.VARCHAR, max_length=_BASE64, mmap_enabled=True)
    _make(client, name, schema)


def _make_files(client: Any, name: str) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    # Nobody's; Milvus has no collection without one.
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    for text in ("source", "name", "note"):
        schema.add_field(text, DataType.VARCHAR, max_length=_TEXT)
    schema.add_field("state", DataType.VARCHAR, max_length=16)
    for number in ("bytes", "changed"):
        schema.add_field(number, DataType.INT64)
    _make(client, name, schema)


def _make(client: Any, name: str, schema: Any) -> None:
    # Exact. Who has more people than that is quick enough for makes another index in Milvus.
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="IP")
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")
