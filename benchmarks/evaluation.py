"""Time the search evaluator against SeqNet's on data of the size and structure of PRW.

    git clone https://github.com/serend1p1ty/SeqNet /somewhere/SeqNet
    pip install scikit-learn
    python benchmarks/evaluation.py --peer /somewhere/SeqNet

Both run in one process on the same arrays, so that the ratio holds on any machine. Times are CPU
seconds summed over threads, which other work on the machine hardly changes, and wall clock.
SeqNet's evaluator needs scikit-learn. Without --peer our own is timed at several sizes.
"""

import argparse
import contextlib
import importlib
import io
import json
import resource
import sys
import time
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from personsearch.datasets.galleries import other_scenes
from personsearch.datasets.protocols import make_protocol
from personsearch.evaluation import ContextMatching, SearchResult, evaluate_search
from personsearch.types import Detections, FloatArray, Query, Scene, SearchProtocol

PRW = {"pictures": 6112, "detections": 37286, "queries": 2391}
DIM = 256
CAMERAS, IDS = 6, 450
THRESHOLD = 0.5
TOP_K = (1, 5, 10)


class Stopwatch:
    """CPU seconds of all threads, and wall-clock seconds."""

    def __init__(self) -> None:
        self.cpu, self.wall = -time.process_time(), -time.perf_counter()

    def stop(self) -> "Stopwatch":
        """Return the time since this object was created."""
        self.cpu += time.process_time()
        self.wall += time.perf_counter()
        return self


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A test split, detections in it, and embeddings of queries and detections."""

    scenes: Sequence[Scene]
    gallery: dict[str, Detections]
    queries: Sequence[Query]
    embeddings: FloatArray

    def protocol(self, num_queries: int | None = None) -> SearchProtocol:
        """Return all pictures but the query's own, for the first queries."""
        queries = self.queries[:num_queries]
        names = [scene.name for scene in self.scenes]
        return make_protocol("PRW-sized", self.scenes, queries, other_scenes(queries, names))


