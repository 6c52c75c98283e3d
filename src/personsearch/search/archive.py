"""An archive: people who were indexed, and the network that finds people in a picture to search by.

with personsearch.open("store") as archive:
    for match in archive.search("me.jpg", box=(40, 60, 120, 300)).matches:
        print(match.person.path, match.similarity)
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from personsearch.engines.engine import Engine
from personsearch.engines.uri import open_engine
from personsearch.errors import StoreError
from personsearch.search.folder_search import QueryPerson, query_person
from personsearch.search.people_search import Match, combine, search_people
from personsearch.search.reranking import Rerank
from personsearch.store import EVERYONE, Filters
from personsearch.systems.base import PersonSearchModel
from personsearch.types import Detections, FloatArray

if TYPE_CHECKING:
    from personsearch.search.calibration import Calibration

Example = tuple[Path | str, Sequence[float] | None]
"""A picture that shows a person, and x1, y1, x2, y2 in it; None for the surest one found."""


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search of an archive found.

    Attributes:
        query: (D,) float32, what was searched by.
        matches: best first.
        shown: the person in the first picture; None where no picture was given.
        searched: among how many the chances of the matches hold; None where they have none.
    """

    query: FloatArray
    matches: list[Match]
    shown: QueryPerson | None = None
    searched: int | None = None


class Archive:
    """People who were indexed, open for searching; made by `open_archive`.

    May be used from several threads, of which one at a time uses the network.
    """

    def __init__(self, engine: Engine, model: str | None = None, device: str = "cpu") -> None:
        self.engine = engine
        self._named, self._device = model or engine.model.name, device
        self._network: PersonSearchModel | None = None
        self._lock = threading.Lock()
        self._calibration: Calibration | None = None
        self._calibration_read = False

    @property
    def calibration(self) -> "Calibration | None":
        """What turns similarities into chances, read once; None if the store has none.

        Raises:
            StoreError: it is damaged, or of another model.
        """
        with self._lock:
            if not self._calibration_read:
                from personsearch.search.calibration import read_calibration

                self._calibration = read_calibration(self.engine.place, self.engine.model)
                self._calibration_read = True
            return self._calibration

    @property
    def network(self) -> PersonSearchModel:
        """The network that made the archive's embeddings, loaded when it is first used.

        Raises:
            ModelError: it cannot be loaded.
            StoreError: it is another one.
        """
        with self._lock:
            return self._load()

    def _load(self) -> PersonSearchModel:
        if self._network is None:
            from personsearch.loading import load
            from personsearch.model_identity import identify

            network = load(self._named, self._device).eval()
            identity, made_by = identify(self._named, network), self.engine.model
            if identity.fingerprint != made_by.fingerprint:
                raise StoreError(
                    f"{self.engine.place}: was made by model {made_by.name!r} "
                    f"({made_by.fingerprint[:12]}), this is {identity.name!r} "
                    f"({identity.fingerprint[:12]}); their embeddings cannot be compared. Use "
                    f"--model {made_by.name}, or index into another store"
                )
            self._network = network
        return self._network

    def find_people(self, pixels: NDArray[np.uint8]) -> Detections:
        """Everyone in a picture (H, W, 3) of RGB bytes, with embeddings, best first."""
        from personsearch.systems.inference import detect

        with self._lock:
            return detect(self._load(), pixels)

    def embed(self, pixels: NDArray[np.uint8], boxes: FloatArray) -> FloatArray:
        """Embeddings (N, D) to search by of boxes (N, 4) in a picture (H, W, 3) of RGB bytes."""
        from personsearch.systems.inference import embed

        with self._lock:
            return embed(self._load(), pixels, boxes)

    def search(
        self,
        picture: Path | str | None = None,
        *,
        box: Sequence[float] | None = None,
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
    ) -> SearchResult:
        """Those who are most like a person, best first.

        Args:
            picture: that shows the person.
            box: x1, y1, x2, y2 of the person in its pixels; without it the surest person found.
            examples: more pictures that show the person, each with a box or None. Everyone in a
                picture that was given is left out of the matches.
            people: ids in the archive that show the person, too; left out of the matches, with
                every view of their tracks.
            unlike: ids in the archive that show others; left out in the same way.
            embeddings: (N, D) of more examples.
            filters: who is meant.
            top: how many matches.
            grouped: of a track in a video, only the view that is most alike.
            one_a_file: of a photo or video, only the person who is most alike.
            rerank: ``k-reciprocal`` or ``expansion``: rank the best few hundred again.
            expected: how many of those who are searched are thought to be the person, for the
                chances that a calibrated store gives to matches of one example.

        Raises:
            StoreError: no example at all, an id that is not there, or another model's archive.
            PictureError: a picture cannot be read.
            DataError: nobody is in a picture, or the box lies outside of it.
        """
        given = [] if embeddings is None else [np.asarray(embeddings, np.float32)]
        if len(people):
            given.append(self.engine.vectors(people).astype(np.float32))
        pictures = [*([] if picture is None else [(picture, box)]), *examples]
        shown: list[QueryPerson] = []
        without = self._views_of([*people, *unlike])
        for path, corners in pictures:
            shown.append(self._look(Path(path), corners))
            given.append(shown[-1].embedding[None])
            without += self.engine.people_in(Path(path))
        negatives = self.engine.vectors(unlike).astype(np.float32) if len(unlike) else None
        none = np.zeros((0, self.engine.model.dim), np.float32)
        gathered = np.concatenate([none, *given])
        query = combine(gathered, negatives)
        matches = search_people(
            self.engine,
            query,
            filters=filters,
            top=top,
            without=without,
            grouped=grouped,
            one_a_file=one_a_file,
            rerank=rerank,
        )
        searched = None
        # Pairs were calibrated: a mean of examples is more like the person than each of them.
        if self.calibration is not None and len(gathered) == 1 and negatives is None:
            searched = self.engine.count(filters)
            chances = self.calibration.probability(
                [match.similarity for match in matches], searched, expected=expected
            )
            matches = [
                replace(match, probability=float(chance))
                for match, chance in zip(matches, chances, strict=True)
            ]
        return SearchResult(query, matches, shown[0] if shown else None, searched)

    def _views_of(self, ids: Sequence[int]) -> list[int]:
        """People with the other views of their tracks, which show the same ones."""
        tracks = {one.track.id for one in self.engine.get(ids) if one.track is not None}
        views = [view for track in sorted(tracks) for view in self.engine.track_members(track)]
        return [*ids, *views]

    def _look(self, picture: Path, box: Sequence[float] | None) -> QueryPerson:
        """The person in a picture; one thread at a time."""
        network = self.network
        corners = None if box is None else np.array(box, np.float32)
        with self._lock:
            return query_person(network, picture, corners)

    def close(self) -> None:
        """Closes the engine."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_archive(store: Path | str, *, model: str | None = None, device: str = "cpu") -> Archive:
    """Opens people who were indexed, for searching.

    Args:
        store: the store's folder, or a place such as ``milvus://HOST:PORT/COLLECTION``.
        model: what finds people in a query picture; default: the one that the store was made by.
        device: on which it runs.

    Raises:
        StoreError: there is no store.
    """
    return Archive(open_engine(store), model, device)
