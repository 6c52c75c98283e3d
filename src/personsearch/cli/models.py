"""`personsearch models`: published networks on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli.options import JsonOption, print_json
from personsearch.terminal import echo

if TYPE_CHECKING:
    from personsearch.zoo import Pair

app = typer.Typer(
    help="Download published networks and check them. Nothing is downloaded unasked.",
    no_args_is_help=True,
)

_Pairs = Annotated[
    list[str] | None, typer.Argument(help="Pairs, see 'models list'; 'all'; default: omz.")
]
_Folder = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the networks; default: $PERSONSEARCH_MODELS, or the platform's cache."
    ),
]


@app.command("list")
def list_pairs(folder: _Folder = None, json_output: JsonOption = False) -> None:
    """List the pairs of published networks, and which of them are here.

    Example: personsearch models list
    """
    from personsearch.plots.tables import TextTable, print_tables
    from personsearch.zoo import check, models_folder, zoo

    folder = folder or models_folder()
    rows = []
    for pair in zoo().pairs.values():
        missing = [problem.path.name for problem in check(pair, folder)]
        state = "yes" if not missing else "no" if len(missing) == len(pair.files) else "in part"
        rows.append((pair, state))
    if json_output:
        plain = [
            {
                "name": pair.name,
                "networks": pair.title,
                "bytes": pair.size,
                "license": pair.license,
                "work": pair.work,
                "stated": pair.stated,
                "default": pair.name == zoo().default,
                "here": state,
                "files": [str(folder / file.name) for file in pair.files],
            }
            for pair, state in rows
        ]
        print_json(plain)
        return
    cells = [
        (p.name, p.title, f"{p.size / 1e6:.1f}", p.work, p.license, state) for p, state in rows
    ]
    columns = ("pair", "networks", "MB", "work", "licence", "here")
    print_tables(TextTable(f"published networks; here means {folder}", columns, cells))


@app.command("pull")
def pull_pairs(
    pairs: _Pairs = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Copy the files from this folder instead of downloading them."),
    ] = None,
    mirror: Annotated[
        str | None, typer.Option(help="Address instead of the publisher's, with the same paths.")
    ] = None,
    folder: _Folder = None,
) -> None:
    """Download pairs of networks, resume interrupted downloads, and check every byte.

    Example: personsearch models pull omz-small
    """
    if source is not None and mirror is not None:
        raise typer.BadParameter("--from and --mirror exclude each other", param_hint="--from")

    from personsearch.cli.progress import StepProgress
    from personsearch.zoo import copy, models_folder, pull, zoo

    folder = folder or models_folder()
    for pair in _chosen(pairs):
        where = source or mirror or zoo().base
        echo(
            f"{pair.name}: {pair.title}, {pair.size / 1e6:.1f} MB, {pair.license}, from {where}",
            err=True,
        )
        if source is not None:
            copy(pair, source, folder)
        else:
            with StepProgress() as progress:
                pull(pair, folder, base=mirror, progress=progress)
        echo(f"{pair.name} is in {folder}; use it as --model {pair.name}")


@app.command("check")
def check_pairs(
    pairs: _Pairs = None, folder: _Folder = None, json_output: JsonOption = False
) -> None:
    """Check every byte of the networks here; exit status 1 if a file is missing or wrong.

    Example: personsearch models check all
    """
    from personsearch.zoo import check, models_folder

    folder = folder or models_folder()
    found = {pair.name: check(pair, folder) for pair in _chosen(pairs)}
    if json_output:
        plain = {
            name: [{"path": str(p.path), "reason": p.reason} for p in problems]
            for name, problems in found.items()
        }
        print_json(plain)
    else:
        for name, problems in found.items():
            for problem in problems:
                echo(f"{name}: {problem.path}: {problem.reason}")
            mend = f"download it with: personsearch models pull {name}"
            echo(f"{name}: {mend if problems else f'complete, in {folder}'}")
    if any(found.values()):
        raise typer.Exit(1)


def _chosen(names: list[str] | None) -> "list[Pair]":
    """Return the pairs of these names; raise `ModelError` if no pair has such a name."""
    from personsearch.zoo import zoo

    known = zoo()
    if names == ["all"]:
        return list(known.pairs.values())
    return [known.pair(name) for name in names or [known.default]]
