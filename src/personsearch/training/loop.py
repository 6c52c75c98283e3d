"""The loop that trains every system.

A run is a folder: `log.jsonl` (one line per report), `curves.png`, and the checkpoints `last` (to
resume from) and `best` (by validation; the last one if nothing is held out). The random numbers of
an iteration depend only on the seed and the iteration. So a run that was killed and resumed ends
with the same weights as one that was not, bit for bit on the same kind of machine with the same
number of threads.
"""

import itertools
import json
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from personsearch.datasets.dataset import Dataset
from personsearch.datasets.validation import split_validation
from personsearch.detectors.memory_format import channels_together
from personsearch.distributed import (
    any_process,
    average_,
    barrier,
    check_same,
    mean_over_processes,
    rank,
    world_size,
)
from personsearch.durable import make_writable
from personsearch.errors import CheckpointError, DataError, NonFiniteLossError, naming_settings
from personsearch.evaluation.detection import evaluate_detection
from personsearch.evaluation.runner import detect_scenes, embed_queries
from personsearch.evaluation.search import evaluate_search
from personsearch.parsing import parse_json
from personsearch.precision import autocast
from personsearch.systems.base import PersonSearchModel
from personsearch.training import checkpoint
from personsearch.training.checkpoint import Progress
from personsearch.training.recipe import Recipe, read_recipe
from personsearch.training.report import Listener, Report, UnreadLosses
from personsearch.training.resume import check_recipe, facts_of_run
from personsearch.training.stages import Stage, make_stages
from personsearch.training.tensorboard import TensorBoardWriter
from personsearch.types import Scene, SearchProtocol

LOGGED = ("stage", "iteration", "losses", "learning_rate", "images_per_second")
"""Fields of a report that `log.jsonl` holds, besides the validation, if there was one."""
GRADIENT = ""
"""The name that the norm of the gradient has among the losses; no loss has it."""


