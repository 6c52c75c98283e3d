"""Who is calling, how often, and what they may do."""

import math
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from personsearch.errors import StoreError
from personsearch.web.service import LOCAL, Caller, Service

OPEN = frozenset({"/", "/healthz", "/api/v1/openapi.json"})
"""Paths that need no key: the page itself, and nothing about anyone."""


class Access:
    """Finds out who calls; refuses a wrong key and whoever asks too often.

    Args:
        app: what is behind.
        service: that is served.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] != "http" or scope["path"] in OPEN or scope["path"].startswith("/static/"):
            await self.app(scope, receive, send)
            return
        address = scope["client"][0] if scope.get("client") else "unknown"
        try:
            found = self._caller(scope, address)
        except StoreError as error:
            found = _refusal(503, str(error))
        if isinstance(found, Caller):
            wait = self.service.requests.wait(f"{found.name} {address}")
            if not wait:
                scope.setdefault("state", {})["caller"] = found
                await self.app(scope, receive, send)
                return
            self.service.metrics.refused.labels("too often").inc()
            found = _too_often(wait)
        await found(scope, receive, send)

    def _caller(self, scope: Scope, address: str) -> Caller | JSONResponse:
        if not self.service.keys_needed():
            return LOCAL
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        kind, _, secret = (given[0] if given else b"").partition(b" ")
        if kind.lower() == b"bearer":
            key = self.service.keys.holder(secret.strip().decode("latin-1"))
            if key is not None:
                return Caller(key.name, key.scopes)
            # Only wrong keys are counted: someone behind the same address is not locked out.
            if wait := self.service.wrong_keys.wait(address):
                self.service.metrics.refused.labels("wrong keys").inc()
                return _too_often(wait)
            self.service.metrics.refused.labels("wrong key").inc()
            return _refusal(401, "this key is not valid; it may be revoked")
        return _refusal(401, "a key is needed: Authorization: Bearer KEY")


def _refusal(status: int, detail: str) -> JSONResponse:
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"detail": detail}, status, headers)


def _too_often(wait: float) -> JSONResponse:
    seconds = str(math.ceil(wait))
    return JSONResponse(
        {"detail": f"too many requests; try again in {seconds} s"}, 429, {"retry-after": seconds}
    )


def who(request: Request) -> Caller:
    """Who sent a request."""
    caller = request.scope["state"]["caller"]
    assert isinstance(caller, Caller)
    return caller


def allowed(scope: str) -> Callable[[Request], Caller]:
    """A dependency: whoever sent the request, if they may do that."""

    def check(request: Request) -> Caller:
        caller = who(request)
        if scope not in caller.scopes:
            raise HTTPException(
                403, f"the key {caller.name!r} does not allow this; it needs the scope {scope!r}"
            )
        return caller

    return check


def service_of(request: Request) -> Service:
    """What is served."""
    service: Any = request.app.state.service
    assert isinstance(service, Service)
    return service


Served = Annotated[Service, Depends(service_of)]
Indexer = Annotated[Caller, Depends(allowed("index"))]
Searcher = Annotated[Caller, Depends(allowed("search"))]
Eraser = Annotated[Caller, Depends(allowed("erase"))]
Auditor = Annotated[Caller, Depends(allowed("audit"))]
AnyCaller = Annotated[Caller, Depends(who)]
