"""Authentication, rate limits and permissions."""

import math
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from personsearch.errors import StoreError
from personsearch.web.limits import refusal
from personsearch.web.service import LOCAL, Caller, Service

OPEN = frozenset({"/", "/healthz", "/api/v1/openapi.json"})
"""Paths that need no key: the page itself and the health check, which show nobody."""
_BEARER = {"www-authenticate": "Bearer"}


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
            caller = self._caller(scope, address)
        except StoreError as error:
            await refusal(503, str(error))(scope, receive, send)
        except HTTPException as error:
            await refusal(error.status_code, error.detail, error.headers)(scope, receive, send)
        else:
            scope.setdefault("state", {})["caller"] = caller
            await self.app(scope, receive, send)

    def _caller(self, scope: Scope, address: str) -> Caller:
        """Return the caller, or raise an `HTTPException` for a wrong key or too many requests."""
        caller = self._holder(scope, address) if self.service.keys_needed() else LOCAL
        if wait := self.service.requests.wait(f"{caller.name} {address}"):
            raise self._too_often(wait, "too often")
        return caller

    def _holder(self, scope: Scope, address: str) -> Caller:
        kind, _, secret = Headers(scope=scope).get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            key = self.service.keys.holder(secret.strip())
            if key is not None:
                # Version 0.1 allowed the name that stands for requests without a key: what those
                # sent is not this key's.
                return Caller(f"key {key.name}" if key.name == LOCAL.name else key.name, key.scopes)
            # Only wrong keys count: a right key from the same address still works.
            if wait := self.service.wrong_keys.wait(address):
                raise self._too_often(wait, "wrong keys")
            self.service.metrics.refused.labels("wrong key").inc()
            raise HTTPException(401, "this key is not valid; it may have been revoked", _BEARER)
        text = "no key was sent; expected the header Authorization: Bearer KEY"
        raise HTTPException(401, text, _BEARER)

    def _too_often(self, wait: float, why: str) -> HTTPException:
        self.service.metrics.refused.labels(why).inc()
        seconds = str(math.ceil(wait))
        text = f"too many requests; try again in {seconds} s"
        return HTTPException(429, text, {"retry-after": seconds})


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
