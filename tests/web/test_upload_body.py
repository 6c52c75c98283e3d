"""Uploaded pictures: bodies and forms of many kinds, and what is refused."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from crowd import RED
from PIL import Image
from starlette.testclient import TestClient


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
