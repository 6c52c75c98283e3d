"""Uploaded pictures: bodies and forms of many kinds, and what is refused."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from crowd import RED
from PIL import Image
from starlette.testclient import TestClient

from personsearch.media.pictures import SUFFIXES
from personsearch.web.limits import MAX_UPLOAD
from personsearch.web.upload_body import MAX_QUERY_PIXELS, stated_pixels


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    length, check = struct.pack(">I", len(data)), struct.pack(">I", zlib.crc32(kind + data))
    return length + kind + data + check


def header(width: int, height: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def send(client: TestClient, data: bytes, kind: str = "image/png") -> Any:
    return client.post("/api/v1/queries", content=data, headers={"content-type": kind})


def _bomb() -> bytes:
    written = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(written, "PNG")
    return written.getvalue()


def _jpeg() -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 30, 30)).save(written, "JPEG")
    return written.getvalue()


def test_uploads_that_are_no_pictures(client: TestClient) -> None:
    gif = io.BytesIO()
    Image.new("P", (9, 9)).save(gif, "GIF")
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    cases = {
        "empty": (b"", "is empty"),
        "bomb": (_bomb(), "the limit is"),
        "SVG": (svg, "is not a picture"),
        "text": (b"just text", "is not a picture"),
        "truncated": (_jpeg()[:-40], "truncated or damaged"),
        "GIF": (gif.getvalue(), "expected JPEG, PNG, WebP"),
        "header alone": (b"\x89PNG\r\n\x1a\n", "picture"),
        "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture"),
    }
    for name, (data, expected) in cases.items():
        answer = client.post(
            "/api/v1/queries", content=data, headers={"content-type": "image/jpeg"}
        )
        assert answer.status_code == 422, name
        assert expected in answer.json()["detail"], name
        assert "/" not in answer.json()["detail"].split(";")[0], name
    form = client.post("/api/v1/queries", files={"other": ("../../x", b"", "image/png")})
    assert form.status_code == 422
    broken = {"content-type": "multipart/form-data"}
    assert client.post("/api/v1/queries", content=b"x", headers=broken).status_code == 422


def test_a_form_and_other_kinds_of_pictures(client: TestClient, png: Callable[..., bytes]) -> None:
    form = client.post("/api/v1/queries", files={"picture": ("a.png", png({20: RED}), "image/png")})
    assert form.status_code == 201
    assert len(form.json()["people"]) == 1
    pixels = Image.open(io.BytesIO(png({20: RED})))
    wide = np.asarray(pixels.convert("L"), np.uint16) * 257
    made = {
        "CMYK": (pixels.convert("CMYK"), "JPEG", {}),
        "16 bit": (Image.fromarray(wide), "PNG", {}),
        "animated": (pixels, "WEBP", {"save_all": True, "append_images": [pixels], "lossless": 1}),
        "palette": (pixels.convert("P"), "PNG", {}),
    }
    for name, (image, kind, options) in made.items():
        written = io.BytesIO()
        image.save(written, kind, **options)
        answer = send(client, written.getvalue())
        assert answer.status_code == 201, name
        assert (answer.json()["width"], answer.json()["height"]) == (320, 200)
        shown = client.get(f"/api/v1/queries/{answer.json()['id']}/picture")
        assert shown.headers["content-type"] == "image/jpeg"
        with Image.open(io.BytesIO(shown.content)) as preview:
            assert preview.size == (320, 200)


def test_the_size_that_a_picture_states() -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker" * 9000
    for suffix in sorted(SUFFIXES - {".heic", ".heif"}):
        for options in ({}, {"exif": exif}, {"progressive": True}):
            written = io.BytesIO()
            Image.new("RGB", (70, 40)).save(
                written, Image.registered_extensions()[suffix], **options
            )
            clear = suffix in (".jpg", ".jpeg", ".png")
            assert stated_pixels(written.getvalue()) == (2800 if clear else MAX_QUERY_PIXELS)
            for length in range(0, 1000, 7):
                assert stated_pixels(written.getvalue()[:length]) in (2800, MAX_QUERY_PIXELS)
    for unclear in (_bomb(), b"", b"text", b"RIFF0000WEBP"):
        assert stated_pixels(unclear) == MAX_QUERY_PIXELS


def test_headers_keep_no_server_busy() -> None:
    # Pillow takes minutes for each.
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 20)))
    png = b"\x89PNG\r\n\x1a\n" + header(70, 40) + profile * (MAX_UPLOAD // len(profile) - 1)
    assert stated_pixels(png) == 2800
    for filling in (b"\xff", b"\xff\x00", b"\xff\xef\x00\x02", b"\xff\xef\x00\x00"):
        jpeg = b"\xff\xd8" + filling * (MAX_UPLOAD // len(filling) - 1)
        assert stated_pixels(jpeg) == MAX_QUERY_PIXELS


def test_a_picture_larger_than_it_states_is_not_decoded(client: TestClient) -> None:
    pixels = chunk(b"IDAT", zlib.compress(bytes(3001 * 1000)))
    png = b"\x89PNG\r\n\x1a\n" + header(7, 4) + header(1000, 1000) + pixels + chunk(b"IEND", b"")
    answer = send(client, png)
    assert answer.status_code == 422
    assert "1000 x 1000 is 1,000,000 pixels, the limit is 28" in answer.json()["detail"]
