"""`personsearch recipes`: the recipes that come with the package."""

from pathlib import Path
from typing import Annotated

import typer

from personsearch.cli.options import JsonOption, print_json
from personsearch.terminal import echo

app = typer.Typer(
    help="List, show and copy the recipes that come with the package.", no_args_is_help=True
)

_Name = Annotated[str, typer.Argument(help="A recipe's name, such as prw/seqnet.")]


@app.command("list")
def list_recipes(json_output: JsonOption = False) -> None:
    """List the recipes by name.

    Example: personsearch recipes list
    """
    from personsearch.recipes import names

    if json_output:
        print_json(names(), indent=None)
    else:
        for name in names():
            echo(name)


@app.command("show")
def show(name: _Name) -> None:
    """Print a recipe.

    Example: personsearch recipes show prw/seqnet
    """
    from personsearch.recipes import find

    typer.echo(find(name).read_text(encoding="utf-8"), nl=False)


@app.command("copy")
def copy(
    name: _Name,
    out: Annotated[
        Path | None, typer.Option(help="The file to write; default: the recipe's name, here.")
    ] = None,
) -> None:
    """Copy a recipe to a file of your own, to change and train it.

    Example: personsearch recipes copy prw/seqnet --out mine.toml
    """
    from personsearch.recipes import find

    source = find(name)
    target = out or Path(source.name)
    if target.exists():
        raise typer.BadParameter(
            f"{target} exists; choose another file or delete it", param_hint="--out"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    echo(f"written: {target}; train it with: personsearch train {target} --data FOLDER")
