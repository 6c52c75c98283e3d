"""Views outside of a search are lines in the audit log, before anything is shown."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from starlette.testclient import TestClient

from personsearch.store.audit import LOG, AuditLog
from personsearch.web.keys import Keys
from personsearch.web.views import Views

Serving = Callable[..., AbstractContextManager[str]]


def test_views_share_lines_and_last_for_a_while() -> None:
    lines: list[tuple[str, Mapping[str, list[int]]]] = []
    now = 0.0

    async def write(caller: str, people: Mapping[str, list[int]]) -> None:
        await asyncio.sleep(0.01)
        lines.append((caller, people))

    async def run() -> None:
        nonlocal now
        views = Views(write, clock=lambda: now)
        await asyncio.gather(*(views.see("a", person, "thumbnails") for person in range(48)))
        # The first has a line; those who came while it was written share the next.
        assert lines == [("a", {"thumbnails": list(range(48))})]
        await views.see("a", 7, "thumbnails")
        assert len(lines) == 1
        await asyncio.gather(views.see("a", 7, "pictures"), views.see("b", 7, "thumbnails"))
        assert lines[1:] == [("a", {"pictures": [7]}), ("b", {"thumbnails": [7]})]
        views.returned("b", [8])
        await asyncio.gather(views.see("b", 8, "pictures"), views.see("b", 8, "clips"))
        assert len(lines) == 3
        await views.see("a", 8, "clips")  # returned to another caller
        now = 1e4
        await views.see("b", 8, "clips")
        assert lines[3:] == [("a", {"clips": [8]}), ("b", {"clips": [8]})]

    asyncio.run(run())


def test_without_a_line_nothing_is_seen() -> None:
    async def fails(caller: str, people: Mapping[str, list[int]]) -> None:
        raise OSError("full")

    async def run() -> None:
        views = Views(fails)
        seen = await asyncio.gather(
            *(views.see("a", one, "thumbnails") for one in range(3)), return_exceptions=True
        )
        assert all(isinstance(one, OSError) for one in seen)

    asyncio.run(run())


def test_results_may_be_looked_at_and_everyone_else_is_logged(
    client: TestClient, store: Path
) -> None:
    hits = client.post("/api/v1/search", json={"people": [1], "top": 3}).json()["hits"]
    for hit in hits:
        for kind in ("thumbnail", "picture"):
            assert client.get(hit["person"][kind]).status_code == 200
    assert [entry.action for entry in AuditLog(store).entries()] == ["search"]
    shown = {int(hit["person"]["id"]) for hit in hits}
    other = next(one for one in range(1, 11) if one not in shown)
    for kind in ("", "/thumbnail", "/picture", "/thumbnail"):
        assert client.get(f"/api/v1/people/{other}{kind}").status_code == 200
    assert client.get("/api/v1/people/999/thumbnail").status_code == 404
    views = list(AuditLog(store).entries())[1:]
    assert [(entry.who, entry.action) for entry in views] == [("local", "view")] * 3
    kinds = ("records", "thumbnails", "pictures")
    assert [entry.details for entry in views] == [{kind: [other]} for kind in kinds]


def test_what_cannot_be_logged_is_not_shown(client: TestClient, store: Path) -> None:
    assert client.get("/api/v1/people/1/thumbnail").status_code == 200
    (store / LOG).write_bytes(b"")
    for kind in ("", "/thumbnail", "/picture"):
        assert client.get(f"/api/v1/people/2{kind}").status_code == 503


def test_thumbnails_by_counting_are_few_lines_and_all_in_them(
    store: Path, serving: Serving
) -> None:
    import httpx2

    secret = Keys(store).make("desk", ["search"])
    headers = {"authorization": f"Bearer {secret}"}
    with (
        serving(store) as address,
        httpx2.Client(base_url=address, headers=headers, timeout=60) as web,
        ThreadPoolExecutor(10) as pool,
    ):
        found = pool.map(lambda one: web.get(f"/api/v1/people/{one}/thumbnail"), range(1, 11))
        assert [answer.status_code for answer in found] == [200] * 10
    lines = [entry for entry in AuditLog(store).entries() if entry.action == "view"]
    assert {entry.who for entry in lines} == {"desk"}
    assert sorted(one for entry in lines for one in entry.details["thumbnails"]) == list(
        range(1, 11)
    )


def test_memory_is_bounded() -> None:
    async def nothing(caller: str, people: Mapping[str, list[int]]) -> None: ...

    views = Views(nothing)
    views.returned("a", range(100_001))
    assert len(views._covered) == 100_000
