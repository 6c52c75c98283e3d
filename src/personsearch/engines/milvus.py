"""The engine over a Milvus server or cluster: it keeps the people and finds who is alike.

Milvus ranks by its own index; who it names is scored once more here, in single precision from the
embeddings themselves, so that similarities, six digits and the order of equals are those of a store
on this machine. Fewer than Milvus's 16,384 rows an answer are asked for first, more while those
that were not named could still belong to the best; beyond, everyone is read and scored here.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from personsearch.engines.engine import PersonRecord, Ranking
from personsearch.engines.milvus_collection import (
    FIELDS,
    LIMIT,
    Expression,
    condition,
    connect,
    disconnect,
    named,
    open_collection,
    parse_address,
    person_of,
    reported,
    row_of,
    thumbnail_of,
    vectors_of,
)
from personsearch.engines.milvus_files import erase_files
from personsearch.engines.sqlite import similarities
from personsearch.errors import StoreError
from personsearch.store import (
    EVERYONE,
    NO_ID,
    Filters,
    ModelIdentity,
    StoredPerson,
)
from personsearch.types import FloatArray

_PAGE = 512  # people with thumbnails in one answer
_TOGETHER = 16  # queries in one question
_MARGIN = 50  # people more than asked for
_EXACT, _HALF = 1e-5, 2e-3  # by how much Milvus's product may differ from the one in this process


class MilvusEngine:
    """An engine over a Milvus collection. May be used from several threads.

    With Milvus's exact index (FLAT, which is made here) the ranking is exact. With another one that
    somebody made, people whom that index does not name are missed.

    Args:
        place: ``milvus://HOST:PORT/COLLECTION``, ``milvus+https://...`` or ``milvus-lite:PATH.db``.
        model: whose embeddings are expected; None for any.
        create: make the collection if there is none; needs `model`.

    Raises:
        StoreError: no server or collection, or one made by another model.
    """

    def __init__(
        self, place: str, model: ModelIdentity | None = None, *, create: bool = False
    ) -> None:
        self.address = parse_address(place)
        if self.address.lite and not create and not Path(self.address.uri).exists():
            raise StoreError(f"{place}: there is no such file")
        self._client = connect(self.address)
        try:
            self.people, self.files, self._model = open_collection(
                self._client, self.address, model, create
            )
        except BaseException:
            disconnect(self._client, self.address)
            raise
        self._tolerance = _HALF if self.people.half else _EXACT

    def close(self) -> None:
        """Ends the connection."""
        disconnect(self._client, self.address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def place(self) -> str:
        """The collection's place, as it was named."""
        return self.address.place

    @property
    def model(self) -> ModelIdentity:
        """Which model made the embeddings."""
        return self._model

    def upsert(self, records: Sequence[PersonRecord]) -> int:
        """Adds people, or replaces those of the same id; says how many.

        Not one transaction: of a call that fails, some may be there. Repeating it is safe.

        Raises:
            StoreError: an embedding has another length, or a thumbnail is too large.
        """
        rows: dict[int, dict[str, Any]] = {}
        for record in records:
            if record.vector.shape != (self.model.dim,):
                raise StoreError(
                    f"{self.place}: an embedding of shape {record.vector.shape} came, expected "
                    f"({self.model.dim},)"
                )
            rows[record.person.id] = row_of(self.people, record)
        self.people.upsert(list(rows.values()))
        return len(records)

    def delete(self, ids: Sequence[int]) -> int:
        """Takes people out with every view of their tracks; says how many views there were.

        No search or read finds them from then on. Their bytes leave Milvus's disks later: see
        `compact`.
        """
        return self.erase(Filters(people=[int(one) for one in ids])) if len(ids) else 0

    def erase(self, filters: Filters) -> int:
        """Takes out those who are meant; who is named by id goes with the whole track.

        Raises:
            StoreError: everyone is meant: drop the collection instead.
        """
        if filters.everyone:
            raise StoreError(
                f"{self.place}: no person, picture, source or time was named; to erase everyone, "
                "drop the collection in Milvus"
            )
        found = [
            row for page in self.people.pages(condition(filters), ["id", "track"]) for row in page
        ]
        ids = {int(row["id"]) for row in found}
        if filters.people is not None:
            # A person is a track: the other views show the same one.
            tracks = sorted({int(row["track"]) for row in found if row["track"] is not None})
            for begin in range(0, len(tracks), 1024):
                some = Expression("track in {tracks}", {"tracks": tracks[begin : begin + 1024]})
                ids.update(
                    int(row["id"]) for page in self.people.pages(some, ["id"]) for row in page
                )
        self.people.delete(sorted(ids))
        return len(ids)

    def erase_files(self, source: str, names: Sequence[str] | None = None) -> int:
        """Erase files of a source, or all, with everyone in them; return the number of people."""
        return erase_files(self.place, self.people, self.files, source, names)

    def compact(self, timeout: float = 300.0) -> bool:
        """Asks Milvus to rewrite what deleted people are in; says whether it has said it is done.

        That is all that can be asked for. When the old files leave the object storage, and the
        messages the log, is up to the server's settings (docs/cluster.md).
        """
        with reported(self.place):
            for collection in (self.people, self.files):
                self._client.flush(collection.name)
                job = self._client.compact(collection.name)
                until = time.monotonic() + timeout
                while self._client.get_compaction_state(job) != "Completed":
                    if time.monotonic() > until:
                        return False
                    time.sleep(0.5)
        return True

    def search(
        self,
        queries: FloatArray,
        *,
        top: int = 20,
        filters: Filters = EVERYONE,
        without: Sequence[int] = (),
    ) -> list[Ranking]:
        """The `top` most alike of those who are meant, for each query (Q, D).

        Where the model asks for weighting, people are ranked by similarity x score: more are asked
        for until nobody whom Milvus did not name can be better, given that scores are at most 1.

        Raises:
            StoreError: queries of another length than the embeddings.
        """
        queries = np.asarray(queries, np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.model.dim:
            raise StoreError(
                f"{self.place}: queries of shape {queries.shape} came, expected "
                f"(Q, {self.model.dim})"
            )
        meant = condition(filters, without)
        found: list[Ranking | None] = [None] * len(queries)
        wanted = min(top + max(top, _MARGIN), LIMIT) if 0 < top <= LIMIT else LIMIT + 1
        if top <= 0:
            wanted = 0
        left = list(range(len(queries)))
        while left and wanted <= LIMIT:
            together = max(1, min(_TOGETHER, 8192 // max(wanted, 1)))
            for begin in range(0, len(left), together):
                some = left[begin : begin + together]
                for index, hits in zip(some, self._ask(queries[some], wanted, meant), strict=True):
                    found[index] = self._settled(queries[index], hits, top, wanted)
            left = [index for index in left if found[index] is None]
            wanted = min(wanted * 4, LIMIT) if wanted < LIMIT else LIMIT + 1
        for index in left:
            found[index] = self._read_all(queries[index], top, meant)
        return [one for one in found if one is not None]

    def _ask(self, queries: FloatArray, count: int, meant: Expression) -> Sequence[Any]:
        """Milvus's own answer: hits, best first, for each query."""
        if not count:
            return [[] for _ in queries]
        kind = np.float16 if self.people.half else np.float32
        with reported(self.place):
            hits: Sequence[Any] = self._client.search(
                self.people.name,
                data=list(queries.astype(kind)),
                anns_field="vector",
                limit=count,
                output_fields=["vector", "score"],
                search_params={"metric_type": "IP"},
                **self.people.given(meant),
            )
        return hits

    def _settled(self, query: FloatArray, hits: Any, top: int, asked: int) -> Ranking | None:
        """The best of the hits; None if someone who is not among them could be as good."""
        rows = [dict(hit["entity"]) | {"id": hit["id"]} for hit in hits]
        ranking = self._best(query, rows, top)
        if len(rows) < asked or not top:
            return ranking
        least = float(hits[-1]["distance"]) + self._tolerance
        bound = max(least, 0.0) if self.model.weighted else least
        return ranking if float(ranking.rank_scores[-1]) > bound else None

    def _best(self, query: FloatArray, rows: Sequence[Any], top: int) -> Ranking:
        """The best of some rows with id, vector and score."""
        ids = np.array([row["id"] for row in rows], np.int64)
        similarity = similarities(vectors_of(rows, self.model.dim), query[None])[0]
        ranked = similarity
        if self.model.weighted:
            ranked = similarity * np.array([row["score"] for row in rows], np.float32)
        order = np.lexsort((ids, -ranked))[: max(top, 0)]
        return Ranking(ids[order], similarity[order], ranked[order])

    def _read_all(self, query: FloatArray, top: int, meant: Expression) -> Ranking:
        """The best of everyone who is meant, read page by page."""
        best = self._best(query, [], top)
        everyone = meant if meant.text else Expression("id >= {least}", {"least": 0})
        for page in self.people.pages(everyone, ["id", "vector", "score"], page=4096):
            more = self._best(query, page, top)
            ids = np.concatenate([best.ids, more.ids])
            similarity = np.concatenate([best.similarities, more.similarities])
            ranked = np.concatenate([best.rank_scores, more.rank_scores])
            order = np.lexsort((ids, -ranked))[: max(top, 0)]
            best = Ranking(ids[order], similarity[order], ranked[order])
        return best

    def get(self, ids: Sequence[int]) -> list[StoredPerson]:
        """The people of some ids, in their order.

        Raises:
            StoreError: there is none of that id.
        """
        return [person_of(row) for row in self._rows(ids, FIELDS)]

    def _rows(self, ids: Sequence[int], fields: Sequence[str]) -> list[dict[str, Any]]:
        wanted = [int(one) for one in ids]
        found: dict[int, dict[str, Any]] = {}
        for begin in range(0, len(wanted), _PAGE):
            for row in self.people.rows(named(wanted[begin : begin + _PAGE]), fields):
                found[int(row["id"])] = row
        if missing := [one for one in wanted if one not in found]:
            raise StoreError(f"{self.place}: has no person {missing[0]}; they may be erased")
        return [found[one] for one in wanted]

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float16]:
        """Embeddings (N, D) of some ids, in their order.

        Raises:
            StoreError: there is none of that id.
        """
        return vectors_of(self._rows(ids, ["id", "vector"]), self.model.dim)

    def thumbnail(self, person: int) -> bytes:
        """A person's picture as JPEG; empty if there is none."""
        rows = self.people.rows(named([person]), ["id", "thumbnail"])
        return thumbnail_of(rows[0]) if rows else b""

    def track_members(self, track: int) -> list[int]:
        """Ids of the views of a track, ascending."""
        meant = Expression("track == {track}", {"track": int(track)})
        return self._ids(meant)

    def people_in(self, path: Path) -> list[int]:
        """Ids of everyone in a photo or video file, wherever it was indexed from."""
        path = Path.cwd() / path
        parts: list[str] = []
        values: dict[str, Any] = {}
        for number, place in enumerate((path, *path.parents)):
            parts.append(f"(source == {{source{number}}} and name == {{name{number}}})")
            values[f"source{number}"] = str(place)
            values[f"name{number}"] = "" if place == path else path.relative_to(place).as_posix()
        return self._ids(Expression(" or ".join(parts), values))

    def _ids(self, meant: Expression) -> list[int]:
        return [int(row["id"]) for page in self.people.pages(meant, ["id"]) for row in page]

    def count(self, filters: Filters = EVERYONE) -> int:
        """How many people are meant."""
        return self.people.count(condition(filters))

    def cameras(self) -> dict[str, int]:
        """People by camera. Milvus cannot group, so this reads the camera of everyone."""
        return self._counted("camera", Expression("camera is not null"))

    def sources(self) -> dict[str, int]:
        """People by source. Milvus cannot group, so this reads the source of everyone."""
        return self._counted("source", Expression("id > {after}", {"after": NO_ID}))

    def _counted(self, column: str, meant: Expression) -> dict[str, int]:
        found: dict[str, int] = {}
        for page in self.people.pages(meant, [column]):
            for row in page:
                found[row[column]] = found.get(row[column], 0) + 1
        return dict(sorted(found.items()))

    def iterate(self, *, after: int = 0, batch: int = 1024) -> Iterator[list[PersonRecord]]:
        """Everyone whose id is larger than `after`, ascending, in batches."""
        meant = Expression("id > {after}", {"after": int(after)})
        fields = [*FIELDS, "vector", "thumbnail"]
        waiting: list[PersonRecord] = []
        for page in self.people.pages(meant, fields, page=min(batch, _PAGE)):
            vectors = vectors_of(page, self.model.dim)
            waiting += [
                PersonRecord(person_of(row), vector, thumbnail_of(row))
                for row, vector in zip(page, vectors, strict=True)
            ]
            while len(waiting) >= batch:
                yield waiting[:batch]
                waiting = waiting[batch:]
        if waiting:
            yield waiting


def has_people(place: str) -> bool:
    """Whether there is a collection at a place.

    Raises:
        StoreError: the server cannot be reached.
    """
    address = parse_address(place)
    if address.lite and not Path(address.uri).exists():
        return False
    client = connect(address)
    try:
        with reported(place):
            return bool(client.has_collection(address.collection))
    finally:
        disconnect(client, address)
