"""The web application: one page and the API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from personsearch.errors import DataError, GoneError, PersonSearchError
from personsearch.search.archive import Archive
from personsearch.web import index_routes, people_routes, search_routes, store_routes
from personsearch.web.access import Access
from personsearch.web.forgetting import Forgetting
from personsearch.web.guard import Guard
from personsearch.web.housekeeping import Housekeeping
from personsearch.web.limits import BodyLimit, refusal
from personsearch.web.logs import Observe, logger
from personsearch.web.schemas import Problem
from personsearch.web.service import Service, Settings

STATIC = Path(__file__).parent / "static"
UPLOADS = frozenset({"/api/v1/queries", "/api/v1/pictures"})

_STOPPING = 5.0  # seconds that a thread may take to finish its work
_REFUSALS = {
    400: "The request cannot be parsed.",
    401: "The key is missing, wrong or revoked.",
    403: "The key lacks a scope, or another site sent this.",
    404: "Not found, or not kept any more.",
    408: "The request did not arrive in time.",
    409: "It was erased and is not added again.",
    413: "The request is too large.",
    421: "Unknown host name; see --allow-host.",
    422: "The request has an invalid value.",
    429: "Too many requests, or no room for a picture now; see Retry-After.",
    503: "The archive or its network is not available.",
}
_ABOUT = (
    "Search indexed photos and videos for a person. A similarity is the cosine between the "
    "embeddings of two people; it is neither a probability nor a proof of identity."
)


def create_app(archive: Archive, settings: Settings | None = None) -> FastAPI:
    """Return the application that serves an open archive, whose `state` folder has the keys."""
    settings = settings or Settings()
    service = Service(archive, settings)

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        service.warm()
        housekeeping = Housekeeping(service)
        forgetting = Forgetting(service)
        housekeeping.start()
        forgetting.start()
        yield
        forgetting.stop(_STOPPING)
        housekeeping.stop(_STOPPING)
        service.close()

    app = FastAPI(
        title="personsearch",
        version=version("personsearch"),
        description=_ABOUT,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=running,
        responses={
            status: {"model": Problem, "description": text} for status, text in _REFUSALS.items()
        },
    )
    app.state.service = service
    for routes in (search_routes, people_routes, index_routes, store_routes):
        app.include_router(routes.router)
    app.include_router(store_routes.health_router)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    _answer_errors(app)
    _describe_keys(app, service)
    # The middleware added last is the outermost.
    app.add_middleware(BodyLimit, uploads=UPLOADS, pictures=service.received, others=service.others)
    app.add_middleware(Access, service=service)
    app.add_middleware(Guard, hosts=settings.hosts)
    app.add_middleware(Observe, metrics=service.metrics)
    return app


def _answer_errors(app: FastAPI) -> None:
    """Answer every error with one line."""

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return refusal(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> JSONResponse:
        return refusal(499, "the client has left")  # for the log: nobody reads it

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        # The received value is not repeated: it may be large, or not text.
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        text = f"{field}: {first['msg']}".encode("utf-8", "replace").decode()
        return refusal(422, text)

    @app.exception_handler(PersonSearchError)
    async def failed(request: Request, error: PersonSearchError) -> JSONResponse:
        if isinstance(error, DataError):
            return refusal(422, str(error))
        if isinstance(error, GoneError):
            return refusal(404, "a person of this request was erased just now")
        logger.warning("%s", error, extra={"facts": {"path": request.url.path}})
        return refusal(503, str(error))


def _describe_keys(app: FastAPI, service: Service) -> None:
    """Add to the OpenAPI description that a key is needed, as soon as one is."""
    without_keys = app.openapi

    def with_keys() -> dict[str, Any]:
        schema = dict(without_keys())
        if service.keys_needed():
            parts = dict(schema.get("components", {}))
            parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            schema |= {"components": parts, "security": [{"key": []}]}
            paths = schema["paths"]
            open_path = {"get": paths["/healthz"]["get"] | {"security": []}}
            schema["paths"] = paths | {"/healthz": open_path}
        return schema

    # As FastAPI documents it.
    app.openapi = with_keys  # type: ignore[method-assign]
