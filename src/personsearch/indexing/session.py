"""One indexing run of a user: photos, videos, watched folders and cameras into one store."""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path

from personsearch import loading, model_identity
from personsearch.engines.sqlite import write_index
from personsearch.engines.uri import made_by, scheme_of
from personsearch.errors import DataError
from personsearch.indexing.live import SEGMENT, index_streams
from personsearch.indexing.pipeline import index_media, index_with
from personsearch.indexing.ray_workers import Network, RayProcess, Settings, writes_itself
from personsearch.indexing.report import IndexReport, Progress
from personsearch.indexing.watching import prune, watch
from personsearch.indexing.writer import Writer
from personsearch.indexing.writers import StoreWriter, open_writer
from personsearch.media.files import Media, Skipped, find_media
from personsearch.media.name_pattern import NamePattern
from personsearch.media.sampling import Sampling
from personsearch.media.streams import Stream
from personsearch.store import ModelIdentity
from personsearch.store.retention import Retention
from personsearch.systems.base import PersonSearchModel


@dataclass(frozen=True, kw_only=True)
class IndexRequest:
    """What to index, and how; options that exclude each other raise `DataError`."""

    uri: str  # the store: a folder, or an address as for `engines.uri.open_engine`
    sources: Sequence[Path] = ()  # files and folders; none of them is empty
    streams: Sequence[Stream] = ()  # live sources, from `parse_streams`
    camera: str | None = None  # of all files; None for the name of the folder that a file lies in
    pattern: NamePattern | None = None
    zone: tzinfo | None = None  # of times without an offset; None for this machine's
    model: str | None = None  # argument of `personsearch.load`; None for the store's own, else omz
    # of the network, see `load`; with Ray, that of the workers: auto, cpu or cuda
    device: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    score_threshold: float = 0.3
    tracks: bool = True
    watch: bool = False
    prune: bool = False
    segment: float = SEGMENT  # seconds of a live source that are one file of the store
    duration: float | None = None  # seconds after which watching and live sources end
    ray: str | None = None  # address of a Ray cluster that does the work; None for this process
    workers: int | None = None  # Ray workers; None for as many as it has GPUs, or CPUs

    def __post_init__(self) -> None:
        if self.streams and (self.watch or self.prune):
            raise DataError("--watch and --prune are for folders; index cameras by themselves")
        if self.duration is not None and not (self.streams or self.watch):
            raise DataError("--for goes with live cameras or --watch")
        if self.workers is not None and self.ray is None:
            raise DataError("--workers goes with --ray")
        if self.ray is not None and self.device not in (None, "auto", "cpu", "cuda"):
            raise DataError(f"device {self.device!r}: with --ray expected auto, cpu or cuda")
        sampled = self.sampling.frames is not None or self.sampling.scenes is not None
        local_only = self.streams or self.watch or self.prune or sampled
        if local_only and (self.ray is not None or scheme_of(self.uri)):
            raise DataError(
                "--ray and stores on a server take photos and videos only, without --watch, "
                "--prune, --every-frames and --scenes"
            )

    def find(self, sources: Sequence[Path]) -> tuple[list[Media], list[Skipped]]:
        return find_media(sources, self.camera, pattern=self.pattern, zone=self.zone)


@dataclass(frozen=True)
class IndexResult:
    """What a run did."""

    report: IndexReport
    counts: dict[str, int]  # how much the store holds now
    expired: int  # people erased because they were older than the store keeps them
    complete: bool  # whether it ended as intended; Ctrl-C is the end of watching and cameras


def index(request: IndexRequest, progress: Progress | None = None) -> IndexResult:
    """Index what the request names.

    Ctrl-C and SIGTERM end it early; what was written stays, and the same request resumes.

    Raises:
        DataError: a source does not exist.
        ModelError: the network cannot be loaded.
        StoreError: the store is another model's, in use, or cannot be written.
    """
    media, skipped = request.find(request.sources)  # before a network is loaded for nothing
    name = request.model
    if name is None:
        known = made_by(request.uri)
        name = "omz" if known is None else known.name
    network = loading.load(name, None if request.ray else request.device)
    identity = model_identity.identify(name, network)
    network = network.for_inference()
    with (
        _sigterm_as_interrupt(),
        open_writer(request.uri, identity, tracks=request.tracks) as writer,
    ):
        run = _Run(request, name, network, identity, writer, progress)
        store = writer.store if isinstance(writer, StoreWriter) else None
        expired = store.expire() if store else 0
        with Retention(store.folder) if store else nullcontext() as retention:
            if request.watch:
                run.watch()
            else:
                run.once(media, skipped, pruning=request.prune)
            complete = request.watch or not run.report.interrupted
            if request.streams and complete:
                cameras = index_streams(
                    *(network, writer, request.streams),
                    every=request.sampling,
                    score_threshold=request.score_threshold,
                    segment=request.segment,
                    duration=request.duration,
                    progress=progress,
                )
                run.report.add(cameras)
        if store and retention:
            expired += retention.erased + store.expire()  # indexed pictures may be old, too
        counts = writer.counts()
    if store:
        write_index(request.uri)
    return IndexResult(run.report, counts, expired, complete)


@dataclass
class _Run:
    """A run on an open store."""

    request: IndexRequest
    name: str
    network: PersonSearchModel
    identity: ModelIdentity
    writer: Writer
    progress: Progress | None
    report: IndexReport = field(default_factory=IndexReport)

    def once(self, media: Sequence[Media], skipped: Sequence[Skipped], *, pruning: bool) -> None:
        """Index files; then erase the people of files that are gone."""
        self.report.unreadable += skipped
        if media:
            self.report.add(self._index(media))
        if pruning and not self.report.interrupted:
            assert isinstance(self.writer, StoreWriter)
            self.report.pruned += prune(self.writer.store, self.request.sources)

    def _index(self, media: Sequence[Media]) -> IndexReport:
        given, score = self.request, self.request.score_threshold
        if given.ray is None:
            return index_media(
                *(self.network, self.writer, media),
                every=given.sampling,
                score_threshold=score,
                progress=self.progress,
            )
        uri = given.uri if writes_itself(given.uri) else ""
        device = given.device or "cpu"
        network = Network(self.name, device, self.identity.fingerprint)
        settings = Settings(given.sampling.seconds, score, given.tracks, uri, self.identity)
        workers = (given.workers, device)
        process = RayProcess(given.ray, network, settings, self.writer, *workers)
        return index_with(process, self.writer, media, progress=self.progress)

    def watch(self) -> None:
        """Index the files in the folders, now and from now on."""
        given = self.request
        until = None if given.duration is None else time.monotonic() + given.duration

        try:
            for scan in watch(given.sources, given.find):
                self.once(scan.media, scan.skipped, pruning=given.prune and scan.fewer)
                over = until is not None and time.monotonic() >= until
                if over or self.report.interrupted:
                    break
        except KeyboardInterrupt:
            self.report.interrupted = True


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM, by which service managers end a program, as Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
