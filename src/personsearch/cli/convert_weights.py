"""`personsearch convert-weights`: a published .pth as a checkpoint folder."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from personsearch.cli.options import JsonOption, print_json
from personsearch.terminal import echo


def convert_weights(
    file: Annotated[Path, typer.Argument(metavar="FILE.pth", help="The published weights.")],
    system: Annotated[
        Literal["seqnet", "nae"], typer.Option(help="The published program that wrote them.")
    ],
    out: Annotated[Path, typer.Option(help="The checkpoint folder to write.")],
    recipe: Annotated[
        str,
        typer.Option(
            help="Recipe of the checkpoint, such as prw/nae; default: that of CUHK-SYSU or PRW, by "
            "the number of identities."
        ),
    ] = "",
    json_output: JsonOption = False,
) -> None:
    """Turn published weights of SeqNet or NAE into a checkpoint folder.

    The folder can be loaded, evaluated, indexed with, and trained from (recipe key init). Nothing
    in the file is executed: it may hold tensors and numbers only.

    Example: personsearch convert-weights epoch_19.pth --system seqnet --out seqnet-cuhk
    """
    from personsearch.published_checkpoint import convert_weights as convert

    done = convert(file, system, out, recipe or None)
    if json_output:
        print_json({"out": str(out), **vars(done)}, indent=1)
        return
    for name, own in done.matched.items():
        echo(f"{name} -> {own}")
    for name, why in done.left_out.items():
        echo(f"{name}: left out, {why}")
    echo(
        f"{len(done.matched)} tensors matched, {len(done.left_out)} left out; "
        f"{out} holds recipe {done.recipe}"
    )
