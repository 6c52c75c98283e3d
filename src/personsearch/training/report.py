"""What a training run says while it goes on, and who is told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Report:
    """The state of a run at one iteration.

    Attributes:
        stage: the stage's name.
        iteration: iterations of the stage that are done.
        iterations: of the stage in all.
        losses: mean of each named loss since the last report.
        learning_rate: of the last iteration.
        images_per_second: since the last report.
        seconds_left: of the stage, at this rate.
        validation: figures on the validation split, where they were just measured.
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
