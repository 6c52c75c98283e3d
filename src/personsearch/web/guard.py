"""Checks of Host and Origin, and security headers.

A page of another site can make a browser send requests to this machine, but it cannot choose their
Origin. If its own name resolves to this machine (DNS rebinding), Host is that name.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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

_OWN = ("same-origin", "none")


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
                there = {name.lower() for name, _ in message["headers"]}
                more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                if b"cache-control" not in there:
                    more.append((b"cache-control", b"no-store"))
                message["headers"] = [*message["headers"], *more]
            await send(message)

        if refusal := self._refusal(scope):
            await JSONResponse({"detail": refusal[1]}, refusal[0])(scope, receive, guarded)
        else:
            await self.app(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        pairs = [(name, value.decode("latin-1")) for name, value in scope["headers"]]
        given = [value for name, value in pairs if name == b"host"]
        if len(given) != 1 or not self._known(given[0]):
            return 421, (
                "unknown host name; use the server's IP address, or start it with --allow-host NAME"
            )
        for name, value in pairs:
            if name == b"origin" and urlsplit(value).netloc.lower() != given[0].lower():
                return 403, "requests from pages of other sites are refused"
            if name == b"sec-fetch-site" and value not in _OWN and scope["path"] != "/":
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