class Trainer:
    """Train one recipe on one data set in the folder `out`; `listener` gets every report.

    The data set has a ``train`` split whose ids are 0..n-1, and optionally a ``val`` split with a
    protocol of that name; without one, it is split off by identity.

    Raises:
        DataError: no labelled people to train on, or fewer pictures than a batch.
        RecipeError: a key that does not fit this system, data set or machine.
        ModelError: the network cannot be built.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        out: Path,
        *,
        device: torch.device | str = "cpu",
        listener: Listener | None = None,
    ) -> None:
        self.recipe, self.out = recipe, Path(out)
        self.device = torch.device(device)
        self.listener = listener
        self.rank, self.world = rank(), world_size()
        if "val" not in dataset.splits and recipe.validation_fraction > 0:
            dataset = split_validation(dataset, recipe.validation_fraction, recipe.seed)
        self.scenes: Sequence[Scene] = dataset.split("train")
        self.validation: Sequence[Scene] = dataset.splits.get("val", ())
        self.protocol: SearchProtocol | None = dataset.protocols.get("val")
        self.num_ids = 1 + max((int(s.ids.max(initial=-1)) for s in self.scenes), default=-1)
        if not self.scenes or self.num_ids == 0:
            raise DataError(
                f"data set {dataset.name!r}: its training split has {len(self.scenes)} pictures "
                f"and {self.num_ids} identities; training needs at least one of each"
            )
        check_same(facts_of_run(recipe, self.scenes, self.validation))
        torch.manual_seed(_seed(recipe.seed, 0, 0))
        self.model: PersonSearchModel = recipe.build(self.num_ids)
        self.start = ""  # what a checkpoint gave to start from
        if recipe.init:
            restored = checkpoint.restore_matching(self.model, Path(recipe.init))
            self.start = checkpoint.describe_start(self.model, restored)
        channels_together(self.model.to(self.device))
        self.stages = make_stages(recipe, self.scenes)
        for stage in self.stages:
            stage.check(self.model)
        self.best: float | None = None
        self._unread = UnreadLosses()
        self._sums: dict[str, float] = {}  # of the losses since the last report
        self._tensorboard: TensorBoardWriter | None = None
        if recipe.tensorboard and self.rank == 0:
            lengths = {stage.name: stage.iterations for stage in self.stages}
            self._tensorboard = TensorBoardWriter(self.out / "tensorboard", lengths)
        self._stop = threading.Event()

    def run(self, *, resume: bool = False) -> Path:
        """Train to the end and return the folder of the best checkpoint.

        With `resume`, go on from the run's last checkpoint, or start if there is none. A finished
        run is extended if the recipe's `iterations` grew.

        Raises:
            NonFiniteLossError: a loss or gradient became NaN or infinite; the last good checkpoint
                is kept.
            CheckpointError: a checkpoint cannot be written, or is of another recipe.
            KeyboardInterrupt: the run was interrupted, after a checkpoint was written.
        """
        if self.rank == 0:
            self._make_folder(resume)
        barrier()
        if not self.stages:  # the checkpoint of `init` is the result
            self._write("last", {"stage": "init", "iteration": 0}, None)
            return self.out / "last"
        first_stage, first_iteration, optimizer_state = self._resume() if resume else (0, 0, {})
        # Processes on several machines may not see one folder.
        check_same({"first stage": first_stage, "first iteration": first_iteration})
        try:
            with self._interrupts():
                for index in range(first_stage, len(self.stages)):
                    self._run_stage(index, first_iteration, optimizer_state)
                    first_iteration, optimizer_state = 0, {}
        except Exception:
            self._unread.read()  # what failed may have come of a loss that was not finite
            raise
        finally:
            if self._tensorboard:
                self._tensorboard.close()
        from personsearch.training.curves import plot_training

        if self.rank == 0:
            plot_training(read_log(self.out / "log.jsonl"), self.out / "curves.png")
        best = self.out / "best"
        return best if best.is_dir() else self.out / "last"

    def validate(self) -> dict[str, float]:
        """Return detection and search metrics on the validation split; none without one."""
        if not self.validation:
            return {}
        model = self.model.for_inference(self.recipe.precision)
        threshold = self.recipe.eval_score_threshold
        found = detect_scenes(model, self.validation)
        detection = evaluate_detection(self.validation, found, score_threshold=threshold)
        metrics = {
            "detection_ap": float(detection.average_precision),
            "detection_recall": float(detection.recall),
        }
        if self.protocol is not None and len(self.protocol.queries):
            queries = embed_queries(model, self.protocol, self.validation)
            search = evaluate_search(
                self.protocol,
                found,
                queries,
                score_threshold=threshold,
                confidence_weighted=model.confidence_weighted,
                metric=model.metric,
            )
            metrics |= {"mean_ap": float(search.mean_ap), "top_1": float(search.top_k[1])}
        return metrics

    def _run_stage(self, index: int, start: int, state: Mapping[str, Tensor]) -> None:
        stage, recipe = self.stages[index], self.recipe
        stage.prepare(self.model, self.device, self.out)
        parameters = stage.parameters(self.model)
        biases = [p for name, p in self.model.named_parameters() if name.endswith("bias")]
        optimizer = stage.make_optimizer(parameters, biases)
        if state:
            checkpoint.restore_optimizer(optimizer, state, stage.module)
        batches = stage.batches(start, self.rank, self.world)
        sizes = stage.memory_settings()
        self._unread, self._sums = UnreadLosses(), {}
        images, since, began = 0, start, time.perf_counter()
        for iteration in range(start, stage.iterations):
            stage.set_mode(self.model)
            # The same in all processes: each draws for the pictures of all.
            torch.manual_seed(_seed(recipe.seed, index + 1, iteration, 0))
            rate = stage.learning_rate(iteration)
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("lr_factor", 1.0)  # biases may have one
            optimizer.zero_grad(set_to_none=True)
            names: list[str] = []
            with naming_settings(sizes):
                for batch in itertools.islice(batches, stage.accumulate):
                    images += len(batch.images) * self.world
                    names += batch.names
                    self._backward(stage, batch, iteration)
                self._step(optimizer, parameters, stage, iteration, names)
            done = iteration + 1
            last = done == stage.iterations
            validates = stage is self.stages[-1] and (done % recipe.evaluate_every == 0 or last)
            if done % recipe.log_every == 0 or validates or last:
                self._read_losses(stage)
                sums = mean_over_processes(self._sums)
                seconds = time.perf_counter() - began
                steps = done - since
                self._report(
                    Report(
                        stage.name,
                        done,
                        stage.iterations,
                        {name: value / steps for name, value in sums.items()},
                        rate,
                        images / seconds,
                        (stage.iterations - done) * seconds / steps,
                        self._validate_and_keep_best(done) if validates else {},
                    )
                )
                self._sums, images, since, began = {}, 0, done, time.perf_counter()
            # All processes have to end at the same iteration.
            (stop,) = any_process([self._stop.is_set()])
            if done % recipe.checkpoint_every == 0 or last or stop:
                self._read_losses(stage)
                self._save(stage, done, optimizer)
            if stop:
                raise KeyboardInterrupt

    def _backward(self, stage: Stage, batch: Any, iteration: int) -> None:
        batch = batch.to(self.device)
        with autocast(self.device, self.recipe.precision):
            losses = stage.losses(self.model, batch.images, batch)
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        names = batch.names
        self._unread.add(
            losses,
            lambda bad: self._diverged(
                stage,
                iteration,
                f"loss {bad} on pictures {names}; lower lr, lengthen the warm-up",
            ),
        )
        # If no picture of the batch shows anyone, the losses do not depend on the network.
        if total.requires_grad:
            (total / stage.accumulate).backward()

    def _read_losses(self, stage: Stage) -> None:
        """Add the losses of the steps since the last call to the sums of the next report."""
        for values in self._unread.read():
            for name, value in values.items():
                if name != GRADIENT:
                    self._sums[name] = self._sums.get(name, 0.0) + value / stage.accumulate

    def _step(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: list[torch.nn.Parameter],
        stage: Stage,
        iteration: int,
        names: list[str],
    ) -> None:
        if self.world > 1:
            average_(_gradients(parameters) + _statistics(self.model))
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.recipe.clip_norm or math.inf)
        problem = f"the gradient is not finite though the losses are, on pictures {names}; lower lr"
        self._unread.add({GRADIENT: norm}, lambda _: self._diverged(stage, iteration, problem))
        # As `torch.amp.GradScaler` does: a fused optimizer leaves a step out that is not finite.
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            optimizer.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
        optimizer.step()

    def _diverged(self, stage: Stage, iteration: int, problem: str) -> str:
        return (
            f"stage {stage.name!r}, iteration {iteration}: {problem} or set clip_norm. The last "
            f"good checkpoint is in {self.out}"
        )

    def _validate_and_keep_best(self, done: int) -> dict[str, float]:
        measured = self.validate()
        score = measured.get("mean_ap", measured.get("detection_ap"))
        if score is None:
            # Nothing is held out: the run's result is its last checkpoint, as in the papers.
            if done == self.stages[-1].iterations:
                self._write("best", {"iteration": done}, None)
        elif self.best is None or score > self.best:
            self.best = score
            self._write("best", {"iteration": done, "validation": measured}, None)
        return measured

    def _save(self, stage: Stage, done: int, optimizer: torch.optim.Optimizer) -> None:
        # A broken step would only show in the next loss, after the good checkpoint was replaced.
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter).all():
                problem = f"the step made {name} not finite; lower lr"
                raise NonFiniteLossError(self._diverged(stage, done - 1, problem))
        tensors = checkpoint.optimizer_tensors(optimizer, stage.module)
        progress = Progress(stage.name, done, self.best, tensors)
        metrics = {"stage": stage.name, "iteration": done, "best_validation": self.best}
        self._write("last", metrics, progress)

    def _write(self, name: str, metrics: Mapping[str, Any], progress: Progress | None) -> None:
        if self.start:
            metrics = {**metrics, "start": self.start}
        if self.rank == 0:
            checkpoint.save_checkpoint(
                self.out / name, self.model, self.recipe, self.num_ids, metrics, progress
            )

    def _report(self, report: Report) -> None:
        if self.rank != 0:
            return
        line = {key: value for key, value in vars(report).items() if key in LOGGED}
        if report.validation:
            line["validation"] = report.validation
        line["images_per_second"] = round(report.images_per_second, 2)
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        if self._tensorboard:
            self._tensorboard(report)
        if self.listener:
            self.listener(report)

    def _make_folder(self, resume: bool) -> None:
        try:
            make_writable(self.out)
        except OSError as error:
            raise CheckpointError(
                f"{self.out}: cannot be written ({error}); choose another folder"
            ) from None
        held = ("last", "last.old", "best", "best.old")
        if not resume and any((self.out / name).exists() for name in held):
            raise CheckpointError(
                f"{self.out}: already holds a run; resume it (--resume) or choose another folder"
            )
        checkpoint.recover_checkpoint(self.out / "last")
        checkpoint.recover_checkpoint(self.out / "best")
        if not (self.out / "last").exists():
            (self.out / "log.jsonl").unlink(missing_ok=True)

    def _resume(self) -> tuple[int, int, Mapping[str, Tensor]]:
        """Restore model and log; return stage, iteration and optimizer state to resume from."""
        last = self.out / "last"
        if not last.exists():
            return 0, 0, {}
        progress = checkpoint.load_progress(last)
        names = [stage.name for stage in self.stages]
        done = progress.iteration if progress.stage == names[-1] else 0
        check_recipe(read_recipe(last / "recipe.toml"), self.recipe, done, str(last))
        if progress.stage not in names:
            raise CheckpointError(f"{last}: was in stage {progress.stage!r}, the run has {names}")
        checkpoint.restore(self.model, last)
        self.best = progress.best
        index = names.index(progress.stage)
        if self.rank == 0:
            self._truncate_log(names, index, progress.iteration)
        if progress.iteration == self.stages[index].iterations:
            return index + 1, 0, {}
        return index, progress.iteration, progress.optimizer

    def _truncate_log(self, names: list[str], index: int, iteration: int) -> None:
        """Drop the reports after the checkpoint; they will be made again."""
        path = self.out / "log.jsonl"
        kept = [
            line
            for line in read_log(path)
            if (names.index(line["stage"]), line["iteration"]) <= (index, iteration)
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    @contextmanager
    def _interrupts(self) -> Iterator[None]:
        """Finish the iteration on the first Ctrl-C; end at once on the second."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if self._stop.is_set():
                raise KeyboardInterrupt
            self._stop.set()

        self._stop.clear()
        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the reports of a run, without a last line that a kill cut off."""
    if not path.is_file():
        return []
    reports = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):
            reports.append(parse_json(line))
    return reports


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _gradients(parameters: list[torch.nn.Parameter]) -> list[Tensor]:
    """Return the gradients to average, zeros where only other processes have one.

    A parameter that has none in any process keeps none: the optimizer passes over it.
    """
    used = any_process([p.grad is not None for p in parameters])
    chosen = [p for p, any_has in zip(parameters, used, strict=True) if any_has]
    for parameter in chosen:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [p.grad for p in chosen if p.grad is not None]


def _statistics(model: torch.nn.Module) -> list[Tensor]:
    """Return the running statistics to average, so that all processes detect the same."""
    return [
        statistic
        for module in model.modules()
        # In evaluation mode the module is frozen: its statistics did not change.
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and module.training
        for statistic in (module.running_mean, module.running_var)
        if statistic is not None
    ]
