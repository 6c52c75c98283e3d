"""Anchors: written to a file, an address or a program, and read again."""

import http.server
import json
import shlex
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from personsearch.errors import StoreError
from personsearch.store import anchors
from personsearch.store.audit import Anchor

FIRST, SECOND = Anchor(1.5, 3, "a" * 64, "/store"), Anchor(2.5, 7, "b" * 64, "/store")


def test_a_file_takes_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "anchors.jsonl"
    for one in (FIRST, SECOND):
        anchors.write_to_file(one, path)
    assert anchors.read_anchors(path) == [FIRST, SECOND]
    with pytest.raises(StoreError, match="cannot be written"):
        anchors.write_to_file(FIRST, tmp_path / "none" / "anchors.jsonl")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is empty"),
        ("text\n", "line 1 is no anchor"),
        ('{"time": 1, "lines": 3, "head": "a"}\n', "line 1 is no anchor"),
        ('{"time": 1, "lines": "3", "head": "' + "a" * 64 + '"}\n', "line 1 is no anchor"),
        ('{"other": 1}\n', "line 1 is no anchor"),
        ("[1]\n", "line 1 is no anchor"),
        ("[" * 100_000 + "\n", "line 1 is no anchor"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "a").write_text(content)
    with pytest.raises(StoreError, match=expected):
        anchors.read_anchors(tmp_path / "a")
    with pytest.raises(StoreError, match="cannot be read"):
        anchors.read_anchors(tmp_path / "none")


class Server(http.server.BaseHTTPRequestHandler):
    received: list[bytes]

    def do_POST(self) -> None:
        self.received.append(self.rfile.read(int(self.headers["content-length"])))
        status = int(self.path[1:])
        self.send_response(status)
        self.send_header("location", "/200")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    Server.received = []
    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_address_gets_json_and_may_not_pass_it_on(address: str) -> None:
    anchors.post(FIRST, f"{address}/204")
    assert json.loads(Server.received[0]) == vars(FIRST)
    for status in (302, 307, 500):
        with pytest.raises(StoreError, match=f"the server says {status}"):
            anchors.post(FIRST, f"{address}/{status}")
    assert len(Server.received) == 4


@pytest.mark.parametrize("url", ["http://example.org", "ftp://localhost", "file:///etc", "a b"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(StoreError, match="expected an address"):
        anchors.post(FIRST, url)


def test_a_program_gets_json_and_no_shell(tmp_path: Path) -> None:
    code = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read() + sys.argv[2])"
    target = tmp_path / "with space"
    command = [sys.executable, "-c", code, str(target), "$HOME; exit 1"]
    anchors.pipe(FIRST, shlex.join(command))
    text, rest = target.read_text().splitlines()
    assert (json.loads(text), rest) == (vars(FIRST), "$HOME; exit 1")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("", "cannot be started"),
        ("'", "cannot be started"),
        ("/no/such/program", "cannot be started"),
        (f"{sys.executable} -c 'raise SystemExit(3)'", "failed with exit status 3"),
    ],
)
def test_a_program_that_fails_is_an_error(command: str, expected: str) -> None:
    with pytest.raises(StoreError, match=expected):
        anchors.pipe(FIRST, command)


def test_a_program_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchors, "TIMEOUT", 0.2)
    with pytest.raises(StoreError, match=r"took more than 0\.2 s"):
        anchors.pipe(FIRST, f"{sys.executable} -c 'import time; time.sleep(60)'")
