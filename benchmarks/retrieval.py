"""Time a store at scale beside numpy and LanceDB: writing, opening, searching, memory.

    python benchmarks/retrieval.py --people 1000000
    pip install lancedb && python benchmarks/retrieval.py --people 1000000 --lancedb

All run in one process on the same people, so that the ratios hold on any machine. Times are wall
clock and CPU time summed over threads, which other work on the machine changes less. numpy
multiplies a float32 matrix in memory by the queries, the simplest exact search.

The people are synthetic: each camera has one video with five people per frame; a person is in
twenty frames with a mean cosine of 0.8 between views; people are grouped by looks, a thousand
views per group. Queries are views of people with as much noise again. The filter keeps one camera
of fifty.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from personsearch.engines.sqlite import StoreEngine
from personsearch.store import Filters, FoundPeople, ModelIdentity, open_store
from personsearch.types import FileStamp

CAMERAS, A_FRAME, VIEWS, ALIKE = 50, 5, 20, 1000
THUMBNAIL = 2048
TOP = 10


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        what: what was done.
        who: the library that did it.
        count: number of people, queries or openings.
        wall, cpu: seconds.
        recall: recall of the true top 10; None where it has no meaning.
    """

    what: str
    who: str
    count: int
    wall: float
    cpu: float
    recall: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fields and the rates."""
        rates = {"per_second": self.count / self.wall, "per_cpu_second": self.count / self.cpu}
        return vars(self) | rates


def views(begin: int, end: int, dim: int) -> np.ndarray:
    """Return the embeddings of people `begin` to `end`, independent of the range."""
    numbers = np.arange(begin, end)
    rows = np.empty((len(numbers), dim), np.float32)
    for group in np.unique(numbers // ALIKE):
        generator = np.random.default_rng([1, int(group)])
        looks = 0.7 * generator.normal(size=dim)
        someone = looks + generator.normal(size=(ALIKE // VIEWS, dim))
        several = np.repeat(someone, VIEWS, axis=0)
        several = several + 0.6 * generator.normal(size=several.shape)
        several /= np.linalg.norm(several, axis=1, keepdims=True)
        here = numbers // ALIKE == group
        rows[here] = several[numbers[here] % ALIKE]
    return rows


def frames(begin: int, end: int, dim: int, thumbnail: bytes) -> list[FoundPeople]:
    """Return a part of a video."""
    vectors = views(begin, end, dim)
    generator = np.random.default_rng(begin)
    scores = generator.uniform(0.5, 1.0, len(vectors)).astype(np.float32)
    boxes = np.tile(np.array([100, 100, 160, 280], np.float32), (len(vectors), 1))
    found = []
    for first in range(0, len(vectors), A_FRAME):
        some = slice(first, first + A_FRAME)
        found.append(
            FoundPeople(
                (1920, 1080),
                boxes[some],
                scores[some],
                vectors[some],
                [thumbnail] * len(vectors[some]),
                frame=begin + first,
                time=float(begin + first),
            )
        )
    return found


def insert(folder: Path, people: int, dim: int, thumbnail: bytes) -> tuple[float, float]:
    """Return wall and CPU seconds of writing, without making the people."""
    model = ModelIdentity("benchmark", "b" * 64, dim)
    wall = cpu = 0.0
    share = -(-people // CAMERAS)
    with open_store(folder, model=model, write=True) as store:
        for camera in range(CAMERAS):
            first, last = camera * share, min((camera + 1) * share, people)
            if first >= last:
                continue
            file = store.begin_file("/made", f"{camera}.mp4", FileStamp(1, 1), f"c{camera}")
            for begin in range(first, last, 5000):
                some = frames(begin, min(begin + 5000, last), dim, thumbnail)
                began = time.perf_counter(), time.process_time()
                store.add(file, some)
                wall += time.perf_counter() - began[0]
                cpu += time.process_time() - began[1]
            store.finish_file(file)
    return wall, cpu


def timed(what: str, who: str, count: int, work: Callable[[], object]) -> Row:
    """Time one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Row(what, who, count, time.perf_counter() - wall, time.process_time() - cpu)


