"""`personsearch migrate`: copy everyone from one store to another, such as Milvus."""

from typing import Annotated

import typer

from personsearch.cli.options import JsonOption, print_json
from personsearch.terminal import echo


def migrate(
    source: Annotated[
        str, typer.Argument(metavar="FROM", help="A store's folder, or a Milvus URI.")
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TO",
            help="A folder, milvus://HOST:PORT/COLLECTION or milvus-lite:PATH.db; made if needed.",
        ),
    ],
    batch: Annotated[int, typer.Option(min=1, help="People written at once.")] = 512,
    json_output: JsonOption = False,
) -> None:
    """Copy everyone from one store to another, then compare both.

    After an interruption the same command resumes. Nobody may index during the copy.

    Example: personsearch migrate ~/store milvus://gate:19530/people
    """
    from contextlib import closing

    from personsearch.cli.progress import StepProgress
    from personsearch.engines import migrate as migration
    from personsearch.engines.uri import check_scheme, open_engine

    check_scheme(target)
    if source == target:
        raise typer.BadParameter("FROM and TO are the same", param_hint="TO")
    with (
        closing(open_engine(source)) as old,
        closing(open_engine(target, model=old.model, create=True)) as new,
        StepProgress(json_output) as progress,
    ):
        report = migration.migrate(old, new, batch=batch, progress=progress)
    if json_output:
        print_json({"from": source, "to": target, **report.as_json()})
    else:
        echo(
            f"{report.people} people in {target}: {report.copied} written now, {report.compared} "
            "read back from both sides and equal in everything"
        )
