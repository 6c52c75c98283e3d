"""The folder of the demo: what is in it already is used again, what fits no more is made anew.

demo.json     what was drawn and trained, and how long it took
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

from personsearch.errors import DataError

if TYPE_CHECKING:
    import torch

    from personsearch.datasets.dataset import Dataset
    from personsearch.demo.page import Step
    from personsearch.training.recipe import Recipe
    from personsearch.training.report import Listener, Report


class DemoFolder:
    """One demo's folder, made if need be.

    Args:
        root: the folder.

    Raises:
        DataError: it holds files of those names that no demo made, or a damaged demo.json.
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
                    raise DataError(f"{path}: was not made by the demo; give another --out folder")
            root.mkdir(parents=True, exist_ok=True)
            self._write()

    def draw(self, size: str, seed: int, progress: Callable[[int, int], None]) -> "Step":
        """Draws the benchmark into `data`, unless a complete one of this size and seed is there."""
        from importlib.metadata import version

        from personsearch.demo.page import Step
        from personsearch.synthetic.benchmark import make_benchmark

        name = "draw the pictures"
        wanted = {"size": size, "seed": seed, "version": version("personsearch")}
        drawn = self._record.get("data", {})
        if drawn.get("of") == wanted and (self.data / "scenes.json").is_file():
            return Step(name, drawn["seconds"], earlier=True)
        # A network that saw other pictures says nothing about these.
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
        """Trains into `run`: goes on where a run of this recipe was stopped, else anew.

        Raises:
            KeyboardInterrupt: after a checkpoint was written.
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

            def told(report: "Report") -> None:
                clock.tick(report.stage)
                listener(report)

            trainer = Trainer(recipe, dataset, self.run, device=device, listener=told)
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
        """Written first, so that a stop in between leaves nothing that looks complete."""
        self._record.pop(what, None)
        self._write()
        shutil.rmtree(folder, ignore_errors=True)

    def _write(self) -> None:
        partial = self._file.with_name(f".{self._file.name}.part")
        partial.write_text(json.dumps(self._record, indent=1), encoding="utf-8")
        partial.replace(self._file)


class _StageClock:
    """Adds the time between reports to the stage that reported."""

    def __init__(self, seconds: dict[str, float], keep: Callable[[], None]) -> None:
        self._seconds, self._keep = seconds, keep
        self._stage: str | None = None
        self._last = time.perf_counter()

    def tick(self, stage: str | None) -> None:
        """Time until now goes to `stage`, or to the last one that reported."""
        now = time.perf_counter()
        self._stage = stage or self._stage or next(reversed(self._seconds), None)
        if self._stage is not None:
            self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._last
        self._last = now
        self._keep()


def _read_record(file: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise TypeError("no object")
        for part, keys in (("data", ("of", "seconds")), ("train", ("recipe", "seconds"))):
            if part in record:
                for key in keys:
                    record[part][key]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{file}: is damaged ({error}); remove the folder or give another --out"
        ) from None
    return record
