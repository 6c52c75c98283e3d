"""Connections that send nothing, or slowly, or read nothing, take no place from others."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from personsearch.web import connections
from personsearch.web.connections import room_for_connections

Serving = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def address(
    store: Path, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, int]]:
    """A server that holds 40 connections and waits a second."""
    monkeypatch.setattr(connections, "room_for_connections", lambda: 40)
    monkeypatch.setattr(connections, "HEADER_SECONDS", 1.0)
    monkeypatch.setattr(connections, "READ_SECONDS", 1.0)
    with serving(store) as served:
        place = urlsplit(served)
        assert place.hostname is not None
        assert place.port is not None
        yield place.hostname, place.port


def _healthy(address: tuple[str, int]) -> int:
    with urlopen("http://{}:{}/healthz".format(*address), timeout=10) as answer:
        return int(answer.status)


def _closed(one: socket.socket, seconds: float) -> bool:
    one.settimeout(seconds)
    try:
        return one.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_idle_connections_keep_no_place(address: tuple[str, int]) -> None:
    with ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(120)
        ]
        # More are open than the server holds, and it answers.
        assert [_healthy(address) for _ in range(5)] == [200] * 5
        assert all(_closed(one, 5) for one in idle)


def test_slow_headers_and_bodies_have_a_deadline(address: tuple[str, int]) -> None:
    begun = "POST {} HTTP/1.1\r\nHost: localhost\r\n"
    with ExitStack() as stack:
        heads = [
            begun.format("/api/v1/search"),  # the headers never end
            # An answer is given before the body, which never ends.
            begun.format("/api/v1/nothing") + "Content-Length: 1000\r\n\r\n",
        ]
        for head in heads:
            one = stack.enter_context(socket.create_connection(address, timeout=10))
            one.sendall(head.encode())
            began = time.monotonic()
            try:
                while time.monotonic() - began < 10:
                    one.sendall(b"a" if head.endswith("\r\n\r\n") else b"A: b\r\n")
                    time.sleep(0.1)
            except OSError:
                pass
            assert time.monotonic() - began < 5


def test_who_reads_no_answer_is_cut_off(address: tuple[str, int]) -> None:
    asked = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(address)
        one.settimeout(1.0)
        began = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT012 - the server stops reading, then closes
            while time.monotonic() - began < 20:
                try:
                    one.sendall(asked * 20)
                except TimeoutError:
                    continue
        assert time.monotonic() - began < 10
    assert _healthy(address) == 200


def test_the_limit_of_open_files_bounds_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(1024, 4096)]
    monkeypatch.setattr(connections.resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(connections.resource, "setrlimit", lambda _, new: limits.append(new))
    assert room_for_connections(3000) == 3000
    assert limits[-1] == (3256, 4096)
    limits[:] = [(256, 512)]
    assert room_for_connections(3000) == 256
    limits[:] = [(100_000, 100_000)]
    assert room_for_connections(3000) == 3000
    assert len(limits) == 1
