"""`personsearch index` in shards: into Milvus, or by the workers of a Ray cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from personsearch.indexing.report import IndexReport
    from personsearch.media.files import Media


@dataclass(frozen=True)
class Looking:
    """How pictures are looked at: the options of `personsearch index`."""

    model: str | None
    device: str
    every: float
    score_threshold: float
    tracks: bool


def index_in_shards(
    place: str,
    media: "Sequence[Media]",
    given: Looking,
    *,
    ray: str | None,
    workers: int | None,
    hidden: bool,
) -> "tuple[IndexReport, dict[str, int]]":
    """Indexes; says what was done and what is there."""
    import typer

    from personsearch.cli.index_report import IndexBar
    from personsearch.cli.options import choose_device
    from personsearch.engines.uri import made_by
    from personsearch.indexing.ray_workers import Network, Settings, run_on_ray, writes_itself
    from personsearch.indexing.shards import index_shards, run_here
    from personsearch.indexing.writers import open_writer
    from personsearch.loading import load
    from personsearch.model_identity import identify

    if ray is not None and given.device not in ("auto", "cpu", "cuda"):
        raise typer.BadParameter(
            f"{given.device!r}: with --ray expected auto, cpu or cuda", param_hint="--device"
        )
    model = given.model
    if model is None:
        known = made_by(place)
        model = "omz" if known is None else known.name
    # With Ray, the device is one of the workers'.
    network = load(model, "cpu" if ray else choose_device(given.device)).eval()
    identity = identify(model, network)
    with open_writer(place, identity, tracks=given.tracks) as writer, IndexBar(hidden) as bar:
        run = run_here(writer, network, every=given.every, score_threshold=given.score_threshold)
        if ray is not None:
            settings = Settings(
                *(given.every, given.score_threshold, given.tracks),
                place=place if writes_itself(place) else "",
                identity=identity,
            )
            run = run_on_ray(
                ray,
                Network(model, given.device, identity.fingerprint),
                settings,
                writer,
                workers=workers,
                device=given.device,
            )
        report = index_shards(writer, media, run, progress=bar.show)
        return report, writer.counts()
