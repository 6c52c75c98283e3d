"""Random choices that are the same on every machine."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from personsearch.synthetic.drawing import Colour, shade

_T = TypeVar("_T")


class Random(np.random.Generator):
    """A generator made from whole-number seeds, with the choices that drawing needs."""

    def __init__(self, *seeds: int) -> None:
        super().__init__(np.random.PCG64(np.random.SeedSequence(seeds)))

    def randrange(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high` - 1."""
        return int(self.integers(low, high))

    def hundredths(self, low: int, high: int) -> float:
        """Return a whole number from `low` to `high` - 1, divided by 100."""
        return self.randrange(low, high) / 100

    def happens(self, percent: int) -> bool:
        """Return True with a probability of `percent`."""
        return self.randrange(0, 100) < percent

    def pick(self, values: Sequence[_T]) -> _T:
        """Return one of the values."""
        return values[self.randrange(0, len(values))]

    def shuffled(self, values: Sequence[_T]) -> list[_T]:
        """Return the values in random order."""
        return [values[k] for k in self.permutation(len(values)).tolist()]

    def colour(self, low: int, high: int) -> Colour:
        """Return a colour with channels between `low` and `high` - 1."""
        b, g, r = self.integers(low, high, 3).tolist()
        return b, g, r

    def tint(self, colour: Colour, low: int, high: int) -> Colour:
        """Return the colour at `low` to `high` - 1 percent of its brightness."""
        return shade(colour, self.randrange(low, high))