def make_benchmark(pictures: int, detections: int, queries: int, seed: int = 0) -> Benchmark:
    """Make pictures of people who stay in view for a while, and noisy boxes with false alarms.

    Embeddings cluster by identity and, less, by camera; the spread is set so that about half of
    the ranking is right, as in the literature.
    """
    rng = np.random.default_rng(seed)
    centres, views = rng.standard_normal((IDS, DIM)), rng.standard_normal((CAMERAS, DIM))
    crowd = rng.standard_normal(DIM)
    scenes, vectors = [], []
    present = [list(rng.choice(IDS, 3, replace=False)) for _ in range(CAMERAS)]
    for number in range(pictures):
        camera = number % CAMERAS
        here = present[camera]
        here[:] = [person for person in here if rng.random() < 0.9]
        while len(here) < 3 or (len(here) < 7 and rng.random() < 0.12):
            here.append(next(i for i in rng.permutation(IDS) if i not in here))
        ids = np.array(here + [-1] * rng.integers(0, 2), dtype=np.int64)
        corner = rng.integers(0, (1700, 700), (len(ids), 2))
        height = rng.integers(60, 350, len(ids))
        sides = np.stack([np.maximum(height * 2 // 5, 20), height], axis=1)
        boxes = np.concatenate([corner, corner + sides], axis=1)
        scenes.append(
            Scene(f"c{camera + 1}_{number:06d}.jpg", Path(), (1920, 1080), boxes, ids, camera)
        )
        identity = np.where(ids[:, None] >= 0, centres[ids], rng.standard_normal((len(ids), DIM)))
        vectors.append(identity + 0.8 * views[camera] + 1.5 * crowd)
    found = _detect(scenes, vectors, detections, crowd, rng)
    labelled = [(s, row) for s in range(pictures) for row in np.flatnonzero(scenes[s].ids >= 0)]
    chosen = [labelled[k] for k in rng.permutation(len(labelled))[:queries]]
    return Benchmark(
        scenes,
        found,
        [
            Query(scenes[s].name, scenes[s].boxes[row], int(scenes[s].ids[row]), scenes[s].camera)
            for s, row in chosen
        ],
        _embed(np.stack([vectors[s][row] for s, row in chosen]), rng),
    )


def _embed(vectors: np.ndarray, rng: np.random.Generator) -> FloatArray:
    vectors = vectors + 1.7 * rng.standard_normal(vectors.shape)
    unit: FloatArray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit.astype(np.float32)


def _detect(
    scenes: Sequence[Scene],
    vectors: Sequence[np.ndarray],
    total: int,
    crowd: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, Detections]:
    """Return nineteen in twenty people, and false alarms up to the total."""
    seen = [rng.random(len(scene.ids)) < 0.95 for scene in scenes]
    alarms = rng.multinomial(
        max(total - sum(int(s.sum()) for s in seen), 0), np.full(len(scenes), 1 / len(scenes))
    )
    found = {}
    for scene, vector, kept, extra in zip(scenes, vectors, seen, alarms, strict=True):
        boxes = scene.boxes[kept]
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        boxes = boxes + 0.06 * sides * rng.standard_normal(boxes.shape)
        corner = rng.uniform(0, (1700, 700), (extra, 2))
        false = np.concatenate([corner, corner + rng.uniform(30, 300, (extra, 2))], axis=1)
        noise = 1.5 * crowd + rng.standard_normal((extra, DIM))
        scores = np.concatenate([rng.uniform(0.6, 1, len(boxes)), rng.uniform(0.5, 0.9, extra)])
        found[scene.name] = Detections(
            np.concatenate([boxes, false]),
            scores,
            _embed(np.concatenate([vector[kept], noise]), rng),
        )
    return found


class _Split:
    """The part of a data set that SeqNet's evaluator reads."""

    img_prefix = ""

    def __init__(self, annotations: list[dict[str, Any]]) -> None:
        self.annotations = annotations

    def __len__(self) -> int:
        return len(self.annotations)


@contextlib.contextmanager
def peer_module(folder: Path) -> Iterator[Any]:
    """Import SeqNet's evaluator from a clone, without the imports that only write files."""
    stub = types.ModuleType("utils.utils")
    stub.write_json = lambda *_: None  # type: ignore[attr-defined]
    sys.path.insert(0, str(folder.resolve()))
    sys.modules["utils.utils"] = stub
    try:
        yield importlib.import_module("eval_func")
    finally:
        sys.path.remove(str(folder.resolve()))


def run_peer(
    peer: Any, data: Benchmark, num_queries: int, context: ContextMatching | None
) -> tuple[FloatArray, FloatArray]:
    """Return SeqNet's average precisions (Q,) and top-1, top-5, top-10."""
    gallery = _Split(
        [
            {
                "img_name": scene.name,
                "boxes": scene.boxes.astype(np.int32),
                "pids": np.where(scene.ids < 0, 5555, scene.ids),
                "cam_id": scene.camera,
            }
            for scene in data.scenes
        ]
    )
    queries = _Split(
        [
            {
                "img_name": query.scene,
                "boxes": query.box[None],
                "pids": np.array([query.id]),
                "cam_id": query.camera,
            }
            for query in data.queries[:num_queries]
        ]
    )
    found = [data.gallery[scene.name] for scene in data.scenes]
    precisions: list[float] = []

    def keep(values: Any, **kwargs: Any) -> Any:
        # The published function returns means only; their terms are collected here.
        if not kwargs:
            precisions[:] = map(float, values)
        return np.mean(values, **kwargs)

    people = context.people[:num_queries] if context else ()
    # It reads the boxes of people only to check that the query comes first.
    boxes = [
        np.tile(np.append(query.box, 1), (len(p), 1))
        for p, query in zip(people, data.queries, strict=False)
    ]
    peer.np = _Patched(np, mean=keep)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            result = peer.eval_search_prw(
                gallery,
                queries,
                [np.concatenate([f.boxes, f.scores[:, None]], axis=1) for f in found],
                [f.embeddings for f in found],
                list(data.embeddings[:num_queries]),
                boxes,
                people,
                k1=context.k1 if context else 30,
                k2=context.k2 if context else 4,
                det_thresh=THRESHOLD,
                cbgm=context is not None,
            )
    finally:
        peer.np = np
    return np.array(precisions), np.asarray(result["accs"])


class _Patched:
    """Replace some functions of a module."""

    def __init__(self, module: Any, **replaced: Any) -> None:
        self.__dict__.update(replaced)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def ours(
    data: Benchmark,
    protocol: SearchProtocol,
    convention: str = "seqnet",
    context: ContextMatching | None = None,
) -> tuple[SearchResult, Stopwatch]:
    """Return the result and the time."""
    watch = Stopwatch()
    result = evaluate_search(
        protocol,
        data.gallery,
        data.embeddings[: len(protocol.queries)],
        score_threshold=THRESHOLD,
        convention=convention,
        top_k=TOP_K,
        context=context,
    )
    return result, watch.stop()


def make_context(data: Benchmark, num_queries: int) -> ContextMatching:
    """Return the query and the detections beside it."""
    people = [
        np.concatenate([embedding[None], data.gallery[query.scene].embeddings])
        for query, embedding in zip(data.queries[:num_queries], data.embeddings, strict=False)
    ]
    return ContextMatching(people, k1=30, k2=4)


def peak_mib() -> float:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare(data: Benchmark, peer: Any, num_queries: int, with_context: bool) -> dict[str, Any]:
    """Run both evaluators on the same queries."""
    context = make_context(data, num_queries) if with_context else None
    result, watch = ours(data, data.protocol(num_queries), context=context)
    memory = peak_mib()
    peer_watch = Stopwatch()
    precisions, top = run_peer(peer, data, num_queries, context)
    peer_watch.stop()
    return {
        "what": "with context matching" if with_context else "plain",
        "queries": num_queries,
        "mean_ap": result.mean_ap,
        "top_1": result.top_k[1],
        "cpu": watch.cpu,
        "peer_cpu": peer_watch.cpu,
        "ratio": peer_watch.cpu / watch.cpu,
        "wall": watch.wall,
        "peer_wall": peer_watch.wall,
        "largest_ap_difference": float(np.abs(result.average_precisions - precisions).max()),
        "largest_top_k_difference": max(
            abs(result.top_k[k] - value) for k, value in zip(TOP_K, top, strict=True)
        ),
        "peak_mib": memory,
    }


def growth(data: Benchmark) -> Iterator[dict[str, Any]]:
    """Time our evaluator with fewer queries, and with a smaller or larger gallery."""
    for share in (0.25, 0.5, 1.0):
        num_queries = round(share * len(data.queries))
        for convention in ("standard", "seqnet"):
            watch = ours(data, data.protocol(num_queries), convention)[1]
            yield _size(data, num_queries, convention, watch)
    for factor in (0.5, 2.0):
        other = make_benchmark(
            round(factor * len(data.scenes)),
            round(factor * sum(map(len, data.gallery.values()))),
            len(data.queries),
        )
        for convention in ("standard", "seqnet"):
            watch = ours(other, other.protocol(), convention)[1]
            yield _size(other, len(other.queries), convention, watch)


def _size(data: Benchmark, num_queries: int, convention: str, watch: Stopwatch) -> dict[str, Any]:
    return {
        "queries": num_queries,
        "pictures": len(data.scenes),
        "detections": sum(map(len, data.gallery.values())),
        "convention": convention,
        "cpu": watch.cpu,
        "wall": watch.wall,
        "peak_mib": peak_mib(),
    }


def print_rows(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print a table with one column per key."""
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console(width=160).print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peer", type=Path, help="a clone of SeqNet")
    parser.add_argument("--queries", type=int, default=PRW["queries"], help="queries to compare")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the data")
    parser.add_argument("--context", action="store_true", help="also compare context matching")
    parser.add_argument("--growth", action="store_true", help="also time other sizes")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    data = make_benchmark(
        round(PRW["pictures"] * given.scale),
        round(PRW["detections"] * given.scale),
        PRW["queries"],
    )
    measured: dict[str, list[dict[str, Any]]] = {}
    if given.peer is not None:
        with peer_module(given.peer) as peer:
            kinds = (False, True) if given.context else (False,)
            measured["comparison"] = [compare(data, peer, given.queries, kind) for kind in kinds]
    if given.growth or given.peer is None:
        measured["growth"] = list(growth(data))
    if given.json:
        print(json.dumps(measured, indent=2))
        return
    for title, rows in measured.items():
        print_rows(title, rows)


if __name__ == "__main__":
    main()
