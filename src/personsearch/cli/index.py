"""`personsearch index`: photos, videos and cameras into a store that can be searched."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli.index_report import IndexBar, print_report
from personsearch.cli.options import StoreOption, store_uri

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from personsearch.indexing.report import IndexReport
    from personsearch.indexing.watching import Find, Look
    from personsearch.media.files import Media, Skipped
    from personsearch.media.sampling import Sampling
    from personsearch.media.streams import Stream
    from personsearch.store import Store
    from personsearch.systems.base import PersonSearchModel


def index(
    sources: Annotated[
        list[str],
        typer.Argument(help="Folders, photos and videos; or rtsp://, http:// of live cameras."),
    ],
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
    name_pattern: Annotated[
        str | None,
        typer.Option(
            help="Reads camera and time out of the end of a path without its ending: {camera}, "
            "{date}, {time}, {epoch}, {any}; such as '{camera}/{date}_{time}'."
        ),
    ] = None,
    zone: Annotated[
        str | None,
        typer.Option(
            help="Of times without an offset, such as Europe/Berlin; default: this machine's."
        ),
    ] = None,
    every: Annotated[
        float, typer.Option(min=0.0, help="Seconds between frames of a video; 0 for all.")
    ] = 1.0,
    every_frames: Annotated[
        int | None, typer.Option(min=1, help="Take every so-many-th frame instead.")
    ] = None,
    scenes: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Of these leave out frames in which nothing has moved, but take one at least each "
            "so many seconds.",
        ),
    ] = None,
    score_threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Leave out people found with less.")
    ] = 0.3,
    tracks: Annotated[
        bool,
        typer.Option(help="Join people in a video to tracks, and keep the best views of each."),
    ] = True,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Keep looking at the folders for what is new or changed, until Ctrl-C."
        ),
    ] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Erase people of files that are gone; without it they are kept."
        ),
    ] = False,
    segment: Annotated[
        float, typer.Option(min=0.1, help="Minutes of a live camera that are joined to tracks.")
    ] = 60.0,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0.1, help="End after so many seconds.")
    ] = None,
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
    """Finds everyone in photos and videos, or before live cameras, and keeps them in a store.

    What is there is skipped, what has changed is done again; stopped, it goes on where it was.
    People of a file that was deleted stay, unless --prune says otherwise.

    Cameras are looked at until Ctrl-C or --for, and connected again when they break. A password in
    an address is used, and never stored or shown.

    Example: personsearch index ~/photos ~/cameras

    Example: personsearch index ~/cameras --name-pattern '{camera}/{date}_{time}' --every 0.5
    --scenes 30 --watch

    Example: personsearch index rtsp://user:password@192.168.1.20/live --camera gate
    """
    from personsearch.cli.index_shards import Looking, index_in_shards
    from personsearch.cli.options import choose_device
    from personsearch.engines.sqlite import write_index
    from personsearch.engines.uri import scheme_of
    from personsearch.errors import DataError
    from personsearch.loading import load
    from personsearch.media.files import find_media
    from personsearch.media.name_pattern import NamePattern
    from personsearch.media.sampling import Sampling
    from personsearch.media.streams import is_stream, parse_streams
    from personsearch.model_identity import identify
    from personsearch.store import DATABASE, open_store
    from personsearch.store.audit import log_expired, user_of_this_machine

    try:
        live = parse_streams([one for one in sources if is_stream(one)], camera)
        pattern = None if name_pattern is None else NamePattern(name_pattern)
    except DataError as error:
        raise typer.BadParameter(str(error)) from None
    folders = [Path(one) for one in sources if not is_stream(one)]
    if live and (watch or prune):
        raise typer.BadParameter("--watch and --prune are for folders; index cameras by themselves")
    if seconds is not None and not (live or watch):
        raise typer.BadParameter("--for goes with live cameras or --watch")
    if workers is not None and ray is None:
        raise typer.BadParameter("goes with --ray", param_hint="--workers")
    named, where = store_uri(store), _zone(zone)
    shared = ray is not None or bool(scheme_of(named))
    if shared and (live or watch or prune or every_frames is not None or scenes is not None):
        raise typer.BadParameter(
            "--ray and stores on a server take photos and videos alone, without --watch, --prune, "
            "--every-frames and --scenes"
        )

    def find(some: "Sequence[Path]") -> "tuple[list[Media], list[Skipped]]":
        return find_media(some, camera, pattern=pattern, zone=where)

    media, left_out = find(folders)  # what is not there is told before a network is loaded
    if shared:
        report, counts = index_in_shards(
            named,
            media,
            Looking(model, device, every, score_threshold, tracks),
            ray=ray,
            workers=workers,
            hidden=json_output,
        )
        report.unreadable[:0] = left_out
        _tell(report, named, counts, 0, not report.interrupted, json_output)
        return
    place = Path(named)
    if model is None:
        model = "omz"
        if (place / DATABASE).is_file():
            with open_store(place) as known:
                model = known.model.name
    network = load(model, choose_device(device)).eval()
    with (
        _sigterm_is_ctrl_c(),
        open_store(place, model=identify(model, network), write=True) as opened,
        IndexBar(hidden=json_output) as bar,
    ):
        expired = opened.expire()
        work = _Work(network, opened, bar, Sampling(every, every_frames, scenes))
        work.score_threshold, work.tracks = score_threshold, tracks
        if watch:
            work.watch(folders, find, prune=prune, seconds=seconds)
        else:
            work.once(media, left_out, folders if prune else [])
        whole = watch or not work.report.interrupted
        if live and whole:
            work.cameras(live, segment=60.0 * segment, seconds=seconds)
        # Old pictures that came in now, too.
        expired += opened.expire()
        log_expired(place, user_of_this_machine(), expired)
        report, counts = work.report, opened.counts()
    write_index(place)
    _tell(report, str(place), counts, expired, whole, json_output)


def _tell(
    report: "IndexReport",
    place: str,
    counts: dict[str, int],
    expired: int,
    whole: bool,
    json_output: bool,
) -> None:
    """What was done; ends with 130 if it was interrupted."""
    import json

    if json_output:
        told = {"store": place, **report.as_json(), "expired": expired, "in_store": counts}
        print(json.dumps(told, indent=2))
    else:
        print_report(report, place, counts, whole)
        if expired:
            typer.echo(f"{expired} people older than the store keeps were erased")
    if not whole:
        raise typer.Exit(130)


class _Work:
    """One call of the command on an open store."""

    def __init__(
        self, network: "PersonSearchModel", store: "Store", bar: IndexBar, sampling: "Sampling"
    ) -> None:
        from personsearch.indexing.report import IndexReport

        self.report = IndexReport()
        self.score_threshold, self.tracks = 0.3, True
        self._network, self._store, self._bar = network, store, bar
        self._sampling = sampling

    def once(
        self, media: "Sequence[Media]", left_out: "Sequence[Skipped]", pruned: "Sequence[Path]"
    ) -> None:
        """Some photos and videos; then people of files that are gone from the pruned folders."""
        from personsearch.indexing.pipeline import index_media
        from personsearch.indexing.watching import prune

        self.report.unreadable += left_out
        if media:
            self.report.add(
                index_media(
                    self._network,
                    self._store,
                    media,
                    every=self._sampling,
                    score_threshold=self.score_threshold,
                    tracks=self.tracks,
                    progress=self._bar.show,
                )
            )
        if pruned and not self.report.interrupted:
            self.report.pruned += prune(self._store, pruned)

    def watch(
        self, folders: "Sequence[Path]", find: "Find", *, prune: bool, seconds: float | None
    ) -> None:
        """What is in folders, now and from now on."""
        from personsearch.indexing.watching import watch

        until = None if seconds is None else time.monotonic() + seconds

        def take(look: "Look") -> bool:
            self.once(look.media, look.skipped, folders if prune and look.fewer else [])
            over = until is not None and time.monotonic() >= until
            return not (over or self.report.interrupted)

        try:
            watch(folders, find, take)
        except KeyboardInterrupt:
            self.report.interrupted = True

    def cameras(
        self, streams: "Sequence[Stream]", *, segment: float, seconds: float | None
    ) -> None:
        """Live cameras, until they are to end."""
        from personsearch.indexing.live import index_streams

        self.report.add(
            index_streams(
                self._network,
                self._store,
                streams,
                every=self._sampling,
                score_threshold=self.score_threshold,
                tracks=self.tracks,
                segment=segment,
                duration=seconds,
                progress=self._bar.show_live,
            )
        )


def _zone(name: str | None) -> "tzinfo | None":
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise typer.BadParameter(
            f"{name!r} is no time zone that this machine knows; expected such as Europe/Berlin"
        ) from None


class _sigterm_is_ctrl_c:  # noqa: N801  (read as a verb)
    """A service manager ends a program by SIGTERM: what is written stays, tracks are closed."""

    def __enter__(self) -> None:
        import signal

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        self._before = signal.signal(signal.SIGTERM, interrupt)

    def __exit__(self, *_: object) -> None:
        import signal

        signal.signal(signal.SIGTERM, self._before)
