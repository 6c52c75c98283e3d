"""The application: its description is true, and it holds under load."""

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from crowd import open_crowd
from fastapi import FastAPI

from personsearch.web.app import create_app
from personsearch.web.service import Settings

Serving = Callable[..., AbstractContextManager[str]]


def _raw(address: str, head: str, parts: int, part: bytes) -> bytes:
    """The answer to a request that goes on sending, whatever is said."""
    place = urlsplit(address)
    with socket.create_connection((place.hostname, place.port), timeout=60) as sent:
        sent.sendall(f"{head}\r\nHost: 127.0.0.1\r\n\r\n".encode())
        try:
            for _ in range(parts):
                sent.sendall(part)
        except OSError:
            pass
        try:
            return sent.recv(4096)
        except OSError:
            return b""


def test_too_large_uploads_and_two_hundred_searches(store: Path, serving: Serving) -> None:
    import httpx2

    with serving(store) as address, httpx2.Client(base_url=address, timeout=120) as web:
        # Said to be 100 MB: refused before any of it is read.
        head = "POST /api/v1/queries HTTP/1.1\r\nContent-Length: 104857600"
        assert b" 413 " in _raw(address, head, 0, b"")
        # In pieces of a megabyte that say nothing of the whole.
        head = "POST /api/v1/queries HTTP/1.1\r\nTransfer-Encoding: chunked"
        piece = b"100000\r\n" + b"x" * 2**20 + b"\r\n"
        assert _raw(address, head, 100, piece)[:13] in (b"HTTP/1.1 413 ", b"")
        assert web.get("/healthz").status_code == 200

        def search(number: int) -> tuple[int, float]:
            began = time.perf_counter()
            body = {"people": [1 + number % 4], "top": 5}
            status = web.post("/api/v1/search", json=body).status_code
            return status, time.perf_counter() - began

        began = time.perf_counter()
        with ThreadPoolExecutor(50) as pool:
            found = list(pool.map(search, range(200)))
        seconds = sorted(one for _, one in found)
        print(
            f"200 searches at once: {time.perf_counter() - began:.1f} s in all, median "
            f"{seconds[100]:.2f} s, slowest {seconds[-1]:.2f} s"
        )
        assert {status for status, _ in found} == {200}
        check = web.get("/api/v1/audit/check").json()
        assert (check["whole"], check["count"]) == (True, 200)


def test_the_description_is_true(store: Path) -> None:
    settings = Settings(hosts=frozenset({"testserver"}))
    with open_crowd(store) as archive:
        _conforms(create_app(archive, settings))


def _conforms(app: FastAPI) -> None:
    """Asks every operation what its description allows, and what it does not."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.checks import load_all_checks

    load_all_checks()
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", app)
    names = (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
        "unsupported_method",
    )
    checks = [schemathesis.checks.CHECKS.get_one(name) for name in names]
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 16
    for operation in operations:

        @settings(
            max_examples=8,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def conforms(case: Any) -> None:
            case.call_and_validate(checks=checks)

        conforms()
