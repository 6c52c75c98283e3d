"""`personsearch search`: find one person in a store or in a folder of pictures."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from personsearch.cli import options


class Rerank(StrEnum):
    """How the best few hundred matches are ranked again."""

    K_RECIPROCAL = "k-reciprocal"
    EXPANSION = "expansion"


def search(
    query_image: options.QueryArgument = None,
    folder: Annotated[
        Path | None, typer.Option("--in", help="Folder of pictures to search, without a store.")
    ] = None,
    store: options.StoreOption = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A checkpoint folder, an exported .onnx, a TOML that names two networks, or a "
            "published pair: omz; default with a store: its own."
        ),
    ] = None,
    box: options.BoxOption = None,
    example: options.ExampleOption = None,
    person: options.PersonOption = None,
    unlike: options.UnlikeOption = None,
    camera: options.CameraOption = None,
    source: options.SourceOption = None,
    since: options.SinceOption = None,
    until: options.UntilOption = None,
    min_height: Annotated[
        float | None, typer.Option(min=0.0, help="Only people at least so many pixels tall.")
    ] = None,
    flat: Annotated[
        bool, typer.Option("--flat", help="Every view of a track, not only the most similar.")
    ] = False,
    one_per_file: Annotated[
        bool, typer.Option("--one-per-file", help="Of a photo or video only the most similar.")
    ] = False,
    rerank: Annotated[
        Rerank | None, typer.Option(help="Rank the best matches again by their neighbours.")
    ] = None,
    expected: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="Views of the person that you expect there, for the probability; default: 1.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write a picture of the hits (.jpg or .png).")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many hits to show.")] = 20,
    score_threshold: options.ScoreOption = 0.5,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
) -> None:
    """Find one person in a store, or in a folder of pictures without one.

    Example: personsearch search me.jpg --box 40,60,120,300 --since 2026-11-01
    """
    options.check_suffix(out, (".jpg", ".jpeg", ".png"), "--out")
    if folder is not None:
        for_stores = {
            **{"--store": store, "--example": example, "--person": person, "--unlike": unlike},
            **{"--camera": camera, "--source": source, "--since": since, "--until": until},
            **{"--min-height": min_height, "--flat": flat or None, "--rerank": rerank},
            **{"--one-per-file": one_per_file or None, "--expected": expected},
        }
        for name, given in for_stores.items():
            if given is not None:
                raise typer.BadParameter(f"{name} and --in exclude each other", param_hint=name)
        if model is None:
            raise typer.BadParameter("--in needs --model", param_hint="--model")
        _search_folder(query_image, folder, model, box, out, top, score_threshold, device, as_json)
        return
    from personsearch.cli.search_output import show_result

    request = options.make_request(
        query_image,
        box,
        example,
        person,
        unlike,
        filters=options.make_filters(
            camera, source, since, until, min_score=score_threshold, min_height=min_height
        ),
        top=top,
        grouped=not flat,
        one_a_file=one_per_file,
        rerank=None if rerank is None else rerank.value,
        expected=1.0 if expected is None else expected,
    )
    with options.open_for_search(store, model, device) as archive:
        show_result(archive, request, archive.search_by(request), out, as_json)


def _search_folder(
    query_image: Path | None,
    folder: Path,
    model: str,
    box: str | None,
    out: Path | None,
    top: int,
    score_threshold: float,
    device: str,
    as_json: bool,
) -> None:
    from personsearch.cli.progress import StepProgress
    from personsearch.cli.search_output import print_query, show_folder_result
    from personsearch.loading import load
    from personsearch.search.folder_search import search_folder
    from personsearch.search.query import query_person

    if query_image is None:
        raise typer.BadParameter("a picture that shows the person is missing")
    ((picture, corners),) = options.read_examples(query_image, box, None)
    network = load(Path(model), options.check_device(device)).for_inference()
    query = query_person(network, picture, corners)
    if not as_json:
        print_query(query)
    with StepProgress(as_json) as bar:
        step = bar.step("searching")
        result = search_folder(
            network, query, folder, top=top, score_threshold=score_threshold, progress=step
        )
    show_folder_result(result, out, as_json)
    if result.interrupted:
        raise typer.Exit(130)
