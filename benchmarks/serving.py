"""Time the API over a store at scale: a search as the page sends it, with its thumbnails.

    python benchmarks/serving.py --people 1000000

The server runs in this process behind a real socket, over the people of `retrieval.py`; searches
are by people in the store and need no network. The engine's own search is timed in the same run,
which shows what the service adds as a ratio. Aim: the page's first answer in less than 300 ms at a
million people.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import uvicorn
from retrieval import CAMERAS, THUMBNAIL, insert
from rich.console import Console
from rich.table import Table

from personsearch.engines.sqlite import StoreEngine
from personsearch.search.archive import Archive
from personsearch.store import Filters
from personsearch.web.app import create_app
from personsearch.web.connections import server_config
from personsearch.web.listening import listen
from personsearch.web.service import Settings

TOP = 24
"""Hits that the page requests."""


def spread(work: Callable[[int], object], people: list[int]) -> dict[str, float]:
    """Return milliseconds of consecutive calls."""
    taken = []
    for one in people:
        began = time.perf_counter()
        work(one)
        taken.append(1e3 * (time.perf_counter() - began))
    return {
        "median_ms": statistics.median(taken),
        "p95_ms": sorted(taken)[int(0.95 * len(taken))],
        "worst_ms": max(taken),
    }


def measure(place: Path, people: int, searches: int) -> dict[str, Any]:
    """Return all measurements of a store."""
    generator = np.random.default_rng(0)
    asked = generator.integers(1, people + 1, searches).tolist()
    one_camera = [f"c{generator.integers(CAMERAS)}"]
    rows: dict[str, dict[str, float]] = {}
    with Archive(StoreEngine(place)) as archive, listen("127.0.0.1", 0) as socket:
        # The thread of the network would report that there is no such model.
        app = create_app(archive, Settings(burst=1e9, rate=1e9))
        server = uvicorn.Server(server_config(app))
        thread = threading.Thread(target=server.run, args=([socket],), daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{socket.getsockname()[1]}"

        def search(person: int, **filters: object) -> dict[str, Any]:
            body = json.dumps({"people": [person], "filters": filters, "top": TOP}).encode()
            headers = {"content-type": "application/json"}
            request = Request(f"{address}/api/v1/search", body, headers)
            with urlopen(request, timeout=120) as answer:
                found: dict[str, Any] = json.load(answer)
            return found

        def with_thumbnails(person: int) -> None:
            for hit in search(person)["hits"]:
                with urlopen(f"{address}{hit['person']['thumbnail']}", timeout=120) as answer:
                    answer.read()

        engine = archive.engine
        while not server.started:
            time.sleep(0.01)
        began = time.perf_counter()
        search(asked[0])
        first = time.perf_counter() - began
        rows["engine alone"] = spread(
            lambda one: engine.search(engine.vectors([one]).astype(np.float32), top=TOP), asked
        )
        rows["API: a search"] = spread(search, asked)
        rows["API: a search, one camera"] = spread(
            lambda one: search(one, cameras=one_camera), asked
        )
        rows["API: a search and its thumbnails"] = spread(with_thumbnails, asked[: searches // 4])
        rows["page: what is in the store"] = spread(
            lambda _: urlopen(f"{address}/api/v1/store", timeout=120).read(), asked[:5]
        )
        began = time.perf_counter()
        with ThreadPoolExecutor(200) as pool:
            list(pool.map(search, generator.integers(1, people + 1, 200).tolist()))
        together = time.perf_counter() - began
        assert engine.count(Filters(people=[asked[0]])) == 1
        server.should_exit = True
        thread.join()
    return {"people": people, "first_s": first, "two_hundred_at_once_s": together, "rows": rows}


def main() -> int:
    """Print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--searches", type=int, default=60)
    parser.add_argument("--folder", type=Path, help="folder of the store; default: temporary")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        insert(folder / "store", given.people, given.dim, b"\xff" * THUMBNAIL)
        result = measure(folder / "store", given.people, given.searches)
    finally:
        shutil.rmtree(folder)
    if given.json:
        print(json.dumps(result))
        return 0
    table = Table(title=f"{given.people:,} people, {given.searches} searches")
    for name in ("what", "median ms", "95 % ms", "worst ms", "to the engine's"):
        table.add_column(name, justify="right")
    alone = result["rows"]["engine alone"]["median_ms"]
    for name, row in result["rows"].items():
        figures = [f"{row[key]:.1f}" for key in ("median_ms", "p95_ms", "worst_ms")]
        table.add_row(name, *figures, f"{row['median_ms'] / alone:.2f}")
    console = Console()
    console.print(table)
    console.print(
        f"the first search, with all that is loaded for it: {result['first_s']:.2f} s; 200 at "
        f"once: {result['two_hundred_at_once_s']:.2f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
