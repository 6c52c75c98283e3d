"""`personsearch train`: train a recipe."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli.options import print_json
from personsearch.cli.progress import detail_bars
from personsearch.terminal import echo

if TYPE_CHECKING:
    from rich.progress import TaskID

    from personsearch.training.report import Listener, Report


def train(
    recipe: Annotated[
        str, typer.Argument(help="A TOML file, or a shipped recipe (see 'recipes list').")
    ],
    data: Annotated[
        Path | None, typer.Option(help="The data set's folder; default: the recipe's.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The run's folder.")] = Path("runs/latest"),
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on from the last checkpoint; more iterations extend a run."
        ),
    ] = False,
    device: Annotated[
        str, typer.Option(help="'cpu', 'cuda' or 'cuda:N'; default: a GPU where there is one.")
    ] = "",
    seed: Annotated[int | None, typer.Option(help="Seed; default: the recipe's.", min=0)] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the reports as JSON lines.")
    ] = False,
) -> None:
    """Train a system and keep its best and last checkpoints.

    Under `torchrun` the processes share each batch.

    Example: personsearch train synthetic-small/oim --data synth --out runs/oim
    """
    from personsearch.recipes import find

    path = find(recipe)  # before torch is loaded, which takes seconds
    from personsearch.datasets import open_dataset
    from personsearch.errors import RecipeError
    from personsearch.training.devices import joined_processes
    from personsearch.training.loop import Trainer
    from personsearch.training.recipe import read_recipe

    wanted = read_recipe(path)
    changes = {"data": str(data)} if data else {}
    if not (changes or wanted.data):
        raise RecipeError(f"{recipe}: names no data set; set data in it or give --data FOLDER")
    updated = wanted.model_copy(update=changes | ({} if seed is None else {"seed": seed}))
    dataset = open_dataset(Path(updated.data), updated.data_format or None)
    with joined_processes(device) as where, ProgressListener(json_output) as listener:
        trainer = Trainer(updated, dataset, out, device=where, listener=listener)
        if trainer.start:
            echo(f"{updated.init} initialises {trainer.start}", err=True)
        try:
            best = trainer.run(resume=resume)
        except KeyboardInterrupt:
            last = f": a checkpoint is in {out / 'last'}; resume with --resume"
            kept = (out / "last").is_dir()
            echo("interrupted" + (last if kept else " before the first checkpoint"), err=True)
            raise typer.Exit(130) from None
    echo(f"best checkpoint: {best}", err=json_output)


class ProgressListener:
    """Shows a progress bar with losses, rate and time left; or prints JSON lines."""

    def __init__(self, json_output: bool = False) -> None:
        self.json_output = json_output

    def __enter__(self) -> "Listener":
        if self.json_output:
            return self._print_json
        self._progress = detail_bars()
        self._progress.start()
        self._tasks: dict[str, TaskID] = {}
        return self._show

    def __exit__(self, *_: object) -> None:
        if not self.json_output:
            self._progress.stop()

    def _show(self, report: "Report") -> None:
        losses = " ".join(f"{name} {value:.3f}" for name, value in report.losses.items())
        minutes, seconds = divmod(round(report.seconds_left), 60)
        detail = f"{losses} | {report.images_per_second:.1f} img/s | {minutes}:{seconds:02} left"
        stage, bars = report.stage, self._progress
        if stage not in self._tasks:
            self._tasks[stage] = bars.add_task(stage, total=report.iterations, detail=detail)
        bars.update(self._tasks[stage], completed=report.iteration, detail=detail)
        if report.validation:
            metrics = "  ".join(f"{name} {value:.3f}" for name, value in report.validation.items())
            bars.console.print(f"validation at {report.iteration}: {metrics}")

    @staticmethod
    def _print_json(report: "Report") -> None:
        from dataclasses import asdict

        print_json(asdict(report), indent=None)
