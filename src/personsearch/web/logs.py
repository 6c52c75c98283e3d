"""One line a request, as text or JSON: never a picture, a query or a key."""

import json
import logging
import sys
import time
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from personsearch.web.metrics import Metrics

logger = logging.getLogger("personsearch.web")


class JsonLines(logging.Formatter):
    """A log record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        told |= getattr(record, "facts", {})
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told)


def log_to_stderr(as_json: bool) -> None:
    """Sends what this server and uvicorn say to the standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("%(message)s"))
    for name in ("personsearch.web", "uvicorn.error"):
        found = logging.getLogger(name)
        found.handlers, found.propagate = [handler], False
        found.setLevel(logging.INFO if name == "personsearch.web" else logging.WARNING)


class Observe:
    """Counts and logs every request; an error that nobody expected is logged and answered.

    Args:
        app: what is behind.
        metrics: where it is counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, seen)
        except Exception:
            logger.exception("failed", extra={"facts": {"path": scope["path"]}})
            if status:
                raise
            answer = JSONResponse({"detail": "the server failed; its log says why"}, 500)
            await answer(scope, receive, seen)
        self._note(scope, status, time.perf_counter() - began)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = str(getattr(scope.get("route"), "path", "other"))
        self.metrics.requests.labels(route, scope["method"], str(status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        caller = scope.get("state", {}).get("caller")
        facts = {
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "seconds": round(seconds, 4),
            "who": caller.name if caller is not None else "",
            "client": scope["client"][0] if scope.get("client") else "",
        }
        # Escaped, so that a path cannot write a line of its own.
        shown = json.dumps(scope["path"])[1:-1]
        logger.info("%s %s %s", scope["method"], shown, status, extra={"facts": facts})
