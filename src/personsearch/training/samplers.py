"""Which pictures make up an iteration: a pure function of seed and iteration.

A run that was stopped goes on exactly where it was, because no sampler holds any state.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np

from personsearch.errors import DataError
from personsearch.types import Scene


def generator(seed: int, *stream: int) -> np.random.Generator:
    """Random numbers that depend on nothing but `seed` and the numbers that name the stream."""
    return np.random.default_rng(np.random.SeedSequence([seed, *stream]))


class SceneSampler(ABC):
    """Batches of scene indices by iteration.

    Args:
        scenes: the training scenes.
        batch_size: scenes in a batch.
        seed: of the order.

    Raises:
        DataError: fewer scenes than a batch.
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

    def batches(self, start: int, stop: int) -> Iterator[list[int]]:
        """The batches of iterations `start`..`stop` - 1."""
        for iteration in range(start, stop):
            yield self.batch(iteration)


class RandomSampler(SceneSampler):
    """Every picture once an epoch, in an order drawn anew each epoch."""

    def __init__(self, scenes: Sequence[Scene], batch_size: int, seed: int) -> None:
        super().__init__(scenes, batch_size, seed)
        self._epoch, self._order = -1, np.zeros(0, dtype=np.int64)

    def _at(self, position: int) -> int:
        epoch, offset = divmod(position, len(self.scenes))
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = generator(self.seed, 1, epoch).permutation(len(self.scenes))
        return int(self._order[offset])

    def batch(self, iteration: int) -> list[int]:
        """The next `batch_size` pictures; a batch may span two epochs."""
        start = iteration * self.batch_size
        return [self._at(p) for p in range(start, start + self.batch_size)]


class IdentitySampler(SceneSampler):
    """Pictures that repeat a few identities, every identity equally often.

    Args:
        pictures_per_identity: pictures of each drawn identity, different ones where there are.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        batch_size: int,
        seed: int,
        pictures_per_identity: int = 2,
    ) -> None:
        super().__init__(scenes, batch_size, seed)
        self.pictures_per_identity = pictures_per_identity
        shown: dict[int, list[int]] = {}
        for index, scene in enumerate(scenes):
            for identity in np.unique(scene.ids[scene.ids >= 0]).tolist():
                shown.setdefault(identity, []).append(index)
        self._shown = [pictures for pictures in shown.values() if len(pictures) > 1]
        if not self._shown:
            raise DataError(
                "the identity sampler needs an identity in two pictures, the training set has "
                "none; use sampler = 'random'"
            )

    def batch(self, iteration: int) -> list[int]:
        """`pictures_per_identity` pictures of each of a few identities."""
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
