"""Routes about people in the archive: records, pictures, clips, and erasing."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from personsearch.errors import DataError
from personsearch.store import Filters, StoredPerson
from personsearch.web.access import Eraser, Searcher, Served
from personsearch.web.footage import MAX_CLIP, as_jpeg, clip, whole_picture
from personsearch.web.people import check_people_exist, to_person
from personsearch.web.schemas import LAST_PERSON, Erased, EraseRequest, Person, file_answer
from personsearch.web.service import Caller, Service

router = APIRouter(prefix="/api/v1", tags=["people"])

PersonInPath = Annotated[int, Path(ge=1, le=LAST_PERSON)]


@router.get("/people/{person}")
async def get_person(person: PersonInPath, service: Served, caller: Searcher) -> Person:
    """A person in the archive."""
    found = await service.run(lambda: _find(service, person))
    await service.views.see(caller.name, person, "records")
    return to_person(found)


@router.get("/people/{person}/thumbnail", **file_answer("image/jpeg"))
async def get_thumbnail(person: PersonInPath, service: Served, caller: Searcher) -> Response:
    """The thumbnail of a person."""
    jpeg = await service.run(lambda: service.archive.engine.thumbnail(person))
    if not jpeg:
        raise HTTPException(404, f"person {person} has no thumbnail; they may have been erased")
    await service.views.see(caller.name, person, "thumbnails")
    return Response(jpeg, media_type="image/jpeg")


@router.get("/people/{person}/picture", **file_answer("image/jpeg"))
async def get_picture(
    person: PersonInPath,
    request: Request,
    service: Served,
    caller: Searcher,
    longest: Annotated[
        int, Query(ge=64, le=8192, description="Most pixels on the longer side.")
    ] = 1600,
) -> Response:
    """The photo or video frame that shows a person."""
    found = await service.run(lambda: _find(service, person))
    jpeg = await _from_file(
        service, request, caller, found, lambda: as_jpeg(whole_picture(found), longest)
    )
    await service.views.see(caller.name, person, "pictures")
    return Response(jpeg, media_type="image/jpeg")


@router.get("/people/{person}/clip", **file_answer("video/mp4"))
async def get_clip(
    person: PersonInPath,
    request: Request,
    service: Served,
    caller: Searcher,
    seconds: Annotated[float, Query(ge=0.5, le=MAX_CLIP, allow_inf_nan=False)] = 6.0,
) -> Response:
    """The video around the moment at which a person was seen, as MP4 without sound."""
    found = await service.run(lambda: _find(service, person))
    mp4 = await _from_file(service, request, caller, found, lambda: clip(found, seconds))
    await service.views.see(caller.name, person, "clips")
    return Response(mp4, media_type="video/mp4")


@router.post("/erase")
async def erase(body: EraseRequest, service: Served, caller: Eraser) -> Erased:
    """Erase people for good, with every view of their tracks."""

    def work() -> int:
        check_people_exist(service.archive.engine, body.people)
        return service.archive.erase(Filters(people=body.people), caller=caller.name)

    views = await service.write("erase", work)
    service.metrics.erased.inc(views)
    return Erased(views=views)


def _find(service: Service, person: int) -> StoredPerson:
    check_people_exist(service.archive.engine, [person])
    return service.archive.engine.get([person])[0]


async def _from_file(
    service: Service,
    request: Request,
    caller: Caller,
    person: StoredPerson,
    work: Callable[[], bytes],
) -> bytes:
    """Return bytes made from a person's file; answer 404 if it is missing or cannot be read."""
    try:
        return await service.heavy(request, caller, person.size[0] * person.size[1], work)
    except DataError as error:
        raise HTTPException(404, f"cannot be shown: {error}") from None
