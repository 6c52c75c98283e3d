"""The process that decodes: its limits, and the messages that both sides send."""

import resource
import socket
import time
from pathlib import Path

import pytest

from personsearch.media import apart
from personsearch.media.decoder import MEMORY, SLOT, SLOTS, receive, send


def test_a_message_arrives_as_it_was_sent() -> None:
    here, there = socket.socketpair()
    with here, there:
        send(here, {"path": "a\udcff ü", "known": list(range(10_000))}, [])
        assert receive(there, 1 << 20) == {"path": "a\udcff ü", "known": list(range(10_000))}
        send(here, {"a": 1}, [])
        with pytest.raises(ValueError, match="a message of 8 bytes, expected at most 7"):
            receive(there, 7)
    here, there = socket.socketpair()
    with there:
        here.sendall(b"\x02\0\0\0[]")
        with pytest.raises(ValueError, match="no object"):
            receive(there, 100)
        here.sendall(b"\x09\0\0\0{")
        here.close()
        with pytest.raises(EOFError):
            receive(there, 100)


def test_a_decoder_is_limited(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    apart.stop_decoders()
    apart.read_picture(tmp_path / "a.png")
    (pid,) = apart.idle_decoders()
    limits = {
        resource.RLIMIT_AS: MEMORY + SLOTS * SLOT,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        assert resource.prlimit(pid, kind) == (most, most)  # type: ignore[attr-defined]
    until = time.monotonic() + 30  # it answers before it closes the picture
    while (opened := _opened_by(pid)) & {"a.png"} and time.monotonic() < until:
        time.sleep(0.01)
    assert "a.png" not in opened


def _opened_by(pid: int) -> set[str]:
    return {one.resolve().name for one in Path(f"/proc/{pid}/fd").iterdir()}
