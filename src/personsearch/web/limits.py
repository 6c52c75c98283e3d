"""Limits on the rate and size of requests, checked before any work is done."""

import asyncio
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from personsearch.web.admission import Gate

MAX_UPLOAD = 20 * 1024 * 1024
"""The most bytes of a picture."""
MAX_BODY = 1024 * 1024
"""The most bytes of any other request."""
BODY_SECONDS, BODY_RATE = 15.0, 32 * 1024
"""A body has to arrive in so many seconds, and one more for so many bytes."""

_CLIENTS = 4096


class Buckets:
    """A token bucket for each client: `burst` tokens at most, `rate` tokens more each second."""

    def __init__(
        self, burst: float, rate: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._rate, self._clock = burst, rate, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, client: str) -> float:
        """Take a token; return 0, or the seconds until there is one."""
        now = self._clock()
        with self._lock:
            tokens, since = self._buckets.pop(client, (self._burst, now))
            tokens = min(self._burst, tokens + (now - since) * self._rate)
            enough = tokens >= 1
            self._buckets[client] = (tokens - enough, now)
            while len(self._buckets) > _CLIENTS:
                self._buckets.popitem(last=False)
        return 0.0 if enough else (1 - tokens) / self._rate


class BodyLimit:
    """Middleware that refuses large requests: by their stated length, and while they arrive.

    The paths `uploads` take a picture. A body waits for room in a gate before it is read, and keeps
    it until the answer: a picture in `pictures`, any other in `others`, so that it does not wait
    behind pictures.
    """

    def __init__(self, app: ASGIApp, uploads: frozenset[str], pictures: Gate, others: Gate) -> None:
        self.app, self.uploads, self.pictures, self.others = app, uploads, pictures, others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        upload = scope["path"] in self.uploads
        limit, gate = (MAX_UPLOAD + 4096, self.pictures) if upload else (MAX_BODY, self.others)
        headers = Headers(scope=scope)
        stated = headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,15}", stated) or int(stated) > limit:
            await refusal(413, too_large(limit), {"connection": "close"})(scope, receive, send)
            return
        if "transfer-encoding" in headers and "content-length" in headers:
            # A proxy may read where the body ends by the other header.
            answer = refusal(400, "the length of the body is stated twice", {"connection": "close"})
            await answer(scope, receive, send)
            return
        size = limit if "transfer-encoding" in headers else int(stated)
        limited = _limited(receive, limit)
        if not size:
            await self.app(scope, limited, send)
            return
        caller = scope.get("state", {}).get("caller")
        try:
            # Twice: as it arrives in parts, and in one piece.
            place = await gate.enter(caller.name if caller else "", 2 * size)
        except HTTPException as error:
            # Not closed: a client that is still sending reads no answer from a closed connection.
            answer = refusal(error.status_code, error.detail, error.headers)
            await answer(scope, receive, send)
            return
        try:
            await self.app(scope, limited, send)
        finally:
            place.release()


def _limited(receive: Receive, limit: int) -> Receive:
    """Return `receive` with a limit on the bytes and on the time of a body."""
    received, complete, began = 0, False, time.monotonic()

    async def limited() -> Message:
        nonlocal received, complete
        if complete:  # only the end of the connection is left
            return await receive()
        left = began + BODY_SECONDS + received / BODY_RATE - time.monotonic()
        try:
            message = await asyncio.wait_for(receive(), max(left, 0.01))
        except TimeoutError:
            raise HTTPException(408, "the request did not arrive in time") from None
        received += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        if received > limit:
            raise HTTPException(413, too_large(limit))
        return message

    return limited


def refusal(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an error response."""
    return JSONResponse({"detail": detail}, status, headers)


def too_large(limit: int) -> str:
    """Return the error of a request above a limit in bytes."""
    if limit > MAX_UPLOAD:
        return f"the picture is larger than {MAX_UPLOAD // 2**20} MB; scale it down"
    return f"the request is larger than {limit // 2**20} MB"
