"""The command `personsearch`: its subcommands, and errors as one line."""

import logging
import sys
from typing import Annotated

import typer

from personsearch.cli import (
    audit,
    bench,
    calibrate,
    convert_weights,
    data,
    demo,
    erase,
    evaluate,
    export,
    index,
    keys,
    migrate,
    models,
    recipes,
    reproduce,
    search,
    serve,
    store,
    timeline,
    train,
)
from personsearch.errors import PersonSearchError
from personsearch.terminal import echo

app = typer.Typer(
    name="personsearch",
    help="Find a person in whole pictures.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(export.export)
app.command("index")(index.index)
app.command("search")(search.search)
app.command("timeline")(timeline.timeline)
app.command("calibrate")(calibrate.calibrate)
app.command("erase")(erase.erase)
app.command("migrate")(migrate.migrate)
app.add_typer(store.app, name="store")
app.command("serve")(serve.serve)
app.add_typer(keys.app, name="keys")
app.add_typer(audit.app, name="audit")
app.command("demo")(demo.demo)
app.command("convert-weights")(convert_weights.convert_weights)
app.add_typer(models.app, name="models")
app.add_typer(recipes.app, name="recipes")
app.add_typer(bench.app, name="bench")
app.command("reproduce")(reproduce.reproduce)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        echo(f"personsearch {version('personsearch')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Find a person in whole pictures."""


class _Echo(logging.Handler):
    """Prints where a network runs, and in which precision."""

    def emit(self, record: logging.LogRecord) -> None:
        echo(self.format(record), err=True)


def main() -> None:
    """Run the command line.

    The exit status is 0 on success, 1 on a failure of data or model, 2 on wrong usage, and 130 on
    Ctrl-C.
    """
    debug = "--debug" in sys.argv
    shown = _Echo()
    networks = [logging.getLogger(f"personsearch.{room}") for room in ("external", "systems")]
    for logger in networks:
        logger.setLevel(logging.INFO)
        logger.addHandler(shown)
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(arguments)
    except (PersonSearchError, OSError, MemoryError) as error:
        if debug:
            raise
        echo(f"error: {str(error) or 'out of memory'}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        echo("interrupted", err=True)
        sys.exit(130)
    finally:
        for logger in networks:
            logger.removeHandler(shown)
            logger.setLevel(logging.NOTSET)
