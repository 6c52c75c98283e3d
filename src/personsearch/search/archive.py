"""An archive: people who were indexed, and the network that finds people in a picture to search by.

with personsearch.open("store") as archive:
    for match in archive.search("me.jpg", box=(40, 60, 120, 300)).matches:
        print(match.person.path, match.similarity)
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from personsearch.engines.engine import Engine
from personsearch.engines.state import state_folder
from personsearch.engines.uri import open_engine
from personsearch.errors import StoreError
from personsearch.search.people_search import Match, combine, search_people
from personsearch.search.query import QueryPerson, query_person
from personsearch.search.request import Box, Example, Origin, SearchRequest
from personsearch.search.reranking import Rerank
from personsearch.store import EVERYONE, Filters, check_fingerprint
from personsearch.store.audit import AuditEntry, AuditLog, user_of_this_machine
from personsearch.store.filters import selection
from personsearch.types import Detections, FloatArray

if TYPE_CHECKING:
    from personsearch.search.calibration import Calibration
    from personsearch.systems.base import PersonSearchModel


@dataclass(frozen=True, eq=False)
class ArchiveResult:
    """The result of a search of an archive."""

    query: FloatArray  # (D,) float32, the embedding that was searched by
    matches: list[Match]  # best first
    entry: AuditEntry  # the search in the audit log
    shown: QueryPerson | None = None  # the person in the first picture, if there is one
    searched: int | None = None  # among how many people the probabilities of the matches hold
    reason: str = ""  # why there are no matches

    def as_json(self) -> dict[str, Any]:
        """Plain values; boxes in pixels, matches best first."""
        return {"searched": self.searched, "hits": [match.as_json() for match in self.matches]}


class Archive:
    """People who were indexed, open for searching; made by `open_archive`.

    Every search and erasure is a line in the audit log, written before a search returns and, by the
    engine, before anyone is erased. If it cannot be written, nothing is returned and nobody erased.

    May be used from several threads, of which one at a time uses the network.

    Args:
        engine: keeps the people; closed with the archive.
        model: finds people in a query picture; default: the one that made the archive.
        state: folder of keys and audit log; default: see `state_folder`.
        caller: who searches and erases, for the audit log; default: the user of this machine, with
            the remark that Python was used.
    """

    def __init__(
        self,
        engine: Engine,
        model: str | None = None,
        device: str | None = None,
        *,
        state: Path | None = None,
        caller: str | None = None,
    ) -> None:
        self.engine = engine
        self.state = state_folder(engine.uri) if state is None else Path(state)
        self.audit = engine.audit = AuditLog(self.state)
        self.caller = caller or f"{user_of_this_machine()} (python)"
        self._named, self._device = model or engine.model.name, device
        self._network: PersonSearchModel | None = None
        self._lock = threading.Lock()

    @cached_property
    def calibration(self) -> "Calibration | None":
        """The map from similarities to probabilities, if any; `StoreError` if it is damaged."""
        from personsearch.search.calibration import read_calibration

        return read_calibration(self.engine.uri, self.engine.model)

    @property
    def network(self) -> "PersonSearchModel":
        """The network that made the embeddings, loaded at first use; `StoreError` if another."""
        with self._lock:
            return self._load()

    def _load(self) -> "PersonSearchModel":
        if self._network is None:
            from personsearch.loading import load
            from personsearch.model_identity import identify

            network = load(self._named, self._device)
            identity, made_by = identify(self._named, network), self.engine.model
            check_fingerprint(self.engine.uri, made_by, identity, "into another store")
            self._network = network.for_inference()
        return self._network

    def find_people(self, pixels: NDArray[np.uint8]) -> Detections:
        """Detect everyone in a picture (H, W, 3) of RGB bytes, with embeddings."""
        from personsearch.systems.inference import detect

        with self._lock:
            return detect(self._load(), pixels)

    def embed(self, pixels: NDArray[np.uint8], boxes: FloatArray) -> FloatArray:
        """Return query embeddings (N, D) of boxes (N, 4) in a picture (H, W, 3) of RGB bytes."""
        from personsearch.systems.inference import embed

        with self._lock:
            return embed(self._load(), pixels, boxes)

    def search(
        self,
        picture: Path | str | None = None,
        *,
        box: Box | None = None,
        examples: Sequence[Example] = (),
        people: Sequence[int] = (),
        unlike: Sequence[int] = (),
        embeddings: FloatArray | None = None,
        filters: Filters = EVERYONE,
        top: int = 20,
        grouped: bool = True,
        one_a_file: bool = False,
        rerank: Rerank | None = None,
        expected: float = 1.0,
    ) -> ArchiveResult:
        """Return the people who are most similar to a person, best first.

        `picture` and `box` are the first of the examples; without a box it is the highest-scoring
        person in the picture. The other arguments are those of `SearchRequest`.

        Raises:
            StoreError: no example at all, an id that is not there, or another model's archive.
            PictureError: a picture cannot be read.
            DataError: nobody is detected in a picture, the box lies outside of it, or an option
                has an impossible value.
        """
        return self.search_by(
            SearchRequest(
                pictures=[*([] if picture is None else [(picture, box)]), *examples],
                people=people,
                unlike=unlike,
                embeddings=embeddings,
                filters=filters,
                top=top,
                grouped=grouped,
                one_a_file=one_a_file,
                rerank=rerank,
                expected=expected,
            )
        )

    def search_by(self, request: SearchRequest, *, caller: str | None = None) -> ArchiveResult:
        """Answer a request; `caller` is for the audit log, by default the archive's."""
        shown = [self._query_person(*example) for example in request.pictures]
        with self.engine.snapshot():
            query, matches, searched, reason = self._answer(request, shown)
        origins = [*request.origins]
        origins += [Origin(one.picture.sha256, one.box.tolist()) for one in shown]
        examples = [origin.as_json() for origin in origins]
        ids = [match.person.id for match in matches]
        details = {"examples": examples, **request.as_json(), "hits": len(ids), "shown": ids}
        entry = self.audit.append("search", caller or self.caller, details)
        return ArchiveResult(query, matches, entry, next(iter(shown), None), searched, reason)

    def _answer(
        self, request: SearchRequest, shown: Sequence[QueryPerson]
    ) -> tuple[FloatArray, list[Match], int | None, str]:
        """The query, its matches, the number of people searched, and why nobody was found."""
        engine = self.engine
        given = [] if request.embeddings is None else [request.embeddings]
        if len(request.people):
            given.append(engine.vectors(request.people).astype(np.float32))
        without = self._views_of([*request.people, *request.unlike])
        for one in shown:
            given.append(one.embedding[None])
            without += engine.people_in(one.path)
        unlike = request.unlike
        negatives = engine.vectors(unlike).astype(np.float32) if len(unlike) else None
        gathered = np.concatenate([np.zeros((0, engine.model.dim), np.float32), *given])
        query = combine(gathered, negatives)
        matches = search_people(
            engine,
            query,
            filters=request.filters,
            top=request.top,
            without=without,
            grouped=request.grouped,
            one_a_file=request.one_a_file,
            rerank=request.rerank,
        )
        searched = None
        # Pairs were calibrated: a mean of examples is more similar to the person than each of them.
        if self.calibration is not None and len(gathered) == 1 and negatives is None:
            searched = engine.count(request.filters)
            similarities = [match.similarity for match in matches]
            found = self.calibration.probability(similarities, searched, expected=request.expected)
            pairs = zip(matches, found.tolist(), strict=True)
            matches = [replace(match, probability=value) for match, value in pairs]
        reason = "" if matches else self._why_nobody(request.filters)
        return query, matches, searched, reason

    def _why_nobody(self, filters: Filters) -> str:
        if empty := [name for name, value in filters.described().items() if value == []]:
            return f"the filter {empty[0]!r} is an empty list, which selects nobody"
        if not self.engine.count(filters):
            return "nobody passes the filters" if filters != EVERYONE else "the archive is empty"
        return "everyone who passes the filters is in the query pictures or among the examples"

    def _views_of(self, ids: Sequence[int]) -> list[int]:
        """People with the other views of their tracks, which show the same person."""
        tracks = {one.track.id for one in self.engine.get(ids) if one.track is not None}
        views = [view for track in sorted(tracks) for view in self.engine.track_members(track)]
        return [*ids, *views]

    def _query_person(self, picture: Any, box: Box | None) -> QueryPerson:
        network = self.network
        with self._lock:
            return query_person(network, picture, box)

    def erase(self, filters: Filters, *, caller: str | None = None) -> int:
        """Erase the matching people for good; return the number of views.

        A person named by id is erased with every view of the track.

        Raises:
            StoreError: the filters select everyone, or another process is writing.
        """
        if filters.everyone:
            raise StoreError(
                f"{self.engine.uri}: no person, camera, source or time was named; to erase "
                "everyone, delete the whole store"
            )
        return self.engine.erase(filters, caller=caller or self.caller)

    def erase_files(
        self, source: str, pictures: Sequence[str] | None = None, *, caller: str | None = None
    ) -> int:
        """Erase files of a source, or all, with everyone in them; return the number of views.

        The files stay known by name, so that indexing leaves them out from then on.

        Raises:
            StoreError: there is no such source or file, or another process is writing.
        """
        if not source:
            raise StoreError("the source is an empty text; expected a folder, file or camera")
        pictures = selection("pictures", pictures)
        return self.engine.erase_files(source, pictures, caller=caller or self.caller)

    def log_report(self, kind: str, matches: Sequence[Match], *, caller: str | None = None) -> None:
        """Write the audit line of a report, such as ``html``, before it is handed out."""
        details = {"format": kind, "hits": [match.person.id for match in matches]}
        self.audit.append("report", caller or self.caller, details)

    def log_views(self, people: Mapping[str, Sequence[int]], *, caller: str | None = None) -> None:
        """Write the audit line of views outside of a search, by kind such as ``thumbnails``."""
        self.audit.append("view", caller or self.caller, people)

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_archive(
    store: Path | str,
    *,
    model: str | None = None,
    device: str | None = None,  # of the network, see `load`
    state: Path | None = None,
    caller: str | None = None,
) -> Archive:
    """Open a store, by its folder or a URI such as ``milvus://HOST:PORT/COLLECTION``.

    Raises:
        StoreError: there is no store.
    """
    return Archive(open_engine(store), model, device, state=state, caller=caller)
