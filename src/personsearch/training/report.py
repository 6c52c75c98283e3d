"""Progress reports of a training run."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from personsearch.errors import NonFiniteLossError


@dataclass(frozen=True)
class Report:
    """State of a run at one iteration."""

    stage: str
    iteration: int  # iterations of the stage that are done
    iterations: int  # length of the stage
    losses: Mapping[str, float]  # mean of each named loss since the last report
    learning_rate: float  # of the last iteration
    images_per_second: float  # since the last report
    seconds_left: float  # until the end of the stage, at this rate
    validation: Mapping[str, float] = field(default_factory=dict)  # empty if not just measured


Listener = Callable[[Report], None]


class UnreadLosses:
    """Losses and gradient norms of the steps since they were last read.

    They stay on their device, since reading one waits for all work there.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[Mapping[str, Tensor], Callable[[Mapping[str, float]], str]]] = []

    def add(
        self, values: Mapping[str, Tensor], problem: Callable[[Mapping[str, float]], str]
    ) -> None:
        """Keep scalars of a step; `problem` words the error if some of them are not finite."""
        self._steps.append(({n: v.detach().float() for n, v in values.items()}, problem))

    def read(self) -> list[dict[str, float]]:
        """Return the values of each `add` by name, in one transfer, and forget them.

        Raises:
            NonFiniteLossError: one is NaN or infinite; the message is of the first.
        """
        steps, self._steps = self._steps, []
        scalars = [value for values, _ in steps for value in values.values()]
        numbers = iter(torch.stack(scalars).tolist() if scalars else ())
        read = []
        for values, problem in steps:
            found = dict(zip(values, numbers))  # noqa: B905  (the numbers are of all steps)
            bad = {name: value for name, value in found.items() if not math.isfinite(value)}
            if bad:
                raise NonFiniteLossError(problem(bad))
            read.append(found)
        return read
