"""The folder of the demo. Complete parts are reused, parts that no longer fit are made again.

demo.json     record of what was drawn and trained, and how long it took
data/         the synthetic benchmark
run/          the training run
index.html    the page
"""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personsearch.durable import replace_file
from personsearch.errors import DataError
from personsearch.parsing import parse_json

if TYPE_CHECKING:
    import torch

    from personsearch.datasets.dataset import Dataset
    from personsearch.demo.page import Step
    from personsearch.training.recipe import Recipe
    from personsearch.training.report import Listener, Report


class DemoFolder:
    """The folder of one demo; created if it does not exist.

    Raises:
        DataError: it contains such files but no demo.json, or a damaged one.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data, self.run, self.page = root / "data", root / "run", root / "index.html"
        self._file = root / "demo.json"
        self._record: dict[str, Any] = {}
        if self._file.is_file():
            self._record = _read_record(self._file)
        else:
            for path in (self.data, self.run, self.page):
                if path.exists():
                    raise DataError(f"{path}: was not made by the demo; choose another --out")
            root.mkdir(parents=True, exist_ok=True)
            self._write()

    def draw(self, size: str, seed: int, progress: Callable[[int, int], None]) -> "Step":
        """Draw the benchmark into `data`, unless it is there complete in this size and seed."""
        from importlib.metadata import version

        from personsearch.demo.page import Step
        from personsearch.synthetic.benchmark import make_benchmark

        name = "draw the pictures"
        wanted = {"size": size, "seed": seed, "version": version("personsearch")}
        drawn = self._record.get("data", {})
        if drawn.get("of") == wanted and (self.data / "scenes.json").is_file():
            return Step(name, drawn["seconds"], earlier=True)
        # A network trained on other pictures does not belong to these.
        self._forget("train", self.run)
        self._forget("data", self.data)
        began = time.perf_counter()
        make_benchmark(self.data, size=size, seed=seed, progress=progress)
        seconds = time.perf_counter() - began
        self._record["data"] = {"of": wanted, "seconds": seconds}
        self._write()
        return Step(name, seconds)

    def train(
        self, recipe: "Recipe", dataset: "Dataset", device: "torch.device", listener: "Listener"
    ) -> "list[Step]":
        """Train into `run`; an interrupted run of the same recipe is resumed.

        Raises:
            KeyboardInterrupt: training was interrupted; a checkpoint has been written.
        """
        from personsearch.demo.page import Step
        from personsearch.training.loop import Trainer

        if self._record.get("train", {}).get("recipe") != recipe.to_toml():
            self._forget("train", self.run)
            self._record["train"] = {"recipe": recipe.to_toml(), "seconds": {}, "complete": False}
            self._write()
        state = self._record["train"]
        earlier = state["complete"] and (self.run / "last").is_dir()
        if not earlier:
            clock = _StageClock(state["seconds"], self._write)

            def listen(report: "Report") -> None:
                clock.tick(report.stage)
                listener(report)

            trainer = Trainer(recipe, dataset, self.run, device=device, listener=listen)
            try:
                trainer.run(resume=True)
            finally:
                clock.tick(None)
            state["complete"] = True
            self._write()
        return [
            Step(f"train, stage “{stage}”", seconds, earlier)
            for stage, seconds in state["seconds"].items()
        ]

    def _forget(self, what: str, folder: Path) -> None:
        """Remove a part from the record, then from disk, so that it never looks complete."""
        self._record.pop(what, None)
        self._write()
        shutil.rmtree(folder, ignore_errors=True)

    def _write(self) -> None:
        replace_file(self._file, json.dumps(self._record, indent=1))


class _StageClock:
    """Adds up the time between reports by stage."""

    def __init__(self, seconds: dict[str, float], keep: Callable[[], None]) -> None:
        self._seconds, self._keep = seconds, keep
        self._stage: str | None = None
        self._last = time.perf_counter()

    def tick(self, stage: str | None) -> None:
        """Add the time since the last call to `stage`, or to the last stage that reported."""
        now = time.perf_counter()
        self._stage = stage or self._stage or next(reversed(self._seconds), None)
        if self._stage is not None:
            self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._last
        self._last = now
        self._keep()


def _read_record(file: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = parse_json(file.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise TypeError("no object")
        for part, keys in (("data", ("of", "seconds")), ("train", ("recipe", "seconds"))):
            if part in record:
                for key in keys:
                    record[part][key]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{file}: is damaged ({error}); remove the folder or choose another --out"
        ) from None
    return record
