"""Checks of Host and Origin, and security headers.

A page of another site can make a browser send requests to this machine, but it cannot choose their
Origin. If its own name resolves to this machine (DNS rebinding), Host is that name.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from personsearch.web.limits import refusal

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""Headers of every response."""

_OWN = {"same-origin", "none"}


class Guard:
    """Middleware that refuses foreign Hosts and Origins, and adds the headers.

    `hosts` are allowed host names, besides IP addresses.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        if problem := self._problem(scope):
            await refusal(*problem)(scope, receive, guarded)
        else:
            await self.app(scope, receive, guarded)

    def _problem(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        given = headers.getlist("host")
        if len(given) != 1 or not self._known(given[0]):
            return 421, (
                "unknown host name; use the server's IP address, or start it with --allow-host NAME"
            )
        origins = {one.lower().partition("://")[2] for one in headers.getlist("origin")}
        sites = set(headers.getlist("sec-fetch-site")) if scope["path"] != "/" else set()
        if origins - {given[0].lower()} or sites - _OWN:
            return 403, "requests from pages of other sites are refused"
        return None

    def _known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in self.hosts:
                return True
            # Rebinding needs a name; an IP address was typed by the user.
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def known_names(host: str, more: tuple[str, ...] = ()) -> frozenset[str]:
    """Return the allowed host names of a server that listens at `host`."""
    own = {"localhost"} if is_loopback(host) else {"localhost", host, socket.gethostname()}
    return frozenset(name.lower() for name in own | set(more) if name)


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
