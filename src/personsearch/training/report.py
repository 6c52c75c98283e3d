"""Progress reports of a training run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


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
