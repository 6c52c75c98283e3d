"""Authentication, rate limits and permissions."""

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
"""Paths that need no key: the page itself and the health check, which show nobody."""


class Access:
    """Middleware that identifies the caller; refuses wrong keys and too many requests."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
            # Only wrong keys count: a right key from the same address still works.
            if wait := self.service.wrong_keys.wait(address):
                self.service.metrics.refused.labels("wrong keys").inc()
                return _too_often(wait)
            self.service.metrics.refused.labels("wrong key").inc()
            return _refusal(401, "this key is not valid; it may have been revoked")
        return _refusal(401, "no key was sent; expected the header Authorization: Bearer KEY")


def _refusal(status: int, detail: str) -> JSONResponse:
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"detail": detail}, status, headers)


def _too_often(wait: float) -> JSONResponse:
    seconds = str(math.ceil(wait))
    return JSONResponse(
        {"detail": f"too many requests; try again in {seconds} s"}, 429, {"retry-after": seconds}
    )


def caller_of(request: Request) -> Caller:
    """Return the caller that `Access` identified."""
    caller = request.scope["state"]["caller"]
    assert isinstance(caller, Caller)
    return caller


def allowed(scope: str) -> Callable[[Request], Caller]:
    """Return a dependency that gives the caller, if their key has a scope."""

    def check(request: Request) -> Caller:
        caller = caller_of(request)
        if scope not in caller.scopes:
            raise HTTPException(
                403, f"the key {caller.name!r} lacks the scope {scope!r}; use a key that has it"
            )
        return caller

    return check


def service_of(request: Request) -> Service:
    """Return the service of a request."""
    service: Any = request.app.state.service
    assert isinstance(service, Service)
    return service


Served = Annotated[Service, Depends(service_of)]
Indexer = Annotated[Caller, Depends(allowed("index"))]
Searcher = Annotated[Caller, Depends(allowed("search"))]
Eraser = Annotated[Caller, Depends(allowed("erase"))]
Auditor = Annotated[Caller, Depends(allowed("audit"))]
AnyCaller = Annotated[Caller, Depends(caller_of)]
