"""Server log: one line a request, as text or JSON; never a picture, a query or a key."""

import json
import logging
import sys
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from personsearch.terminal import printable
from personsearch.web.limits import refusal
from personsearch.web.metrics import Metrics

logger = logging.getLogger("personsearch.web")


class JsonLines(logging.Formatter):
    """Format log records as JSON objects, one a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class Lines(logging.Formatter):
    """Format log records as text that cannot control a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), lines=True)


def log_to_stderr(as_json: bool) -> None:
    """Send the log of this server and of uvicorn to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else Lines("%(message)s"))
    for name in ("personsearch.web", "uvicorn.error"):
        found = logging.getLogger(name)
        found.handlers, found.propagate = [handler], False
        found.setLevel(logging.INFO if name == "personsearch.web" else logging.WARNING)


class Observe:
    """Middleware that counts and logs every request, and answers unexpected errors with 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, observed)
        except Exception:
            logger.exception("failed", extra={"facts": {"path": scope["path"]}})
            if status:
                raise
            answer = refusal(500, "internal error; see the log of the server")
            await answer(scope, receive, observed)
        self._note(scope, status, time.perf_counter() - began)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None)
        self.metrics.count(route, scope["method"], status, seconds)
        caller = scope.get("state", {}).get("caller")
        facts = {
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "seconds": round(seconds, 4),
            "who": caller.name if caller is not None else "",
            "client": scope["client"][0] if scope.get("client") else "",
        }
        # Escaped, so that a path cannot add a line to the log.
        shown = json.dumps(scope["path"])[1:-1]
        logger.info("%s %s %s", scope["method"], shown, status, extra={"facts": facts})
