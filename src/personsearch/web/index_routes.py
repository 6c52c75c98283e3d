"""The route that adds a picture to the archive, for cameras and recorders."""

import hashlib
import time
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.exceptions import HTTPException

from personsearch.engines.sqlite import StoreEngine
from personsearch.media.files import Frame
from personsearch.store import FoundPeople, Store, open_store
from personsearch.store.clock import LATEST
from personsearch.types import FileStamp
from personsearch.web.access import Indexer, Served
from personsearch.web.schemas import Indexed
from personsearch.web.service import Service
from personsearch.web.upload_body import (
    PICTURE_BODY,
    decode_upload,
    read_upload,
    stated_pixels,
)

router = APIRouter(prefix="/api/v1", tags=["index"])


@router.post("/pictures", status_code=201, openapi_extra=PICTURE_BODY)
async def add_picture(
    request: Request,
    service: Served,
    caller: Indexer,
    name: Annotated[
        str,
        Query(
            min_length=1,
            max_length=255,
            pattern=r"^[^/\\\x00-\x1f]+$",
            description="File name; a picture sent again under a name replaces the earlier one.",
        ),
    ],
    camera: Annotated[str | None, Query(min_length=1, max_length=255)] = None,
    taken: Annotated[
        float | None,
        Query(
            ge=0,
            le=LATEST,
            allow_inf_nan=False,
            description="Seconds since 1970; default: now.",
        ),
    ] = None,
    min_score: Annotated[
        float, Query(ge=0, le=1, description="Leave out detections with a lower score.")
    ] = 0.3,
) -> Indexed:
    """Detect everyone in a picture, and add embeddings, boxes and thumbnails to the archive.

    The picture itself is not kept.
    """
    data = await read_upload(request)
    # The key is part of the source, so that the pictures of a camera can be found and erased.
    source = f"api:{caller.name}"
    digest = hashlib.sha256(data).digest()
    stamp = FileStamp(len(data), int.from_bytes(digest[:8], "big") >> 1)

    if not isinstance(service.archive.engine, StoreEngine):
        raise HTTPException(409, "only a store in a folder takes pictures over the API")

    there = await service.run(lambda: _there(service, source, name, stamp, digest))
    if there is not None:
        return there

    def find() -> FoundPeople:
        from personsearch.indexing.finding import describe, surest

        pixels = decode_upload(data)
        people = surest(service.archive.find_people(pixels), min_score)
        return describe(Frame(pixels, None, None, time.time() if taken is None else taken), people)

    found = await service.heavy(request, caller, stated_pixels(data), find)

    def add() -> Indexed:
        # Two requests may have sent the same picture; they are added one after the other.
        if (there := _there(service, source, name, stamp, digest)) is not None:
            return there
        with open_store(service.folder, write=True, caller=caller.name) as store:
            row = store.begin_file(source, name, stamp, camera, digest)
            if not store.add(row, [found], finished=True):
                raise _was_erased()
            return _indexed(store, row, skipped=False)

    return await service.write("add", add)


def _there(
    service: Service, source: str, name: str, stamp: FileStamp, content: bytes
) -> Indexed | None:
    """Return the people of the same picture, if it was added before; 409 if it was erased."""
    with open_store(service.folder) as store:
        known = store.known_file(source, name)
        if known is not None and known.state == "erased":
            raise _was_erased()
        if known is not None and known.state == "whole" and known.stamp == stamp:
            return _indexed(store, known.id, skipped=True)
        if store.is_erased(content):
            raise HTTPException(409, "people in this picture were erased; it is not added again")
        return None


def _was_erased() -> HTTPException:
    return HTTPException(409, "a picture of this name was erased; it is not added again")


def _indexed(store: Store, file: int, skipped: bool) -> Indexed:
    return Indexed(people=[str(person) for person in store.people_of(file)], skipped=skipped)
