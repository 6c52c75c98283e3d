"""`personsearch index`: photos and videos into a store that can be searched."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli.store_folder import StoreOption, store_place

if TYPE_CHECKING:
    from personsearch.retrieval.indexing import IndexReport


def index(
    sources: Annotated[list[Path], typer.Argument(help="Folders, photos and videos.")],
    store: StoreOption = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A checkpoint folder, a TOML of networks, or a published pair; default: the "
            "store's own, else omz."
        ),
    ] = None,
    camera: Annotated[
        str | None, typer.Option(help="Of all that is indexed; default: the folder's name.")
    ] = None,
    every: Annotated[
        float, typer.Option(min=0.0, help="Seconds between frames of a video; 0 for all.")
    ] = 1.0,
    score_threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Leave out people found with less.")
    ] = 0.3,
    tracks: Annotated[
        bool,
        typer.Option(help="Join people in a video to tracks, and keep the best views of each."),
    ] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Share the work out over this Ray cluster; local starts one on this machine.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Of --ray; default: as many as it has CPUs, or GPUs."),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Finds everyone in photos and videos and keeps them in a store.

    What is there is skipped, what has changed is done again; stopped, it goes on where it was.

    Example: personsearch index ~/photos ~/cameras
    """
    from personsearch.cli.index_shards import Looking, index_in_shards
    from personsearch.cli.search import choose_device
    from personsearch.loading import load
    from personsearch.retrieval.engines import scheme_of
    from personsearch.retrieval.indexing import index_media
    from personsearch.retrieval.media import find_media
    from personsearch.retrieval.model_identity import identify
    from personsearch.retrieval.store import DATABASE, open_store

    if workers is not None and ray is None:
        raise typer.BadParameter("goes with --ray", param_hint="--workers")
    named = store_place(store)
    if ray is not None or scheme_of(named):
        media, left_out = find_media(sources, camera)
        report, counts = index_in_shards(
            named,
            media,
            Looking(model, device, every, score_threshold, tracks),
            ray=ray,
            workers=workers,
            hidden=json_output,
        )
        report.unreadable[:0] = left_out
        _report(report, named, counts, json_output)
        return
    place = Path(named)
    media, left_out = find_media(sources, camera)
    if model is None:
        model = "omz"
        if (place / DATABASE).is_file():
            with open_store(place) as known:
                model = known.model.name
    network = load(model, choose_device(device)).eval()
    with open_store(place, model=identify(model, network), write=True) as opened:
        with IndexBar(hidden=json_output) as bar:
            report = index_media(
                network,
                opened,
                media,
                every=every,
                score_threshold=score_threshold,
                tracks=tracks,
                progress=bar.show,
            )
        report.unreadable[:0] = left_out
        counts = opened.counts()
    _report(report, str(place), counts, json_output)


def _report(report: "IndexReport", place: str, counts: dict[str, int], json_output: bool) -> None:
    import json

    if json_output:
        print(json.dumps({"store": place, **report.as_json(), "in_store": counts}, indent=2))
    else:
        _print(report, place, counts)
    if report.interrupted:
        raise typer.Exit(130)


class IndexBar:
    """Files done, people found, pictures a second."""

    def __init__(self, hidden: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bars = Progress(
            TextColumn("indexing"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} files"),
            TextColumn("{task.fields[found]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=hidden,
        )
        self._task = self._bars.add_task("indexing", total=None, found="")

    def __enter__(self) -> "IndexBar":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, done: int, total: int, report: "IndexReport") -> None:
        found = f"{report.people} people in {report.pictures} pictures"
        self._bars.update(self._task, completed=done, total=total, found=found)


def _print(report: "IndexReport", place: str, counts: dict[str, int]) -> None:
    rate = report.pictures / report.seconds if report.seconds else 0.0
    typer.echo(
        f"{report.people} people in {report.pictures} pictures of {report.files} files, "
        f"{rate:.1f} pictures/s; {report.skipped} files were there already"
    )
    if report.unreadable:
        typer.echo(f"{len(report.unreadable)} could not be read:", err=True)
        for one in report.unreadable:
            typer.echo(f"  {one.path}: {one.reason}", err=True)
    if report.interrupted:
        typer.echo("interrupted: the same command goes on from here", err=True)
    tracks = f", {counts['tracks']} tracks in videos" if counts.get("tracks") else ""
    typer.echo(f"{place}: {counts['people']} views of people{tracks}")
