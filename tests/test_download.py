"""Fetching a file from a server on this machine: resumed, verified, named only when right."""

import hashlib
import socket
from pathlib import Path

import pytest
from filelock import FileLock
from loopback import loopback

from personsearch.download import ATTEMPTS, Expected, download
from personsearch.errors import ModelError

CONTENT = bytes(range(256)) * 1200


def _expected(content: bytes = CONTENT, algorithm: str = "sha384") -> Expected:
    digest = hashlib.new(algorithm, content).hexdigest()
    return Expected(len(content), algorithm, digest)  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", ["sha256", "sha384"])
def test_a_file_is_fetched_once(tmp_path: Path, algorithm: str) -> None:
    target, told = tmp_path / "folder" / "net.bin", []
    with loopback({"a/net.bin": CONTENT}) as server:
        for _ in range(2):
            download(
                f"{server.address}/a/net.bin",
                target,
                _expected(algorithm=algorithm),
                progress=lambda here, size: told.append((here, size)),
            )
    assert target.read_bytes() == CONTENT
    assert server.asked == [("a/net.bin", "")]
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)
    assert [path.name for path in target.parent.iterdir()] == ["net.bin"]


def test_a_cut_connection_is_taken_up_where_it_was(tmp_path: Path) -> None:
    with loopback({"net.bin": CONTENT}, cuts=[1000, 70_000]) as server:
        download(f"{server.address}/net.bin", tmp_path / "net.bin", _expected(), pause=0.0)
    assert (tmp_path / "net.bin").read_bytes() == CONTENT
    assert server.asked == [
        ("net.bin", ""),
        ("net.bin", "bytes=1000-"),
        ("net.bin", "bytes=71000-"),
    ]


def test_after_too_many_cuts_the_next_call_goes_on(tmp_path: Path) -> None:
    target = tmp_path / "net.bin"
    with loopback({"net.bin": CONTENT}, cuts=[1000] * ATTEMPTS) as server:
        with pytest.raises(ModelError, match=r"cut 5 times, 5,000 of 307,200 bytes are here"):
            download(f"{server.address}/net.bin", target, _expected(), pause=0.0)
        assert not target.exists()
        assert (tmp_path / "net.bin.part").read_bytes() == CONTENT[:5000]
        download(f"{server.address}/net.bin", target, _expected(), pause=0.0)
    assert server.asked[-1] == ("net.bin", "bytes=5000-")
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("behaviour", [{"ranges": False}, {"shift": 10}])
def test_a_server_that_cannot_go_on_starts_again(
    tmp_path: Path, behaviour: dict[str, object]
) -> None:
    (tmp_path / "net.bin.part").write_bytes(CONTENT[:3000])
    with loopback({"net.bin": CONTENT}, **behaviour) as server:
        download(f"{server.address}/net.bin", tmp_path / "net.bin", _expected(), pause=0.0)
    assert (tmp_path / "net.bin").read_bytes() == CONTENT
    assert server.asked[0] == ("net.bin", "bytes=3000-")


def test_more_is_here_than_the_server_has(tmp_path: Path) -> None:
    (tmp_path / "net.bin.part").write_bytes(CONTENT[:3000])
    with (
        loopback({"net.bin": CONTENT[:2000]}) as server,
        pytest.raises(ModelError, match=r"ends before byte 3,000, expected 307,200 bytes"),
    ):
        download(f"{server.address}/net.bin", tmp_path / "net.bin", _expected(), pause=0.0)
    assert server.asked == [("net.bin", "bytes=3000-")]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [CONTENT[:-1] + b"\x00", CONTENT + b"more"])
def test_other_bytes_than_expected_are_deleted(tmp_path: Path, wrong: bytes) -> None:
    with (
        loopback({"net.bin": wrong}) as server,
        pytest.raises(ModelError, match=r"expected .* it was deleted"),
    ):
        download(f"{server.address}/net.bin", tmp_path / "net.bin", _expected())
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_of_that_name_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "net.bin").write_bytes(b"old")
    with loopback({"net.bin": CONTENT}) as server:
        download(f"{server.address}/net.bin", tmp_path / "net.bin", _expected())
    assert (tmp_path / "net.bin").read_bytes() == CONTENT


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with (
        loopback({}) as server,
        pytest.raises(ModelError, match=r"the server says 404 Not Found; .* --from"),
    ):
        download(f"{server.address}/net.bin", tmp_path / "net.bin", _expected())
    assert len(server.asked) == 1


def test_no_server(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ModelError, match=r"cannot be reached .* --from"):
        download(f"http://127.0.0.1:{port}/net.bin", tmp_path / "net.bin", _expected())


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "net.bin"])
def test_other_addresses_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ModelError, match="expected an address that starts with http"):
        download(url, tmp_path / "net.bin", _expected())


def test_two_at_once_do_not_mix(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / "net.bin.part.lock"),
        loopback({"net.bin": CONTENT}) as server,
        pytest.raises(ModelError, match="another process is downloading this file"),
    ):
        download(f"{server.address}/net.bin", tmp_path / "net.bin", _expected())
    assert server.asked == []
