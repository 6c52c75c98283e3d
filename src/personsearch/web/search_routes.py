"""Routes that look for people: query pictures, searches, reports."""

import time
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import StringConstraints
from starlette.exceptions import HTTPException

from personsearch.errors import StoreError
from personsearch.media.pictures import decode_picture
from personsearch.search.people_search import combine
from personsearch.store import Filters
from personsearch.store.audit import described
from personsearch.types import FloatArray
from personsearch.web.access import Searcher, Served
from personsearch.web.footage import as_jpeg
from personsearch.web.people import hits_of, must_exist, timeline
from personsearch.web.report import as_csv, as_html
from personsearch.web.schemas import (
    Example,
    FoundPerson,
    QueryPicture,
    ReportRequest,
    SearchAnswer,
    SearchRequest,
    binary_answer,
)
from personsearch.web.service import Caller, Service
from personsearch.web.upload_body import MAX_QUERY_PIXELS, PICTURE_BODY, read_upload
from personsearch.web.uploads import Result, Upload

router = APIRouter(prefix="/api/v1", tags=["search"])

Token = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{8,64}$")]

PREVIEW = 1600
"""Pixels of a shown picture's longer side."""


@router.post("/queries", status_code=201, openapi_extra=PICTURE_BODY)
async def add_query(request: Request, service: Served, caller: Searcher) -> QueryPicture:
    """Finds everyone in a picture, and keeps it in memory for a short while."""
    data = await read_upload(request)

    def find() -> Upload:
        pixels = decode_picture(data, "the picture", MAX_QUERY_PIXELS)
        height, width = pixels.shape[:2]
        return Upload(caller.name, data, (width, height), service.archive.find_people(pixels))

    upload = await service.run(find, heavy=True)
    people = upload.people
    order = np.argsort(-people.scores, kind="stable")
    return QueryPicture(
        id=service.uploads.put(upload),
        width=upload.size[0],
        height=upload.size[1],
        sha256=upload.sha256,
        people=[
            FoundPerson(
                box=[round(float(side), 2) for side in people.boxes[row]],
                score=round(float(people.scores[row]), 4),
            )
            for row in order
        ],
        seconds_kept=service.uploads.seconds,
    )


@router.get(
    "/queries/{query}/picture", response_class=Response, responses=binary_answer("image/jpeg")
)
async def query_picture(query: Token, service: Served, caller: Searcher) -> Response:
    """A query picture as JPEG, upright, scaled down."""
    upload = _upload(service, query, caller)

    def shown() -> bytes:
        return as_jpeg(decode_picture(upload.data, "the picture", MAX_QUERY_PIXELS), PREVIEW)

    return Response(await service.run(shown, heavy=True), media_type="image/jpeg")


@router.delete("/queries/{query}", status_code=204)
async def forget_query(query: Token, service: Served, caller: Searcher) -> None:
    """Forgets a query picture."""
    if not service.uploads.drop(query, caller.name):
        raise HTTPException(404, _GONE)


@router.post("/search")
async def search(body: SearchRequest, service: Served, caller: Searcher) -> SearchAnswer:
    """Those who are most like some examples, best first; each track of a video once."""
    began = time.perf_counter()
    if not body.examples and not body.people:
        raise HTTPException(422, "say who: an example in a query picture, or a person's id")
    uploads = {one.query: _upload(service, one.query, caller) for one in body.examples}
    vectors = await service.run(lambda: _vectors(service, uploads, body.examples), heavy=True)
    result = await service.run(lambda: _search(service, caller, body, uploads, vectors))
    service.metrics.searches.inc()
    return SearchAnswer(
        result=service.results.put(result),
        hits=hits_of(result.matches),
        timeline=timeline(result.matches),
        seconds=round(time.perf_counter() - began, 4),
    )


_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "text/html": {"schema": {"type": "string"}},
            "text/csv": {"schema": {"type": "string"}},
        }
    }
}


