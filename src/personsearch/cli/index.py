"""`personsearch index`: photos, videos and cameras into a store that can be searched."""

import json
from pathlib import Path
from typing import Annotated

import typer

from personsearch.cli.index_report import IndexBar, print_report
from personsearch.cli.options import DeviceOption, JsonOption, StoreOption, check_device, store_uri


def index(
    sources: Annotated[
        list[str],
        typer.Argument(help="Folders, photos and videos; or rtsp://, http:// of live cameras."),
    ],
    store: StoreOption = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A checkpoint folder, an exported .onnx, a TOML of networks, or a published "
            "pair; default: the store's own, else omz."
        ),
    ] = None,
    camera: Annotated[
        str | None, typer.Option(help="Camera of all files; default: the folder's name.")
    ] = None,
    name_pattern: Annotated[
        str | None,
        typer.Option(
            help="Pattern of the end of a path without its ending, for camera and time: {camera}, "
            "{date}, {time}, {epoch}, {any}; such as '{camera}/{date}_{time}'."
        ),
    ] = None,
    zone: Annotated[
        str | None,
        typer.Option(
            help="Time zone of times without an offset, such as Europe/Berlin; default: this "
            "machine's."
        ),
    ] = None,
    every: Annotated[
        float, typer.Option(min=0.0, help="Seconds between frames of a video; 0 for all.")
    ] = 1.0,
    every_frames: Annotated[
        int | None, typer.Option(min=1, help="Take every n-th frame instead.")
    ] = None,
    scenes: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Leave out frames in which nothing has moved, but take at least one every so many "
            "seconds.",
        ),
    ] = None,
    score_threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="The least detection score that is kept.")
    ] = 0.3,
    tracks: Annotated[
        bool, typer.Option(help="Join people in a video to tracks; keep the best views of each.")
    ] = True,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep watching for new and changed files, until Ctrl-C.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Erase people whose files are gone; else they stay.")
    ] = False,
    segment: Annotated[
        float, typer.Option(min=0.1, help="Minutes of a live camera that are joined to tracks.")
    ] = 60.0,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0.1, help="End after so many seconds.")
    ] = None,
    device: DeviceOption = "auto",
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Distribute the work over this Ray cluster; local starts one on this machine.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of Ray workers; default: its CPUs, or GPUs.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Find everyone in photos, videos and live cameras, and keep them in a store.

    Indexed files are skipped, changed ones are indexed again, and an interrupted run resumes.
    People of a deleted file stay, unless --prune is given. A file that cannot be read is reported.

    Cameras are read until Ctrl-C or --for, and reconnected when they break. A password in an
    address is used, and never stored or shown.

    Example: personsearch index ~/photos ~/cameras

    Example: personsearch index ~/cameras --name-pattern '{camera}/{date}_{time}' --every 0.5
    --scenes 30 --watch

    Example: personsearch index rtsp://user:password@192.168.1.20/live --camera gate
    """
    from personsearch.errors import DataError
    from personsearch.indexing import session
    from personsearch.media.name_pattern import NamePattern, time_zone
    from personsearch.media.sampling import Sampling
    from personsearch.media.streams import is_stream, parse_streams

    if "" in sources or camera == "":
        raise typer.BadParameter("a source or camera is empty; give its name, or leave it out")
    try:
        request = session.IndexRequest(
            uri=store_uri(store),
            sources=[Path(one) for one in sources if not is_stream(one)],
            streams=parse_streams([one for one in sources if is_stream(one)], camera),
            camera=camera,
            pattern=None if name_pattern is None else NamePattern(name_pattern),
            zone=None if zone is None else time_zone(zone),
            model=model,
            device=device if ray is not None else check_device(device),
            sampling=Sampling(every, every_frames, scenes),
            score_threshold=score_threshold,
            tracks=tracks,
            watch=watch,
            prune=prune,
            segment=60.0 * segment,
            duration=seconds,
            ray=ray,
            workers=workers,
        )
    except DataError as error:
        raise typer.BadParameter(str(error)) from None
    bar = IndexBar(hidden=json_output)
    with bar.bars:
        result = session.index(request, bar.show)
    if json_output:
        report = {"store": request.uri, **result.report.as_json()}
        report |= {"expired": result.expired, "in_store": result.counts}
        print(json.dumps(report, indent=2))
    else:
        print_report(result, request.uri)
    if not result.complete:
        raise typer.Exit(130)
