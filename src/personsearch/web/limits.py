"""How often a client may ask, and how much it may send: checked before anything is done for it."""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_UPLOAD = 20 * 1024 * 1024
"""Bytes of a picture."""
MAX_BODY = 1024 * 1024
"""Bytes of any other request."""
BODY_SECONDS = 60.0
"""In which a request's body has to be there."""

_CLIENTS = 4096


class Buckets:
    """A bucket of tokens for each client, refilled at a steady rate.

    Args:
        burst: tokens that a bucket holds.
        rate: tokens that come back in a second.
        clock: seconds; for tests.
    """

    def __init__(
        self, burst: float, rate: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._rate, self._clock = burst, rate, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, client: str) -> float:
        """Takes a token: 0, or the seconds until there is one."""
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
    """Refuses a request that is too large: by what it says, and while it comes.

    Args:
        app: what is behind.
        uploads: paths that take a picture.
    """

    def __init__(self, app: ASGIApp, uploads: frozenset[str]) -> None:
        self.app, self.uploads = app, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = MAX_UPLOAD + 4096 if scope["path"] in self.uploads else MAX_BODY
        headers = dict(scope["headers"])
        stated = headers.get(b"content-length", b"0")
        if not stated.isdigit() or len(stated) > 15 or int(stated) > limit:
            await _refuse(send, limit)
            return
        came, until = 0, time.monotonic() + BODY_SECONDS
        whole = False

        async def counted() -> Message:
            nonlocal came, whole
            if whole:  # only the end of the connection is still to come
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(until - time.monotonic(), 0.01))
            except TimeoutError:
                raise HTTPException(408, "the request did not arrive in time") from None
            came += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if came > limit:
                raise HTTPException(413, too_large(limit))
            return message

        await self.app(scope, counted, send)


def too_large(limit: int) -> str:
    """What is said of a request of more than so many bytes."""
    if limit > MAX_UPLOAD:
        return f"the picture is larger than {MAX_UPLOAD // 2**20} MB; scale it down"
    return f"the request is larger than {limit // 2**20} MB"


async def _refuse(send: Send, limit: int) -> None:
    from starlette.responses import JSONResponse

    answer = JSONResponse({"detail": too_large(limit)}, 413, {"connection": "close"})
    await answer({"type": "http"}, _nothing, send)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
