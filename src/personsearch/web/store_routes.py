"""Routes about the archive: contents, audit log, health and metrics."""

from importlib.metadata import version
from itertools import islice
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response

from personsearch.engines.sqlite import StoreEngine
from personsearch.errors import StoreError
from personsearch.store import Filters
from personsearch.web.access import AnyCaller, Auditor, Searcher, Served
from personsearch.web.metrics import CONTENT_TYPE
from personsearch.web.schemas import (
    AuditLine,
    AuditPage,
    AuditState,
    Group,
    Health,
    StoreInfo,
)

GROUPED = 100_000
"""The most people on a server for whom cameras and sources are listed."""

router = APIRouter(prefix="/api/v1", tags=["store"])
health_router = APIRouter(tags=["health"])


@router.get("/store")
async def get_store(service: Served, caller: AnyCaller) -> StoreInfo:
    """Contents of the archive, and permissions of the caller."""
    engine = service.archive.engine

    def count() -> tuple[int, bool, dict[str, int], dict[str, int]]:
        people = engine.count()
        scrubbed = engine.store.scrubbed() if isinstance(engine, StoreEngine) else True
        # Milvus cannot group: everyone's camera would be sent.
        grouped = isinstance(engine, StoreEngine) or people <= GROUPED
        return people, scrubbed, *((engine.cameras(), engine.sources()) if grouped else ({}, {}))

    people, scrubbed, cameras, sources = await service.run(count)
    service.metrics.people.set(people)
    uri = engine.uri
    if "search" not in caller.scopes:
        uri, cameras, sources = "", {}, {}
    return StoreInfo(
        uri=uri,
        place=uri,
        people=people,
        scrubbed=scrubbed,
        cameras=_groups(cameras),
        sources=_groups(sources),
        model=engine.model.name,
        network=service.network,
        problem=service.problem,
        who=caller.name,
        scopes=list(caller.scopes),
        version=version("personsearch"),
    )


@router.get("/cameras")
async def get_cameras(service: Served, caller: Searcher) -> list[Group]:
    """Cameras, with the number of views of people."""
    return _groups(await service.run(service.archive.engine.cameras))


def _groups(counts: dict[str, int]) -> list[Group]:
    return [Group(name=name, people=people) for name, people in counts.items()]


@router.get("/audit")
async def read_audit(
    service: Served,
    caller: Auditor,
    skip: Annotated[int, Query(ge=0, le=2**31, description="Number of latest lines to skip.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AuditPage:
    """Lines of the audit log, latest first."""
    log = service.archive.audit

    def read() -> AuditPage:
        count = sum(1 for _ in log.entries())
        begin, end = max(count - skip - limit, 0), max(count - skip, 0)
        lines = [
            AuditLine.model_validate({"number": number, **vars(entry)})
            for number, entry in enumerate(islice(log.entries(), begin, end), start=begin + 1)
        ]
        return AuditPage(count=count, lines=lines[::-1])

    return await service.run(read)


@router.get("/audit/check")
async def check_audit(
    service: Served,
    caller: Auditor,
    head: Annotated[
        str | None,
        Query(pattern="^[0-9a-f]{64}$", description="Hash of a line that was noted elsewhere."),
    ] = None,
) -> AuditState:
    """Check whether a line of the audit log was changed or is missing."""
    log = service.archive.audit

    def check() -> AuditState:
        problem = log.verify(head)
        count = 0 if problem else sum(1 for _ in log.entries())
        return AuditState(whole=not problem, problem=problem, count=count, head=log.head())

    return await service.run(check)


@health_router.get("/healthz", responses={503: {"model": Health}})
async def healthz(service: Served) -> JSONResponse:
    """Check whether the server can answer."""
    try:
        await service.run(lambda: service.archive.engine.count(Filters(people=[0])))
        status: Literal["ok", "failing"] = "ok"
    except StoreError:
        status = "failing"
    health = Health(status=status, network=service.network)
    return JSONResponse(health.model_dump(), 200 if status == "ok" else 503)


@health_router.get("/metrics", include_in_schema=False)
async def metrics(service: Served) -> Response:
    """Metrics for Prometheus."""
    service.metrics.uploads.set(len(service.uploads))
    gates = (service.received, service.others, service.decoded, service.searches)
    service.metrics.waiting.set(sum(gate.waiting for gate in gates))
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)
