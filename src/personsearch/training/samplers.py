"""Which pictures make up a batch: a pure function of seed and iteration.

Samplers hold no state, so an interrupted run resumes exactly.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from personsearch import boxes as box_arithmetic
from personsearch.errors import DataError
from personsearch.types import Scene


def generator(seed: int, *stream: int) -> np.random.Generator:
    """Return a random generator that depends only on `seed` and the numbers of its stream."""
    return np.random.default_rng(np.random.SeedSequence([seed, *stream]))


def pictures_by_identity(scenes: Sequence[Scene], sampler: str) -> dict[int, list[int]]:
    """Return the scenes' indices by identity, of those that several scenes show: one or more."""
    shown: dict[int, list[int]] = {}
    for index, scene in enumerate(scenes):
        for identity in np.unique(scene.ids[scene.ids >= 0]).tolist():
            shown.setdefault(identity, []).append(index)
    repeated = {identity: pictures for identity, pictures in shown.items() if len(pictures) > 1}
    if not repeated:
        raise DataError(
            f"the {sampler} sampler needs an identity in two pictures, the training set has none; "
            "label people across pictures or use sampler = 'random'"
        )
    return repeated


class EpochOrder:
    """An endless sequence of the indices 0..count - 1, shuffled anew in each epoch."""

    def __init__(self, count: int, seed: int, stream: int) -> None:
        self.count, self.seed, self.stream = count, seed, stream
        self._epoch, self._order = -1, np.zeros(0, dtype=np.int64)

    def __getitem__(self, position: int) -> int:
        epoch, offset = divmod(position, self.count)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = generator(self.seed, self.stream, epoch).permutation(self.count)
        return int(self._order[offset])


class SceneSampler(ABC):
    """Batches of scene indices by iteration.

    Raises:
        DataError: fewer scenes than a batch, or none that the sampler can use.
    """

    def __init__(self, scenes: Sequence[Scene], batch_size: int, seed: int) -> None:
        if len(scenes) < batch_size:
            raise DataError(
                f"a batch of {batch_size} pictures was asked for, the training set has "
                f"{len(scenes)}; lower images_per_iteration or add data"
            )
        self.scenes, self.batch_size, self.seed = scenes, batch_size, seed

    @abstractmethod
    def batch(self, iteration: int) -> list[int]:
        """Indices into `scenes` of the batch of this iteration, counted from zero."""


def visible_people(scenes: Sequence[Scene]) -> list[tuple[int, int]]:
    """Return the scene and row of each labelled person who is inside the picture."""
    people: list[tuple[int, int]] = []
    for index, scene in enumerate(scenes):
        inside = box_arithmetic.area(box_arithmetic.clip(scene.boxes, scene.size)) > 0
        people += [(index, row) for row in np.flatnonzero(inside & (scene.ids >= 0)).tolist()]
    return people


class RandomSampler(SceneSampler):
    """Every picture once per epoch, in random order."""

    def __init__(self, scenes: Sequence[Scene], batch_size: int, seed: int) -> None:
        super().__init__(scenes, batch_size, seed)
        self._order = EpochOrder(len(scenes), seed, stream=1)

    def batch(self, iteration: int) -> list[int]:
        """The next `batch_size` pictures; a batch may span two epochs."""
        start = iteration * self.batch_size
        return [self._order[p] for p in range(start, start + self.batch_size)]


class IdentitySampler(SceneSampler):
    """Pictures that repeat a few identities, every identity equally often."""

    def __init__(
        self, scenes: Sequence[Scene], batch_size: int, seed: int, pictures_per_identity: int = 2
    ) -> None:
        super().__init__(scenes, batch_size, seed)
        self.pictures_per_identity = pictures_per_identity
        self._shown = list(pictures_by_identity(scenes, "identity").values())

    def batch(self, iteration: int) -> list[int]:
        """Different pictures of each of a few identities, if possible `pictures_per_identity`."""
        rng = generator(self.seed, 2, iteration)
        chosen: list[int] = []
        for identity in rng.permutation(len(self._shown)).tolist():
            pictures = self._shown[identity]
            count = min(self.pictures_per_identity, len(pictures), self.batch_size - len(chosen))
            fresh = [p for p in rng.permutation(pictures).tolist() if p not in chosen]
            chosen += fresh[:count]
            if len(chosen) == self.batch_size:
                return chosen
        spare = [p for p in rng.permutation(len(self.scenes)).tolist() if p not in chosen]
        return chosen + spare[: self.batch_size - len(chosen)]
