"""Progress goes to stderr, so that what is printed can be read by a program."""

import pytest

from personsearch.cli.progress import StepProgress


def test_steps_are_kept_apart_and_stdout_stays_clean(capsys: pytest.CaptureFixture[str]) -> None:
    with StepProgress() as tell:
        tell("detect", 1, 4)
        tell("embed", 2, 3)
        tell("detect", 4, 4)
        tasks = {task.description: (task.completed, task.total) for task in tell._bars.tasks}
    assert tasks == {"detect": (4, 4), "embed": (2, 3)}
    assert capsys.readouterr().out == ""
