"""Progress bars on stderr, one per step."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def detail_bars(*, transient: bool = False) -> "Progress":
    """Return bars on stderr, each with its count and a text, the field ``detail``."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from personsearch.terminal import console

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
        console=console(stderr=True),
        transient=transient,
    )


class StepProgress:
    """Shows the progress of several steps, unless hidden; call it with (step, done, total)."""

    def __init__(self, hidden: bool = False) -> None:
        from rich.progress import Progress

        from personsearch.terminal import console

        self._bars = Progress(console=console(stderr=True), transient=True)
        self._hidden = hidden
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "StepProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._tasks:  # else not even an empty line
            self._bars.stop()

    def __call__(self, step: str, done: int, total: int) -> None:
        if self._hidden:
            return
        if step not in self._tasks:
            self._bars.start()
            self._tasks[step] = self._bars.add_task(step, total=total)
        self._bars.update(self._tasks[step], completed=done)

    def step(self, name: str) -> Callable[[int, int], None]:
        """Return a callback for one step, called with (done, total)."""
        return lambda done, total: self(name, done, total)
