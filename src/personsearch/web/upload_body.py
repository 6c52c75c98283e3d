"""Bytes of an uploaded picture: the body, or a field of a form; never written to disk."""

import struct

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from personsearch.media.apart import decode_picture
from personsearch.web.limits import MAX_UPLOAD, too_large
from personsearch.web.schemas import BINARY

MAX_QUERY_PIXELS = 40_000_000
"""The most pixels of an uploaded picture."""
QUERY_SECONDS = 20.0
"""The longest that an uploaded picture may take to be decoded."""
_MAX_SEGMENTS = 1000  # of a JPEG before its size
_START_OF_SCAN, _FRAMES = 0xDA, frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
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


def stated_pixels(data: bytes) -> int:
    """Return how many pixels a JPEG or PNG says that it has; the most, if that is not clear.

    No library reads it: their parsers can be kept busy for minutes by 20 MB of headers.
    """
    height = width = MAX_QUERY_PIXELS
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
    elif data.startswith(b"\xff\xd8"):
        at = 2
        for _ in range(_MAX_SEGMENTS):
            if len(data) < at + 9 or data[at] != 0xFF or data[at + 1] == _START_OF_SCAN:
                break
            if data[at + 1] in _FRAMES:
                height, width = struct.unpack_from(">HH", data, at + 5)
                break
            at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return min(width * height, MAX_QUERY_PIXELS)


def decode_upload(data: bytes) -> NDArray[np.uint8]:
    """Decode a picture, RGB (H, W, 3) uint8, of at most its `stated_pixels`."""
    return decode_picture(data, "the picture", stated_pixels(data), patience=QUERY_SECONDS)


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