@router.post("/results/{result}/report", response_class=Response, responses=_FILE)
async def report(result: Token, body: ReportRequest, service: Served, caller: Searcher) -> Response:
    """What a search found, as one file: HTML with its pictures in it, or CSV."""
    found = service.results.get(result, caller.name)
    if found is None:
        raise HTTPException(404, "this result is not kept any more; search again")
    marks = dict.fromkeys(body.right, "right") | dict.fromkeys(body.wrong, "wrong")

    def write() -> str:
        details = {"format": body.format, "hits": [one.person.id for one in found.matches]}
        service.audit.append("report", caller.name, details)
        if body.format == "csv":
            return as_csv(found.matches, marks)
        pictures = {
            one.person.id: service.archive.engine.thumbnail(one.person.id) for one in found.matches
        }
        return as_html(found, pictures, marks, body.title)

    text = await service.run(write)
    kind = "text/csv" if body.format == "csv" else "text/html"
    name = f"personsearch-report.{body.format}"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type=f"{kind}; charset=utf-8", headers=headers)


_GONE = "this query picture is not kept any more; send it again"


def _upload(service: Service, query: str, caller: Caller) -> Upload:
    upload = service.uploads.get(query, caller.name)
    if upload is None:
        raise HTTPException(404, _GONE)
    return upload


def _vectors(
    service: Service, uploads: dict[str, Upload], examples: list[Example]
) -> FloatArray | None:
    """Embeddings (N, D) of boxes in query pictures; each box is embedded once."""
    if not examples:
        return None
    wanted: dict[str, list[tuple[float, ...]]] = {}
    for example in examples:
        wanted.setdefault(example.query, []).append(_inside(example.box, uploads[example.query]))
    for query, boxes in wanted.items():
        upload = uploads[query]
        if new := sorted(set(boxes) - upload.embeddings.keys()):
            pixels = decode_picture(upload.data, "the picture", MAX_QUERY_PIXELS)
            found = service.archive.embed(pixels, np.array(new, np.float32))
            if len(upload.embeddings) > 256:
                upload.embeddings.clear()
            upload.embeddings.update(zip(new, found, strict=True))
    return np.stack([uploads[q].embeddings[box] for q, boxes in wanted.items() for box in boxes])


def _inside(box: list[float], upload: Upload) -> tuple[float, ...]:
    """The part of a box that lies in the picture.

    Raises:
        HTTPException: 422, none does.
    """
    width, height = upload.size
    x1, y1, x2, y2 = box
    inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if inside[2] - inside[0] < 1 or inside[3] - inside[1] < 1:
        raise HTTPException(
            422,
            f"box {','.join(f'{side:g}' for side in box)} lies outside of the picture, which has "
            f"{width} x {height} pixels; expected x1,y1,x2,y2 with x1 < x2 and y1 < y2",
        )
    return inside


def _search(
    service: Service,
    caller: Caller,
    body: SearchRequest,
    uploads: dict[str, Upload],
    vectors: FloatArray | None,
) -> Result:
    archive = service.archive
    engine = archive.engine
    must_exist(engine, body.people)
    must_exist(engine, body.unlike)
    filters = Filters(
        cameras=body.filters.cameras or None,
        since=body.filters.since,
        until=body.filters.until,
        min_score=body.filters.min_score,
        min_height=body.filters.min_height,
        sources=body.filters.sources or None,
    )
    examples = [vectors] if vectors is not None else []
    if body.people:
        examples.append(engine.vectors(body.people).astype(np.float32))
    unlike = engine.vectors(body.unlike).astype(np.float32) if body.unlike else None
    try:
        combine(np.concatenate(examples), unlike)
    except StoreError as error:
        raise HTTPException(422, str(error)) from None
    found = archive.search(
        embeddings=vectors,
        people=body.people,
        unlike=body.unlike,
        filters=filters,
        top=body.top,
    )
    asked: dict[str, object] = {
        "examples": [
            {"picture_sha256": uploads[one.query].sha256, "box": one.box} for one in body.examples
        ],
        "people": body.people,
        "unlike": body.unlike,
        "filters": described(filters),
        "top": body.top,
    }
    entry = service.audit.append("search", caller.name, asked | {"hits": len(found.matches)})
    return Result(caller.name, entry.time, asked, found.matches)
