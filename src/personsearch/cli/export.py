"""`personsearch export`: an end-to-end system as one ONNX file."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from personsearch.cli.options import JsonOption, check_suffix, print_json, print_table
from personsearch.terminal import echo


def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint folder, or that of a run.")
    ],
    to: Annotated[Path, typer.Option(metavar="FILE.onnx", help="The file to write.")],
    check: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PICTURE",
            help="Compare the file with torch on this picture; repeatable. Default: drawn ones.",
        ),
    ] = None,
    opset: Annotated[int, typer.Option(help="Version of ONNX's operators, from 16 on.")] = 17,
    json_output: JsonOption = False,
) -> None:
    """Write detector and embedder of a checkpoint as one ONNX file.

    The file takes any number of pictures of any size, and boxes to embed. Each runtime on this
    machine runs it; how much the results differ from torch's is printed, and written to a model
    card beside the file. index, search, evaluate and personsearch.load take the file.

    Example: personsearch export runs/seqnet/best --to seqnet.onnx --check street.jpg
    """
    check_suffix(to, [".onnx"], "--to")
    from personsearch.training.export import export_checkpoint

    found = export_checkpoint(checkpoint, to, check or (), opset)
    card = to.with_suffix(".md")
    if json_output:
        differences = [asdict(one) for one in found]
        print_json({"file": str(to), "card": str(card), "differences": differences}, indent=1)
        return
    columns = ("runtime", "unpaired", "boxes, pixels", "scores", "embeddings")
    print_table(
        columns,
        [
            (
                f"{one.runtime} {one.version}",
                str(one.unpaired),
                *(f"{value:.2g}" for value in (one.boxes, one.scores, one.embeddings)),
            )
            for one in found
        ],
    )
    echo(
        f"largest differences from torch on {found[0].pictures} pictures with "
        f"{found[0].detections} detections"
    )
    if not found[0].detections:
        echo("nobody was found on them: give pictures that show people with --check", err=True)
    echo(f"{to} written ({to.stat().st_size / 2**20:.0f} MiB), its card is {card}")
