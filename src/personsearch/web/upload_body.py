"""The bytes of an uploaded picture: the body, or a field of a form; never on the disk."""

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from personsearch.web.limits import MAX_UPLOAD, too_large
from personsearch.web.schemas import BINARY

MAX_QUERY_PIXELS = 40_000_000
"""Of a query picture; larger ones are refused."""
PICTURE_BODY = {
    "requestBody": {
        "required": True,
        "description": "JPEG, PNG, WebP, HEIC, BMP or TIFF, up to 20 MB; of several, the first.",
        "content": {
            "image/*": BINARY,
            "application/octet-stream": BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["picture"],
                    "properties": {"picture": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}


class _InMemory(MultiPartParser):
    """Above this many bytes a part of a form goes to a temporary file; more never come."""

    spool_max_size = 2 * MAX_UPLOAD


async def read_upload(request: Request) -> bytes:
    """The picture's bytes.

    Raises:
        HTTPException: no picture came, more than one, or too large a one.
    """
    data = await _body(request)
    if len(data) > MAX_UPLOAD:
        raise HTTPException(413, too_large(MAX_UPLOAD + 1))
    return data


async def _body(request: Request) -> bytes:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await request.body()
    parser = _InMemory(request.headers, request.stream(), max_files=1, max_fields=4)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError):
        raise HTTPException(422, "the form cannot be read; send the picture as its body") from None
    files = [value for value in form.values() if isinstance(value, UploadFile)]
    if not files:
        raise HTTPException(422, "the form has no picture in it; expected a file named picture")
    data = await files[0].read()
    await form.close()
    return data
