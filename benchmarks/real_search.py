"""Index, search, evaluate and calibrate real networks on real samples through a store.

    python benchmarks/real_search.py --data FOLDER [--model CHECKPOINT_OR_TOML] [--json]

The folder is described in `personsearch.demo.real_samples`. Each sample is indexed by `index_media`
into its own store and searched by `Archive.search` with the ground-truth boxes; the evaluator gets
the contents of the store. A calibration made on each sample is tested on the other.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from personsearch.datasets.dataset import Dataset
from personsearch.demo.real_samples import read_real_samples, sample_networks
from personsearch.engines.sqlite import StoreEngine
from personsearch.errors import DataError, PersonSearchError
from personsearch.evaluation.detection import evaluate_detection
from personsearch.evaluation.search import evaluate_search
from personsearch.indexing.pipeline import index_media
from personsearch.indexing.writers import StoreWriter
from personsearch.loading import load
from personsearch.media.files import find_media
from personsearch.media.pictures import read_scene
from personsearch.media.sampling import Sampling
from personsearch.search.archive import Archive
from personsearch.search.calibration import calibration_error, fit_calibration
from personsearch.search.labelled_pairs import Pairs, make_pairs, match_people
from personsearch.store import ModelIdentity, open_store
from personsearch.systems.base import PersonSearchModel
from personsearch.types import Detections

SCORE = 0.3
"""Smallest score of people in the store, as in `personsearch index`."""
VIDEO_STEP = Sampling(frames=25)
"""Labels exist for every 25th frame of PETS09, whose time stamps are uneven."""


def main() -> int:
    """Measure and print; 0 on success, 1 on a failure of data or model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of real samples")
    parser.add_argument("--model", type=Path, help="default: the networks in the folder")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        model = sample_networks(given.data) if given.model is None else load(given.model)
        samples = read_real_samples(given.data)
        identity = ModelIdentity("measured", "0" * 64, model.embedding_dim)
        rows, pairs = [], {}
        for data in samples:
            row, gallery = searched(model, identity, data)
            rows.append(row)
            labelled = match_people(data.split("test"), gallery, identity.dim)
            pairs[data.name] = make_pairs([labelled], "pictures")
        chances = calibrated(identity, pairs)
    except PersonSearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps({"search": rows, "calibration": chances}, indent=2))
    else:
        for title, table in (("search through a store", rows), ("calibration", chances)):
            print_table(title, table)
    return 0


def searched(
    model: PersonSearchModel, identity: ModelIdentity, data: Dataset
) -> tuple[dict[str, Any], dict[str, Detections]]:
    """Index and search one sample; return its metrics and the contents of the store."""
    print(f"{data.name}: indexed and searched", file=sys.stderr)
    (protocol,) = data.protocols.values()
    scenes = {scene.name: scene for scene in data.split("test")}
    places = {(scene.path.resolve(), scene.frame): name for name, scene in scenes.items()}
    sources = sorted({path if frame is not None else path.parent for path, frame in places})
    with tempfile.TemporaryDirectory() as work:
        media, _ = find_media(sources)
        media = [one for one in media if one.path.resolve() in {path for path, _ in places}]
        with open_store(Path(work) / "store", model=identity, write=True) as store:
            report = index_media(
                *(model, StoreWriter(store, tracks=False), media),
                every=VIDEO_STEP,
                score_threshold=SCORE,
            )
        archive = Archive(StoreEngine(Path(work) / "store"))
        archive._network = model  # the one that indexed
        with archive:
            found = held(archive, places)
            empty = Detections(
                np.zeros((0, 4), np.float32),
                np.zeros(0, np.float32),
                np.zeros((0, identity.dim), np.float32),
            )
            gallery = {name: found.get(name, empty) for name in scenes}
            queries, first = [], 0
            for number, query in enumerate(protocol.queries):
                shown = scenes[query.scene]
                picture = shown.path
                if shown.frame is not None:
                    picture = Path(work) / f"{shown.frame}.png"
                    if not picture.is_file():
                        Image.fromarray(read_scene(shown)).save(picture)
                result = archive.search(picture, box=query.box, top=100_000, grouped=False)
                queries.append(result.query)
                names = set(protocol.galleries[number])
                best = next(
                    match.person
                    for match in result.matches
                    if places.get((match.person.path.resolve(), match.person.frame)) in names
                )
                scene = places[best.path.resolve(), best.frame]
                target = protocol.targets[number].get(scene)
                first += target is not None and overlap(target, best.box) >= 0.5
    detection = evaluate_detection(
        {name: scene.boxes for name, scene in scenes.items()}, gallery, score_threshold=SCORE
    )
    search = evaluate_search(protocol, gallery, np.stack(queries), score_threshold=SCORE)
    row = {
        "data": data.name,
        "pictures": len(scenes),
        "indexed": report.pictures,
        "people": detection.num_ground_truth,
        "found": detection.num_true_positives,
        "queries": search.num_queries,
        "mAP": search.mean_ap,
        "top-1": search.top_k[1],
        # The first hit of a search, not that of the evaluator.
        "first hit right": first / len(protocol.queries),
        "pictures/s": report.pictures / report.seconds,
    }
    return row, gallery


def held(archive: Archive, scenes: dict[tuple[Path, int | None], str]) -> dict[str, Detections]:
    """Return everyone in the store, by scene.

    Raises:
        DataError: fewer than half of the scenes are in the store.
    """
    rows: dict[str, list[Any]] = {}
    for batch in archive.engine.iterate():
        for record in batch:
            picture = (record.person.path.resolve(), record.person.frame)
            if picture in scenes:
                rows.setdefault(scenes[picture], []).append(record)
    if len(rows) < len(scenes) / 2:
        raise DataError(f"{len(rows)} of {len(scenes)} scenes are in the store; expected most")
    return {
        name: Detections(
            np.stack([one.person.box for one in records]),
            np.array([one.person.score for one in records], np.float32),
            np.stack([one.vector.astype(np.float32) for one in records]),
        )
        for name, records in rows.items()
    }


def overlap(one: Any, other: Any) -> float:
    """Return the intersection over union of two boxes (4,)."""
    from personsearch.boxes import iou

    return float(iou(np.asarray(one)[None], np.asarray(other)[None])[0, 0])


def calibrated(identity: ModelIdentity, pairs: dict[str, Pairs]) -> list[dict[str, Any]]:
    """Calibrate on each sample, and test on its held-out people and on the others."""
    rows = []
    for name, own in pairs.items():
        made = fit_calibration(own, identity)
        rates = {f"wrong first of {n}": made.wrong_first(n) for n in (10, 100, 1000)}
        shared = {"made on": name, "method": made.method, **made.counts}
        rows.append({**shared, "tested on": "held-out people", "error": made.errors[1], **rates})
        for other, foreign in pairs.items():
            if other != name:
                error = calibration_error(made.reliability_on(foreign))
                rows.append({**shared, "tested on": other, "error": error, **rates})
    return rows


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    """Print a table with one column per key."""
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))
    Console(width=160).print(table)


if __name__ == "__main__":
    sys.exit(main())
