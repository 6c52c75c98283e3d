"""Progress reports of a training run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Report:
    """State of a run at one iteration.

    Attributes:
        stage: name of the stage.
        iteration: iterations of the stage that are done.
        iterations: length of the stage.
        losses: mean of each named loss since the last report.
        learning_rate: of the last iteration.
        images_per_second: since the last report.
        seconds_left: until the end of the stage, at this rate.
        validation: metrics on the validation split; empty if they were not just measured.
    """

    stage: str
    iteration: int
    iterations: int
    losses: Mapping[str, float]
    learning_rate: float
    images_per_second: float
    seconds_left: float
    validation: Mapping[str, float] = field(default_factory=dict)


Listener = Callable[[Report], None]
