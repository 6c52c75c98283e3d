"""An archive: people who were indexed, and the network that finds people in a picture to search by.

with personsearch.open("store") as archive:
    for match in archive.search("me.jpg", box=(40, 60, 120, 300)).matches:
        print(match.person.path, match.similarity)
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import StoreError
from personsearch.retrieval.engine import Engine
from personsearch.retrieval.gallery_search import QueryPerson, query_person
from personsearch.retrieval.people_search import Match, combine, search_people
from personsearch.retrieval.store import EVERYONE, Filters
from personsearch.retrieval.store_engine import StoreEngine
from personsearch.systems.base import PersonSearchModel
from personsearch.types import Detections, FloatArray


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search of an archive found.

    Attributes:
        query: (D,) float32, what was searched by.
        matches: best first.
        shown: the person in the query picture; None where no picture was given.
    """

    query: FloatArray
    matches: list[Match]
    shown: QueryPerson | None = None


class Archive:
    """People who were indexed, open for searching; made by `open_archive`.

    May be used from several threads, of which one at a time uses the network.
    """

    def __init__(self, engine: Engine, model: str | None = None, device: str = "cpu") -> None:
        self.engine = engine
        self._named, self._device = model or engine.model.name, device
        self._network: PersonSearchModel | None = None
        self._lock = threading.Lock()

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
            from personsearch.retrieval.model_identity import identify

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
        import torch

        with self._lock:
            network = self._load()
            image = torch.tensor(pixels, device=self._device).permute(2, 0, 1).float().div(255.0)
            with torch.inference_mode():
                return network.detect([image])[0]

    def embed(self, pixels: NDArray[np.uint8], boxes: FloatArray) -> FloatArray:
        """Embeddings (N, D) to search by of boxes (N, 4) in a picture (H, W, 3) of RGB bytes."""
        import torch

        with self._lock:
            network = self._load()
            image = torch.tensor(pixels, device=self._device).permute(2, 0, 1).float().div(255.0)
            given = torch.from_numpy(np.asarray(boxes, np.float32)).to(self._device)
            with torch.inference_mode():
                found: FloatArray = network.embed([image], [given])[0].float().cpu().numpy()
        return found

    def search(
        self,
        picture: Path | str | None = None,
        *,
        box: Sequence[float] | None = None,
        people: Sequence[int] = (),
        unlike: Sequence[int] = (),
        embeddings: FloatArray | None = None,
        filters: Filters = EVERYONE,
        top: int = 20,
        grouped: bool = True,
    ) -> SearchResult:
        """Those who are most like a person, best first.

        Args:
            picture: that shows the person.
            box: x1, y1, x2, y2 of the person in its pixels; without it the surest person found.
            people: ids in the archive that show the person, too; left out of the matches.
            unlike: ids in the archive that show others; left out of the matches.
            embeddings: (N, D) of more examples.
            filters: who is meant.
            top: how many matches.
            grouped: of a track in a video, only the view that is most alike.

        Raises:
            StoreError: no example at all, an id that is not there, or another model's archive.
            PictureError: the picture cannot be read, or nobody is in it.
        """
        examples = [] if embeddings is None else [np.asarray(embeddings, np.float32)]
        if len(people):
            examples.append(self.engine.vectors(people).astype(np.float32))
        shown = None
        own: Sequence[int] = ()
        if picture is not None:
            network = self.network
            given = None if box is None else np.array(box, np.float32)
            with self._lock:
                shown = query_person(network, Path(picture), given)
            examples.append(shown.embedding[None])
            own = self.engine.people_in(Path(picture))
        negatives = self.engine.vectors(unlike).astype(np.float32) if len(unlike) else None
        none = np.zeros((0, self.engine.model.dim), np.float32)
        gathered = np.concatenate([none, *examples])
        query = combine(gathered, negatives)
        matches = search_people(
            self.engine,
            query,
            filters=filters,
            top=top,
            without=[*people, *unlike, *own],
            grouped=grouped,
        )
        return SearchResult(query, matches, shown)

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
        store: the store's folder.
        model: what finds people in a query picture; default: the one that the store was made by.
        device: on which it runs.

    Raises:
        StoreError: there is no store.
    """
    return Archive(StoreEngine(store), model, device)
