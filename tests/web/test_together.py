"""Searches, reports, erasures and pictures at once: all are answered, nobody erased is shown."""

import csv
import io
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from crowd import BLUE, GREEN, RED

from personsearch.store import Filters, open_store

Serving = Callable[..., AbstractContextManager[str]]


def test_who_writes_waits_for_the_turn(
    store: Path, serving: Serving, png: Callable[..., bytes]
) -> None:
    import httpx2

    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with open_store(store, write=True) as opened, opened.writing():
            held.set()
            over.wait(30)

    with (
        serving(store) as address,
        httpx2.Client(base_url=address, timeout=60) as web,
        ThreadPoolExecutor(3) as pool,
    ):
        pool.submit(hold)
        assert held.wait(30)
        erasure = pool.submit(web.post, "/api/v1/erase", json={"people": [1]})
        added = pool.submit(web.post, "/api/v1/pictures?name=a.png", content=png({20: BLUE}))
        time.sleep(0.5)
        # Who reads does not wait, and finds who is not erased yet.
        assert web.get("/api/v1/people/1").status_code == 200
        assert not erasure.done()
        assert not added.done()
        over.set()
        assert erasure.result().status_code == 200
        assert added.result().status_code == 201


def test_all_at_once(store: Path, serving: Serving, png: Callable[..., bytes]) -> None:
    import httpx2

    with open_store(store) as opened:
        example = opened.ids_after(0, 1)[0]
    with serving(store) as address, httpx2.Client(base_url=address, timeout=60) as web:

        def add(number: int) -> int:
            colors = {20: RED, 120: GREEN, 220: (number % 25 * 10, 250, number // 25)}
            answer = web.post(f"/api/v1/pictures?name={number}.png", content=png(colors))
            assert answer.status_code == 201, answer.text
            return int(answer.json()["people"][0])

        victims = [add(number) for number in range(8)]
        erased: set[int] = set()
        shown: list[int] = []
        done = threading.Event()

        def erase() -> Counter[int]:
            found: Counter[int] = Counter()
            for row, one in enumerate(victims):
                if row % 2:
                    with open_store(store, write=True) as other:  # as another process does
                        assert other.erase(Filters(people=[one])) == 1
                    found[200] += 1
                else:
                    found[web.post("/api/v1/erase", json={"people": [one]}).status_code] += 1
                erased.add(one)
            done.set()
            return found

        def search(_: int) -> Counter[int]:
            found: Counter[int] = Counter()
            while not done.is_set():
                before = set(erased)
                answer = web.post("/api/v1/search", json={"people": [example], "top": 50})
                found[answer.status_code] += 1
                ids = {int(hit["person"]["id"]) for hit in answer.json()["hits"]}
                shown.extend(ids & before)
                before = set(erased)
                path = f"/api/v1/results/{answer.json()['result']}/report"
                report = web.post(path, json={"format": "csv"})
                found[report.status_code] += 1
                rows = csv.DictReader(io.StringIO(report.text))
                shown.extend({int(row["person"]) for row in rows if row["person"]} & before)
            return found

        with ThreadPoolExecutor(6) as pool:
            searches = [pool.submit(search, number) for number in range(4)]
            more = pool.map(add, range(100, 108))
            erasures = pool.submit(erase)
            assert erasures.result() == {200: len(victims)}
            assert len(set(more)) == 8
            statuses = sum((one.result() for one in searches), Counter())
    assert set(statuses) == {200}
    assert shown == []
    with open_store(store) as opened:
        assert opened.damage() == ""
