"""Requests of any content: the service answers each, and none with an error of its own."""

import io
import json
from pathlib import Path
from urllib.parse import quote

from crowd import RED, make_store, open_crowd, scene
from fuzzed import ODD_VALUES, changed_bytes, changed_values, fuzz
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from personsearch.web.app import create_app
from personsearch.web.service import Settings


def _png() -> bytes:
    written = io.BytesIO()
    Image.fromarray(scene({20: RED})).save(written, "PNG")
    return written.getvalue()


def test_api(tmp_path: Path) -> None:
    folder = tmp_path / "crowd"
    folder.mkdir()
    archive = open_crowd(make_store(folder))
    with (
        archive,
        TestClient(
            create_app(archive, Settings(burst=1e9, rate=1e9)), base_url="http://localhost"
        ) as client,
    ):
        query = client.post("/api/v1/queries", content=_png()).json()["id"]
        result = client.post("/api/v1/search", json={"people": [1]}).json()["result"]
        filters = {"cameras": ["gate"], "sources": None, "since": 0.0, "until": 4e9}
        filters |= {"min_score": 0.1, "min_height": 5.0}
        box = [20, 60, 56, 150]
        bodies = {
            "/api/v1/search": [
                {"people": ["1"], "unlike": [2], "filters": filters, "top": 3},
                {"examples": [{"query": query, "box": box}], "filters": {}},
            ],
            "/api/v1/erase": [{"people": [99]}],
            f"/api/v1/results/{result}/report": [{"format": "csv", "title": "x", "right": [1]}],
        }
        posts = [(path, body) for path, several in bodies.items() for body in several]
        gets = [
            *("people/1", "people/1/thumbnail", "people/1/picture?longest=100"),
            *("people/10/clip?seconds=1", "store", "cameras", "audit?limit=3", "audit/check"),
            f"queries/{query}/picture",
        ]

        @st.composite
        def made(draw: st.DrawFn) -> bytes:
            kind = draw(st.integers(0, 3))
            if kind <= 1:
                path, body = draw(st.sampled_from(posts))
                text = json.dumps(draw(changed_values([body]))).encode()
                return f"POST {path}\n".encode() + text
            odd = quote(str(draw(st.sampled_from(ODD_VALUES)))[:400].encode("utf-8", "replace"))
            if kind == 2:
                names = ("name", "camera", "taken", "min_score")
                asked = dict.fromkeys(names, "1") | {draw(st.sampled_from(names)): odd}
                text = "&".join(f"{name}={value}" for name, value in asked.items())
                data = draw(changed_bytes([_png()]) | st.just(_png()))
                route = draw(st.sampled_from([f"pictures?{text}", "queries"]))
                return f"POST /api/v1/{route}\n".encode() + data
            path = draw(st.sampled_from(gets))
            parts = path.replace("?", "/").replace("=", "/").split("/")
            chosen = draw(st.sampled_from(parts))
            return f"GET /api/v1/{path.replace(chosen, odd, 1)}\n".encode()

        def check(data: bytes) -> None:
            line, _, body = data.partition(b"\n")
            method, _, address = line.decode().partition(" ")
            headers = {"content-type": "application/json"} if body[:1] in b"{[" else {}
            answer = client.request(method, address, content=body, headers=headers)
            assert answer.status_code < 500, f"{line.decode()}: {answer.text[:300]}"

        fuzz("api", check, made(), 120)
