"""The engine over a Milvus server or cluster, which keeps the people and finds similar ones.

Milvus ranks by its own index. The people it returns are scored once more here, in single precision
from the embeddings themselves, so that similarities, their six digits and the order of equals are
those of a store on this machine. At first fewer than Milvus's 16,384 rows an answer are requested,
then more while a person who was not returned could still be among the best; beyond that, all
matching people are read and scored here.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.engines import milvus_collection as milvus
from personsearch.engines.engine import Engine, PersonRecord, Ranking
from personsearch.engines.milvus_collection import FIELDS, LIMIT, Expression, reported
from personsearch.engines.milvus_files import erase_files, files_of
from personsearch.errors import StoreError
from personsearch.store import EVERYONE, Filters, ModelIdentity, StoredPerson
from personsearch.store.people import in_order
from personsearch.types import FloatArray

_PAGE = 512  # people with thumbnails in one answer
_TOGETHER = 16  # queries in one request
_MARGIN = 50  # people more than asked for
_EXACT, _HALF = 1e-5, 2e-3  # by how much Milvus's product may differ from the one in this process


class MilvusEngine(Engine):
    """An engine over a Milvus collection; for several threads.

    With Milvus's exact index (FLAT, which is created here) the ranking is exact. With an
    approximate index that somebody else created, people whom it does not return are missed.
    For the arguments and errors see `open_engine`.
    """

    def __init__(
        self, uri: str, model: ModelIdentity | None = None, *, create: bool = False
    ) -> None:
        self.uri = uri
        self.address = milvus.parse_address(uri)
        if self.address.lite and not create and not Path(self.address.server).exists():
            raise StoreError(f"{uri}: there is no such file")
        self._client = milvus.connect(self.address)
        try:
            self.people, self.files, self.model = milvus.open_collection(
                self._client, self.address, model, create
            )
        except BaseException:
            milvus.disconnect(self._client, self.address)
            raise
        self._tolerance = _HALF if self.people.half else _EXACT

    def close(self) -> None:
        milvus.disconnect(self._client, self.address)

    def _upsert(self, records: Sequence[PersonRecord]) -> None:
        # Not one transaction: of a call that fails, some may be there. Repeating it is safe.
        rows = {record.person.id: milvus.row_of(self.people, record) for record in records}
        self.people.upsert(list(rows.values()))

    def erase(self, filters: Filters, *, caller: str | None = None) -> int:
        """Delete the matching people, and the whole track of those selected by id.

        No search or read finds them from then on. Their bytes leave Milvus's disks later: see
        `compact`. Filters that restrict nothing raise `StoreError`.
        """
        if filters.everyone:
            raise StoreError(
                f"{self.uri}: no person, picture, source or time was named; to erase everyone, "
                "drop the collection in Milvus"
            )
        details = filters.described()
        return self.audit.logged("erase", caller, details, lambda: self._erase(filters))

    def _erase(self, filters: Filters) -> int:
        found = list(self.people.every(Expression.of(filters), ["id", "track"]))
        ids = {int(row["id"]) for row in found}
        if filters.people is not None:
            tracks = sorted({int(row["track"]) for row in found if row["track"] is not None})
            for begin in range(0, len(tracks), 1024):
                some = Expression("track in {tracks}", {"tracks": tracks[begin : begin + 1024]})
                ids.update(self._ids(some))
        self.people.delete(sorted(ids))
        return len(ids)

    def erase_files(
        self, source: str, names: Sequence[str] | None = None, *, caller: str | None = None
    ) -> int:
        known = files_of(self.uri, self.people, self.files, source, names)
        details = {"source": source} | ({} if names is None else {"pictures": list(known)})
        erase = partial(erase_files, self.people, self.files, source, known)
        return self.audit.logged("erase", caller, details, erase)

    def compact(self, timeout: float = 300.0) -> bool:
        """Ask Milvus to rewrite the segments of deleted people; return whether it has finished.

        No more can be asked for. When the old files leave the object storage, and the messages the
        log, depends on the server's settings (docs/cluster.md).
        """
        with reported(self.uri):
            for collection in (self.people, self.files):
                self._client.flush(collection.name)
                job = self._client.compact(collection.name)
                until = time.monotonic() + timeout
                while self._client.get_compaction_state(job) != "Completed":
                    if time.monotonic() > until:
                        return False
                    time.sleep(0.5)
        return True

    def _search(
        self, queries: FloatArray, top: int, filters: Filters, without: Sequence[int]
    ) -> list[Ranking]:
        # With a weighted model people are ranked by similarity x score, with scores of at most 1.
        expression = Expression.of(filters, without)
        if top <= 0:
            return [self._best(query, [], 0) for query in queries]
        found: list[Ranking | None] = [None] * len(queries)
        wanted = min(top + max(top, _MARGIN), LIMIT) if top <= LIMIT else LIMIT + 1
        left = list(range(len(queries)))
        while left and wanted <= LIMIT:
            together = max(1, min(_TOGETHER, 8192 // wanted))
            for begin in range(0, len(left), together):
                some = left[begin : begin + together]
                answers = self._hits(queries[some], wanted, expression)
                for index, hits in zip(some, answers, strict=True):
                    found[index] = self._settled(queries[index], hits, top, wanted)
            left = [index for index in left if found[index] is None]
            wanted = min(wanted * 4, LIMIT) if wanted < LIMIT else LIMIT + 1
        for index in left:
            found[index] = self._read_all(queries[index], top, expression)
        return [one for one in found if one is not None]

    def _hits(self, queries: FloatArray, count: int, expression: Expression) -> Sequence[Any]:
        """Milvus's own answer: hits, best first, for each query."""
        kind = np.float16 if self.people.half else np.float32
        with reported(self.uri):
            hits: Sequence[Any] = self._client.search(
                self.people.name,
                data=list(queries.astype(kind)),
                anns_field="vector",
                limit=count,
                output_fields=["vector", "score"],
                search_params={"metric_type": "IP"},
                **self.people.arguments(expression),
            )
        return hits

    def _settled(self, query: FloatArray, hits: Any, top: int, asked: int) -> Ranking | None:
        """The best of the hits; None if a person who is not among them could be as good."""
        rows = [dict(hit["entity"]) | {"id": hit["id"]} for hit in hits]
        ranking = self._best(query, rows, top)
        if len(rows) < asked:
            return ranking
        least = float(hits[-1]["distance"]) + self._tolerance
        bound = max(least, 0.0) if self.model.weighted else least
        return ranking if float(ranking.rank_scores[-1]) > bound else None

    def _best(self, query: FloatArray, rows: Sequence[Any], top: int) -> Ranking:
        """The best of some rows with id, vector and score."""
        ids = np.array([row["id"] for row in rows], np.int64)
        vectors = milvus.vectors_of(rows, self.model.dim).astype(np.float32)
        # Equal people get equal similarities, in whatever order a product was summed.
        similarity: FloatArray = (query[None] @ vectors.T)[0].round(6)
        ranked = similarity
        if self.model.weighted:
            ranked = similarity * np.array([row["score"] for row in rows], np.float32)
        return Ranking.best(ids, similarity, ranked, top)

    def _read_all(self, query: FloatArray, top: int, expression: Expression) -> Ranking:
        """The best of all matching people, read page by page."""
        best = self._best(query, [], top)
        for page in self.people.pages(expression, ["id", "vector", "score"], page=4096):
            more = self._best(query, page, top)
            best = Ranking.best(
                np.concatenate([best.ids, more.ids]),
                np.concatenate([best.similarities, more.similarities]),
                np.concatenate([best.rank_scores, more.rank_scores]),
                top,
            )
        return best

    def find(self, ids: Sequence[int]) -> dict[int, StoredPerson]:
        rows = self._rows_there(ids, FIELDS)
        return {one: milvus.person_of(row) for one, row in rows.items()}

    def _rows_there(self, ids: Sequence[int], fields: Sequence[str]) -> dict[int, dict[str, Any]]:
        wanted = [int(one) for one in ids]
        found: dict[int, dict[str, Any]] = {}
        for begin in range(0, len(wanted), _PAGE):
            for row in self.people.rows(Expression.ids(wanted[begin : begin + _PAGE]), fields):
                found[int(row["id"])] = row
        return found

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float16]:
        found = self._rows_there(ids, ["id", "vector"])
        return milvus.vectors_of(in_order(self.uri, ids, found), self.model.dim)

    def thumbnail(self, person: int) -> bytes:
        rows = self.people.rows(Expression.ids([person]), ["id", "thumbnail"])
        return milvus.thumbnail_of(rows[0]) if rows else b""

    def track_members(self, track: int) -> list[int]:
        return self._ids(Expression("track == {track}", {"track": int(track)}))

    def people_in(self, path: Path) -> list[int]:
        path = Path.cwd() / path
        parts: list[str] = []
        values: dict[str, Any] = {}
        for number, source in enumerate((path, *path.parents)):
            parts.append(f"(source == {{source{number}}} and name == {{name{number}}})")
            values[f"source{number}"] = str(source)
            values[f"name{number}"] = "" if source == path else path.relative_to(source).as_posix()
        return self._ids(Expression(" or ".join(parts), values))

    def _ids(self, expression: Expression) -> list[int]:
        return [int(row["id"]) for row in self.people.every(expression, ["id"])]

    def count(self, filters: Filters = EVERYONE) -> int:
        return self.people.count(Expression.of(filters))

    def cameras(self) -> dict[str, int]:
        return self._counted("camera", Expression("camera is not null"))

    def sources(self) -> dict[str, int]:
        return self._counted("source", Expression())

    def _counted(self, column: str, expression: Expression) -> dict[str, int]:
        # Milvus cannot group, so this reads the column of everyone.
        found = Counter(row[column] for row in self.people.every(expression, [column]))
        return dict(sorted(found.items()))

    def iterate(self, *, after: int = 0, batch: int = 1024) -> Iterator[list[PersonRecord]]:
        expression = Expression("id > {after}", {"after": int(after)})
        fields = [*FIELDS, "vector", "thumbnail"]
        waiting: list[PersonRecord] = []
        for page in self.people.pages(expression, fields, page=min(batch, _PAGE)):
            vectors = milvus.vectors_of(page, self.model.dim)
            waiting += [
                PersonRecord(milvus.person_of(row), vector, milvus.thumbnail_of(row))
                for row, vector in zip(page, vectors, strict=True)
            ]
            while len(waiting) >= batch:
                yield waiting[:batch]
                waiting = waiting[batch:]
        if waiting:
            yield waiting


def has_people(uri: str) -> bool:
    """Whether a collection exists."""
    address = milvus.parse_address(uri)
    if address.lite and not Path(address.server).exists():
        return False
    client = milvus.connect(address)
    try:
        with reported(uri):
            return bool(client.has_collection(address.collection))
    finally:
        milvus.disconnect(client, address)
