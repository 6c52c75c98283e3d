"""Routes of searching: query pictures, searches, reports."""

import time

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from personsearch.search.people_search import Match
from personsearch.search.query import check_box
from personsearch.search.request import Origin, SearchRequest
from personsearch.store import Filters
from personsearch.types import Detections, FloatArray
from personsearch.web.access import Searcher, Served
from personsearch.web.footage import as_jpeg
from personsearch.web.people import check_people_exist, to_hits, to_timeline
from personsearch.web.report import as_csv, as_html
from personsearch.web.schemas import (
    Example,
    FoundPerson,
    QueryPicture,
    ReportRequest,
    SearchAnswer,
    SearchBody,
    Token,
    file_answer,
)
from personsearch.web.service import Caller, Service
from personsearch.web.upload_body import (
    PICTURE_BODY,
    decode_upload,
    read_upload,
    stated_pixels,
)
from personsearch.web.uploads import Result, Upload

router = APIRouter(prefix="/api/v1", tags=["search"])

PREVIEW = 1600
"""Most pixels on the longer side of a shown query picture."""


@router.post("/queries", status_code=201, openapi_extra=PICTURE_BODY)
async def add_query(request: Request, service: Served, caller: Searcher) -> QueryPicture:
    """Detect everyone in a query picture, which stays in memory for a short time."""
    data = await read_upload(request)

    def find() -> Upload:
        pixels = decode_upload(data)
        height, width = pixels.shape[:2]
        found = service.archive.find_people(pixels)
        return Upload(caller.name, data, (width, height), Detections(found.boxes, found.scores))

    upload = await service.heavy(request, caller, stated_pixels(data), find)
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


@router.get("/queries/{query}/picture", **file_answer("image/jpeg"))
async def query_picture(
    query: Token, request: Request, service: Served, caller: Searcher
) -> Response:
    """A query picture as JPEG, scaled down."""
    upload = _upload(service, query, caller)

    def preview() -> bytes:
        return as_jpeg(decode_upload(upload.data), PREVIEW)

    jpeg = await service.heavy(request, caller, upload.pixels, preview)
    return Response(jpeg, media_type="image/jpeg")


@router.delete("/queries/{query}", status_code=204)
async def forget_query(query: Token, service: Served, caller: Searcher) -> None:
    """Delete a query picture from memory."""
    if not service.uploads.drop(query, caller.name):
        raise HTTPException(404, _GONE)


@router.post("/search")
async def search(
    body: SearchBody, request: Request, service: Served, caller: Searcher
) -> SearchAnswer:
    """Search for a person by examples; matches best first, each track of a video once."""
    began = time.perf_counter()
    if not body.examples and not body.people:
        raise HTTPException(422, "no person is given: send an example or a person's id")
    uploads = {one.query: _upload(service, one.query, caller) for one in body.examples}
    embeddings = None
    if body.examples:
        pixels = max(upload.pixels for upload in uploads.values())
        embeddings = await service.heavy(
            request, caller, pixels, lambda: _embeddings(service, uploads, body.examples)
        )
    asked = SearchRequest(
        embeddings=embeddings,
        origins=[Origin(uploads[one.query].sha256, one.box) for one in body.examples],
        people=body.people,
        unlike=body.unlike,
        filters=Filters(**body.filters.model_dump()),
        top=body.top,
    )
    result, matches, reason = await service.search(
        request, caller, lambda: _search(service, caller, asked)
    )
    service.metrics.searches.inc()
    service.views.returned(caller.name, (one.person.id for one in matches))
    return SearchAnswer(
        result=service.results.put(result),
        hits=to_hits(matches),
        timeline=to_timeline(matches),
        reason=reason,
        seconds=round(time.perf_counter() - began, 4),
    )


@router.post("/results/{result}/report", **file_answer("text/html", "text/csv"))
async def report(result: Token, body: ReportRequest, service: Served, caller: Searcher) -> Response:
    """A report of a search as one file: HTML with embedded thumbnails, or CSV."""
    found = service.results.get(result, caller.name)
    if found is None:
        raise HTTPException(404, "this result is not kept any more; search again")
    marks = dict.fromkeys(body.right, "right") | dict.fromkeys(body.wrong, "wrong")

    def write() -> str:
        # Read for this report, so that nobody who was erased since is in it.
        engine, ids = service.archive.engine, [hit.person for hit in found.hits]
        html = body.format == "html"
        pictures = {person: engine.thumbnail(person) for person in ids} if html else {}
        matches = found.matches(engine.find(ids))
        service.archive.log_report(body.format, list(matches.values()), caller=caller.name)
        if html:
            return as_html(found, matches, pictures, marks, body.title)
        return as_csv(matches, marks, len(found.hits))

    text = await service.run(write)
    kind = f"text/{body.format}"
    named = f'attachment; filename="personsearch-report.{body.format}"'
    return Response(text, media_type=kind, headers={"content-disposition": named})


_GONE = "this query picture is not kept any more; send it again"


def _upload(service: Service, query: str, caller: Caller) -> Upload:
    upload = service.uploads.get(query, caller.name)
    if upload is None:
        raise HTTPException(404, _GONE)
    return upload


def _embeddings(
    service: Service, uploads: dict[str, Upload], examples: list[Example]
) -> FloatArray:
    """Return embeddings (N, D) of boxes in query pictures; each box is embedded once."""
    service.forget_erased()
    found: list[FloatArray] = []
    wanted: dict[str, list[tuple[float, ...]]] = {}
    for example in examples:
        wanted.setdefault(example.query, []).append(_inside(example.box, uploads[example.query]))
    for query, boxes in wanted.items():
        upload = uploads[query]
        known = dict(upload.embeddings)  # others may forget them meanwhile
        if new := sorted(set(boxes) - known.keys()):
            rows = service.archive.embed(decode_upload(upload.data), np.array(new, np.float32))
            known |= zip(new, rows, strict=True)
            if len(upload.embeddings) > 256:
                upload.embeddings.clear()
            upload.embeddings.update(zip(new, rows, strict=True))
        found += [known[box] for box in boxes]
    return np.stack(found)


def _inside(box: list[float], upload: Upload) -> tuple[float, ...]:
    """Return the part of a box that lies in the picture."""
    check_box(box, upload.size, "the picture")
    width, height = upload.size
    x1, y1, x2, y2 = box
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))


def _search(
    service: Service, caller: Caller, request: SearchRequest
) -> tuple[Result, list[Match], str]:
    """Search; return what a report needs, the matches, and why there are none."""
    check_people_exist(service.archive.engine, [*request.people, *request.unlike])
    found = service.archive.search_by(request, caller=caller.name)
    query = {
        name: value for name, value in found.entry.details.items() if name not in ("hits", "shown")
    }
    result = Result.of(caller.name, found.entry.time, query, found.matches)
    return result, found.matches, found.reason
