"""Bytes of an uploaded picture: the body, or a field of a form; never written to disk."""

import io

from fastapi import Request
from PIL import Image
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from personsearch.web.limits import MAX_UPLOAD, too_large
from personsearch.web.schemas import BINARY

MAX_QUERY_PIXELS = 40_000_000
"""The most pixels of an uploaded picture."""
QUERY_SECONDS = 20.0
"""The longest that an uploaded picture may take to be decoded."""
PICTURE_BODY = {
    "requestBody": {
        "required": True,
        "description": "JPEG, PNG, WebP, HEIC, BMP or TIFF, up to 20 MB.",
        "content": {
            "image/*": BINARY,
            "application/octet-stream": BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["picture"],
                    "properties": {"picture": BINARY["schema"]},
                }
            },
        },
    }
}


class _InMemory(MultiPartParser):
    """A form parser that never uses a temporary file: larger parts are refused before."""

    spool_max_size = 2 * MAX_UPLOAD


async def read_upload(request: Request) -> bytes:
    """Return the bytes of the picture; refuse forms without one, and pictures too large."""
    data = await _body(request)
    if len(data) > MAX_UPLOAD:
        raise HTTPException(413, too_large(MAX_UPLOAD + 1))
    return data


def likely_pixels(data: bytes) -> int:
    """Return how many pixels a picture says that it has; the most there may be if it is not clear.

    Only formats whose header is parsed in Python are parsed: the data is not trusted.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "BMP", "TIFF")) as image:
            return min(image.width * image.height, MAX_QUERY_PIXELS)
    except Exception:
        return MAX_QUERY_PIXELS


async def _body(request: Request) -> bytes:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await request.body()
    parser = _InMemory(request.headers, request.stream(), max_files=1, max_fields=4)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError):
        raise HTTPException(
            422, "the form cannot be parsed; send the picture as the body of the request"
        ) from None
    files = [value for value in form.values() if isinstance(value, UploadFile)]
    if not files:
        raise HTTPException(422, "the form has no file; expected one named picture")
    data = await files[0].read()
    await form.close()
    return data
