"""Write the reports of a run for TensorBoard, an extra."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from personsearch.errors import RecipeError
from personsearch.training.report import Report


class TensorBoardWriter:
    """One curve per loss and per validation metric, over the iterations of all stages.

    `lengths` holds the iterations of each stage by name, in order.
    """

    def __init__(self, folder: Path, lengths: Mapping[str, int]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise RecipeError(
                "tensorboard = true needs the extra: pip install 'personsearch[tensorboard]'"
            ) from None
        self._open, self._folder = SummaryWriter, folder
        self._offsets, total = {}, 0
        for name, length in lengths.items():
            self._offsets[name] = total
            total += length
        self._writer: Any = None

    def __call__(self, report: Report) -> None:
        """Add one report."""
        step = self._offsets[report.stage] + report.iteration
        if self._writer is None:
            # Purge what a killed run wrote from here on; it will be written again.
            self._writer = self._open(str(self._folder), purge_step=step)
        values = {f"loss/{name}": value for name, value in report.losses.items()}
        values |= {f"validation/{name}": value for name, value in report.validation.items()}
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the file; a later report opens another one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
