"""The server's socket: clients wait from the moment it is open, and errors are one line."""

import socket

import pytest

from personsearch.errors import PersonSearchError
from personsearch.web.listening import listen


def test_a_client_can_connect_before_the_server_accepts() -> None:
    with listen("127.0.0.1", 0) as opened, socket.create_connection(opened.getsockname()):
        pass


def test_errors_name_the_address_and_the_options() -> None:
    with listen("127.0.0.1", 0) as opened:
        port = opened.getsockname()[1]
        with pytest.raises(PersonSearchError, match=rf"cannot listen at 127\.0\.0\.1 port {port}"):
            listen("127.0.0.1", port)
    for host in ("127.0.0.300", "a" * 300):
        with pytest.raises(PersonSearchError, match="choose another with --port or --host"):
            listen(host, 0)


def test_answers_leave_at_once() -> None:
    with listen("127.0.0.1", 0) as opened, socket.create_connection(opened.getsockname()):
        accepted, _ = opened.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
