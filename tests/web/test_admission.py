"""Room for pictures: bounded, in turn among callers, and given back by clients that leave."""

import asyncio
import io
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crowd import RED
from numpy.typing import NDArray
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from personsearch.media.apart import decode_picture
from personsearch.web import admission, service, upload_body
from personsearch.web.admission import Gate
from personsearch.web.upload_body import stated_pixels

Serving = Callable[..., AbstractContextManager[str]]


def test_room_is_bounded_and_goes_to_the_caller_who_holds_least() -> None:
    async def run() -> None:
        gate, order = Gate(100), []
        first = await gate.enter("a", 70)

        async def come(caller: str, size: int) -> None:
            place = await gate.enter(caller, size)
            assert gate.held <= 100
            order.append(caller)
            await asyncio.sleep(0.01)
            place.release()

        coming = [come("a", 70), come("a", 70), come("b", 40), come("b", 40), come("c", 40)]
        tasks = [asyncio.create_task(one) for one in coming]
        await asyncio.sleep(0.01)
        assert (gate.held, gate.waiting) == (70, 5)
        first.release()
        first.release()  # the second time changes nothing
        await asyncio.gather(*tasks)
        assert order == ["b", "c", "b", "a", "a"] or order[:2] in (["b", "c"], ["a", "b"])
        assert (gate.held, gate.waiting) == (0, 0)

    asyncio.run(run())


def test_one_caller_leaves_room_for_another() -> None:
    async def run() -> None:
        gate = Gate(100)
        for _ in range(3):
            await gate.enter("a", 25)
        more = asyncio.create_task(gate.enter("a", 25))
        await asyncio.sleep(0)
        other = await asyncio.wait_for(gate.enter("b", 25), 1)
        assert not more.done()
        other.release()
        more.cancel()
        await asyncio.gather(more, return_exceptions=True)
        assert (gate.held, gate.waiting) == (75, 0)
        # More than one caller may have: as much as that.
        huge = await asyncio.wait_for(Gate(100).enter("a", 10**9), 1)
        huge.release()

    asyncio.run(run())


def test_who_waits_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "PATIENCE", 0.05)

    async def run() -> None:
        gate = Gate(100)
        place = await gate.enter("a", 70)
        with pytest.raises(HTTPException) as caught:
            await gate.enter("b", 70)
        assert caught.value.status_code == 429
        assert caught.value.headers
        assert int(caught.value.headers["retry-after"]) > 0
        place.release()
        (await gate.enter("b", 70)).release()
        assert gate.held == 0

    asyncio.run(run())


class Decoding:
    """A decoder that hangs at pictures of one size until `go` is set, and counts them."""

    def __init__(self) -> None:
        self.go, self.hung = threading.Event(), 0

    def __call__(self, data: bytes, *rest: Any, **more: Any) -> NDArray[np.uint8]:
        if stated_pixels(data) == 99 * 99:
            self.hung += 1
            assert self.go.wait(60)
        return decode_picture(data, *rest, **more)


@pytest.fixture
def decoding(monkeypatch: pytest.MonkeyPatch) -> Decoding:
    made = Decoding()
    monkeypatch.setattr(upload_body, "decode_picture", made)
    return made


def _bad() -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (99, 99), (128, 128, 128)).save(written, "PNG")
    return written.getvalue()


def _until(true: Callable[[], object]) -> None:
    until = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_bad_pictures_delay_nobody_and_are_not_decoded_for_clients_that_left(
    store: Path, serving: Serving, png: Callable[..., bytes], decoding: Decoding
) -> None:
    import httpx2

    with serving(store) as address, httpx2.Client(base_url=address, timeout=60) as web:

        def bad() -> None:
            with pytest.raises(httpx2.TimeoutException):
                httpx2.post(f"{address}/api/v1/queries", content=_bad(), timeout=1.0)

        with ThreadPoolExecutor(8) as pool:
            sent = [pool.submit(bad) for _ in range(8)]
            # One caller sends them all, and gets the threads but one.
            _until(lambda: decoding.hung == 3)
            assert web.get("/healthz").status_code == 200
            for one in sent:
                one.result()
        began = time.perf_counter()
        assert web.post("/api/v1/search", json={"people": [1]}).status_code == 200
        assert time.perf_counter() - began < 1
        decoding.go.set()
        assert web.post("/api/v1/queries", content=png({20: RED})).status_code == 201
        # The other five clients had left before their turn.
        assert decoding.hung == 3


def test_pictures_without_room_wait_and_are_then_refused(
    store: Path, serving: Serving, decoding: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx2

    monkeypatch.setattr(admission, "PATIENCE", 0.3)
    monkeypatch.setattr(service, "RECEIVED", 100_000)
    with (
        serving(store) as address,
        httpx2.Client(base_url=address, timeout=60) as web,
        ThreadPoolExecutor(12) as pool,
    ):

        def send(_: int) -> tuple[int, str]:
            body = _bad() + bytes(20_000)
            answer = web.post("/api/v1/queries", content=body)
            return answer.status_code, answer.headers.get("retry-after", "")

        answers = pool.map(send, range(12))
        _until(lambda: decoding.hung)
        time.sleep(1.0)
        decoding.go.set()
        found = list(answers)
        assert sorted(set(found)) == [(201, ""), (429, "10")]
        # 75 % of the room is one caller's, and each picture counts twice.
        assert found.count((201, "")) == 1
        assert web.get("/healthz").status_code == 200


def test_a_search_does_not_wait_behind_uploads(
    client: TestClient, png: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "PATIENCE", 0.3)
    served = client.app.state.service  # type: ignore[attr-defined]
    asyncio.run(served.received.enter(service.LOCAL.name, service.RECEIVED))
    assert client.post("/api/v1/queries", content=png({20: RED})).status_code == 429
    assert client.post("/api/v1/search", json={"people": [1]}).status_code == 200
