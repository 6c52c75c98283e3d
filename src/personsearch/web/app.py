"""The web service: one page and the API, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from personsearch.errors import DataError, PersonSearchError
from personsearch.search.archive import Archive
from personsearch.web import index_routes, people_routes, search_routes, store_routes
from personsearch.web.access import Access
from personsearch.web.guard import Guard
from personsearch.web.housekeeping import Housekeeping
from personsearch.web.limits import BodyLimit
from personsearch.web.logs import Observe, logger
from personsearch.web.schemas import Problem
from personsearch.web.service import Service, Settings

STATIC = Path(__file__).parent / "static"
UPLOADS = frozenset({"/api/v1/queries", "/api/v1/pictures"})

_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The request cannot be read."},
    401: {"model": Problem, "description": "No key, or a wrong or revoked one."},
    403: {"model": Problem, "description": "The key does not allow it, or another site asks."},
    404: {"model": Problem, "description": "There is none, or not any more."},
    409: {"model": Problem, "description": "It was erased, and is not brought back."},
    408: {"model": Problem, "description": "The request did not arrive in time."},
    413: {"model": Problem, "description": "Too large."},
    421: {"model": Problem, "description": "The server is not known by that name."},
    422: {"model": Problem, "description": "Something in the request is not as it should be."},
    429: {"model": Problem, "description": "Too many requests."},
    503: {"model": Problem, "description": "The archive or its network cannot be used now."},
}
_ABOUT = (
    "Finds people who are alike in photos and videos that were indexed. A similarity is a cosine "
    "between two pictures of people; it is no probability and no proof."
)


def create_app(archive: Archive, folder: Path, settings: Settings | None = None) -> FastAPI:
    """The service over an archive.

    Args:
        archive: open; closed by whoever opened it.
        folder: where keys and the audit log lie: of its store, if that is a folder.
        settings: of the server.
    """
    settings = settings or Settings()
    service = Service(archive, folder, settings)

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        service.warm()
        housekeeping = Housekeeping(service)
        housekeeping.start()
        yield
        housekeeping.stop()
        service.close()

    app = FastAPI(
        title="personsearch",
        version=version("personsearch"),
        description=_ABOUT,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=running,
        responses=_REFUSALS,
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
    # The last is the first that a request meets.
    app.add_middleware(BodyLimit, uploads=UPLOADS)
    app.add_middleware(Access, service=service)
    app.add_middleware(Guard, hosts=settings.hosts)
    app.add_middleware(Observe, metrics=service.metrics)
    return app


def _answer_errors(app: FastAPI) -> None:
    """Every error is one line."""

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"detail": str(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        # What came is not repeated: it may be large, or no text at all.
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        text = f"{place}: {first['msg']}".encode("utf-8", "replace").decode()
        return JSONResponse({"detail": text}, 422)

    @app.exception_handler(PersonSearchError)
    async def failed(request: Request, error: PersonSearchError) -> JSONResponse:
        if isinstance(error, DataError):
            return JSONResponse({"detail": str(error)}, 422)
        logger.warning("%s", error, extra={"facts": {"path": request.url.path}})
        return JSONResponse({"detail": str(error)}, 503)


def _describe_keys(app: FastAPI, service: Service) -> None:
    """The description says that a key is needed, where one is."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        told = dict(plain())
        if service.keys_needed():
            parts = dict(told.get("components", {}))
            parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            told |= {"components": parts, "security": [{"key": []}]}
            paths = told["paths"]
            open_path = {"get": paths["/healthz"]["get"] | {"security": []}}
            told["paths"] = paths | {"/healthz": open_path}
        return told

    app.openapi = described  # type: ignore[method-assign]