def anonymous() -> int:
    """Return the anonymous memory of this process in bytes."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    return 0


def recall(found: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """Return the share of the true ids that were found."""
    pairs = zip(found, truth, strict=True)
    return float(np.mean([len(np.intersect1d(one, other)) / len(other) for one, other in pairs]))


def compare(people: int, dim: int, queries: int, lancedb: bool, folder: Path) -> dict[str, Any]:
    """Return all measurements."""
    rows = []
    for name, thumbnail in (("bare", b""), ("store", b"\xff" * THUMBNAIL)):
        wall, cpu = insert(folder / name, people, dim, thumbnail)
        about = "with thumbnails" if thumbnail else "without thumbnails"
        rows.append(Row(f"insert, {about}", "store", people, wall, cpu))
        if not thumbnail:
            shutil.rmtree(folder / name)
    place = folder / "store"
    generator = np.random.default_rng(0)
    who = generator.integers(0, people, queries)
    asked = np.concatenate([views(int(one), int(one) + 1, dim) for one in who])
    asked = asked + 0.6 * generator.normal(size=asked.shape) / np.sqrt(dim)
    asked = (asked / np.linalg.norm(asked, axis=1, keepdims=True)).astype(np.float32)
    few = asked[: max(1, queries // 20)]
    camera = Filters(cameras=("c7",))

    def ids(engine: StoreEngine, some: np.ndarray, **more: Any) -> list[np.ndarray]:
        return [ranking.ids for ranking in engine.search(some, top=TOP, **more)]

    def one_by_one(engine: StoreEngine, some: np.ndarray, **more: Any) -> list[np.ndarray]:
        return [ids(engine, query[None], **more)[0] for query in some]

    def opened() -> None:
        with StoreEngine(place) as engine:
            ids(engine, few[:1])

    before = anonymous()
    rows.append(timed("open the first time", "store", 1, opened))
    rows.append(timed("open", "store", 1, opened))
    with StoreEngine(place, exact=True) as engine:
        one_by_one(engine, few[:3])
        rows.append(timed("exact, one by one", "store", len(few), lambda: one_by_one(engine, few)))
        rows.append(timed("exact, together", "store", len(asked), lambda: ids(engine, asked)))
        truth = ids(engine, asked)
        filtered = one_by_one(engine, few, filters=camera)
        rows.append(
            timed(
                "2 %, one by one",
                "store",
                len(few),
                lambda: one_by_one(engine, few, filters=camera),
            )
        )
        memory = {"exact": anonymous() - before}
    with StoreEngine(place, exact=False) as engine:
        prepared = False

        def prepare() -> None:
            nonlocal prepared
            prepared = engine.prepare()

        rows.append(timed("prepare approximate", "store", 1, prepare))
        found = ids(engine, asked)
        several = max(1, 2000 // len(asked))
        many = np.concatenate([asked] * several)
        for what, work, count in (
            ("approximate, one by one", lambda: one_by_one(engine, few), len(few)),
            ("approximate, together", lambda: ids(engine, many), len(many)),
        ):
            row = timed(what, "store", count, work)
            rows.append(Row(**vars(row) | {"recall": recall(found, truth)}))
        memory["approximate"] = anonymous() - before
    rows += plain(people, dim, asked, few, truth, filtered)
    if lancedb:
        rows += beside_lancedb(folder / "lance", people, dim, few, truth, filtered)
    size = {
        "database": (place / "people.sqlite").stat().st_size,
        "rows": sum(path.stat().st_size for path in place.glob("index/*.rows")),
        "lists": sum(path.stat().st_size for path in place.glob("index/*.lists")),
    }
    return {
        "people": people,
        "dim": dim,
        "prepared": prepared,
        "rows": [row.as_json() for row in rows],
        "memory_bytes": memory,
        "disk_bytes": size,
    }


def plain(
    people: int,
    dim: int,
    asked: np.ndarray,
    few: np.ndarray,
    truth: list[np.ndarray],
    filtered: list[np.ndarray],
) -> Iterator[Row]:
    """Search with numpy in memory; ids are those of the store."""
    matrix = views(0, people, dim).astype(np.float16).astype(np.float32)
    share = -(-people // CAMERAS)
    one_camera = slice(7 * share, min(8 * share, people))

    def best(some: np.ndarray, rows: slice) -> list[np.ndarray]:
        scores = some @ matrix[rows].T
        top = np.argpartition(-scores, min(TOP, scores.shape[1]) - 1, axis=1)[:, :TOP]
        return list(top + 1 + rows.start)

    everyone = slice(0, people)
    for what, some, rows, expected, at_once in (
        ("exact, one by one", few, everyone, truth[: len(few)], 1),
        ("exact, together", asked, everyone, truth, 64),
        ("2 %, one by one", few, one_camera, filtered, 1),
    ):
        found: list[np.ndarray] = []

        def work(
            some: np.ndarray = some,
            rows: slice = rows,
            at_once: int = at_once,
            found: list[np.ndarray] = found,
        ) -> None:
            for begin in range(0, len(some), at_once):
                found.extend(best(some[begin : begin + at_once], rows))

        row = timed(what, "numpy", len(some), work)
        yield Row(**vars(row) | {"recall": recall(found, expected)})


def beside_lancedb(
    folder: Path,
    people: int,
    dim: int,
    few: np.ndarray,
    truth: list[np.ndarray],
    filtered: list[np.ndarray],
) -> Iterator[Row]:
    """Search with LanceDB without an index: exact, like the store by default."""
    import lancedb
    import pyarrow

    table = None
    database = lancedb.connect(folder)
    share = -(-people // CAMERAS)
    wall = cpu = 0.0
    for begin in range(0, people, 50_000):
        vectors = views(begin, min(begin + 50_000, people), dim).astype(np.float16)
        flat = pyarrow.array(vectors.ravel(), pyarrow.float16())
        numbers = np.arange(begin, begin + len(vectors))
        made = pyarrow.table(
            {
                "id": numbers + 1,
                "camera": numbers // share,
                "vector": pyarrow.FixedSizeListArray.from_arrays(flat, dim),
            }
        )
        began = time.perf_counter(), time.process_time()
        if table is None:
            table = database.create_table("people", made)
        else:
            table.add(made)
        wall += time.perf_counter() - began[0]
        cpu += time.process_time() - began[1]
    assert table is not None
    yield Row("insert, without thumbnails", "LanceDB", people, wall, cpu)
    for what, where, expected in (
        ("exact, one by one", None, truth),
        ("2 %, one by one", "camera = 7", filtered),
    ):
        found: list[np.ndarray] = []
        some = few[:10]

        def work(
            where: str | None = where,
            found: list[np.ndarray] = found,
            some: np.ndarray = some,
        ) -> None:
            for query in some:
                search = table.search(query).distance_type("dot").limit(TOP).select(["id"])
                if where is not None:
                    search = search.where(where, prefilter=True)
                found.append(search.to_arrow()["id"].to_numpy())

        row = timed(what, "LanceDB", len(some), work)
        yield Row(**vars(row) | {"recall": recall(found, expected[: len(some)])})


def main() -> None:
    """Print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--lancedb", action="store_true", help="also measure LanceDB")
    parser.add_argument("--folder", type=Path, help="folder of the stores; default: temporary")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=asked.folder))
    try:
        result = compare(asked.people, asked.dim, asked.queries, asked.lancedb, folder)
    finally:
        shutil.rmtree(folder)
    if asked.json:
        print(json.dumps(result))
        return
    table = Table(title=f"{asked.people:,} people, {asked.dim} numbers each")
    for name in ("what", "who", "a second", "a CPU second", "to numpy's", "recall"):
        table.add_column(name, justify="right")
    of_numpy = {row["what"]: row["per_second"] for row in result["rows"] if row["who"] == "numpy"}
    for row in result["rows"]:
        ratio = row["per_second"] / of_numpy[row["what"]] if row["what"] in of_numpy else None
        table.add_row(
            row["what"],
            row["who"],
            f"{row['per_second']:,.2f}",
            f"{row['per_cpu_second']:,.2f}",
            "" if ratio is None else f"{ratio:.2f}",
            "" if row["recall"] is None else f"{row['recall']:.4f}",
        )
    console = Console()
    console.print(table)
    for what in ("memory_bytes", "disk_bytes"):
        several = (f"{name} {size / 1e6:,.1f} MB" for name, size in result[what].items())
        console.print(f"{what.split('_')[0]}: {', '.join(several)}")


if __name__ == "__main__":
    main()
