"""Buckets, and bodies that are too large, by what they say or while they come."""

import asyncio
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from personsearch.web.admission import Gate
from personsearch.web.limits import MAX_BODY, MAX_UPLOAD, BodyLimit, Buckets


def test_a_bucket_empties_and_fills_again() -> None:
    now = 0.0
    buckets = Buckets(3, 2.0, clock=lambda: now)
    assert [buckets.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.wait("b") == 0
    now = 0.5
    assert [buckets.wait("a") for _ in range(2)] == [0, 0.5]
    now = 100.0
    assert [buckets.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_clients_are_forgotten_so_that_room_is_bounded() -> None:
    buckets = Buckets(1, 0.001)
    for number in range(10_000):
        buckets.wait(str(number))
    assert len(buckets._buckets) <= 4096


async def _read_all(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})


def ask(path: str, parts: list[bytes], **headers: str) -> int:
    """The status of a request whose body comes in parts."""
    left = list(parts)
    sent: list[Message] = []

    async def receive() -> Message:
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    async def send(message: Message) -> None:
        sent.append(message)

    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "http", "path": path, "headers": given}

    async def limited() -> None:
        gates = (Gate(10**9), Gate(10**9))
        await BodyLimit(_read_all, frozenset({"/upload"}), *gates)(scope, receive, send)

    try:
        asyncio.run(limited())
    except HTTPException as error:
        return error.status_code
    return int(sent[0]["status"])


def test_bodies() -> None:
    mega = b"x" * 2**20
    assert ask("/search", [mega]) == 200
    assert ask("/search", [mega, b"x"]) == 413
    assert ask("/search", [], content_length=str(MAX_BODY + 1)) == 413
    assert ask("/upload", [mega] * 20) == 200
    assert ask("/upload", [mega] * 21) == 413
    assert ask("/upload", [], content_length=str(5 * MAX_UPLOAD)) == 413
    for nonsense in ("-1", "ten", "9" * 5000):
        assert ask("/upload", [], content_length=nonsense) == 413
    assert ask("/search", [mega], transfer_encoding="chunked") == 200
    assert ask("/search", [mega], transfer_encoding="chunked", content_length="5") == 400


def test_a_body_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("personsearch.web.limits.BODY_SECONDS", 0.01)

    async def never() -> Message:
        await asyncio.sleep(60)
        raise AssertionError

    async def send(_: Message) -> None:
        raise AssertionError

    length = [(b"content-length", b"9")]
    scope: dict[str, Any] = {"type": "http", "path": "/", "headers": length}
    with pytest.raises(HTTPException) as caught:
        asyncio.run(BodyLimit(_read_all, frozenset(), Gate(1), Gate(10**9))(scope, never, send))
    assert caught.value.status_code == 408
