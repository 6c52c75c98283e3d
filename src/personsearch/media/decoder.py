"""What runs in a decoder: a process that reads the files of strangers for `apart`.

It opens no file by itself: each request comes with an open one. Pictures go into a file in memory,
everything else over a socket, as JSON behind its length.
"""

import errno
import json
import mmap
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import PictureError
from personsearch.media import pictures, video
from personsearch.media.damage import cause, is_of_machine
from personsearch.media.picture_limit import MAX_PIXELS
from personsearch.media.sampling import Sampling

MEMORY = 4 << 30
"""Bytes of address space beside the file in memory: twice what the largest pictures take."""
SLOTS, SLOT = 4, 3 * MAX_PIXELS
"""Pictures that the file in memory holds, and bytes from one to the next."""

_DESCRIPTORS = 64  # open files
_SIGN = 1.0  # seconds between signs that it gets on
_LENGTH = struct.Struct("<I")

Answer = tuple[dict[str, Any], NDArray[np.uint8]]


def _photo(path: Path, file: BinaryIO, *, max_pixels: int) -> Iterator[Answer]:
    pixels, taken = pictures.read_photo(path, max_pixels, file)
    yield {"taken": taken}, pixels


def _frame(path: Path, file: BinaryIO, *, index: int, max_pixels: int) -> Iterator[Answer]:
    opened = video.Video(path, file)
    try:
        yield {}, opened.read(index, max_pixels)
    finally:
        opened.close()


def _counted(path: Path, file: BinaryIO) -> Iterator[Answer]:
    count = video.frame_count(path, file)
    for _, pixels in _frame(path, file, index=0, max_pixels=MAX_PIXELS):
        yield {"index": count}, pixels


def _video(
    path: Path,
    file: BinaryIO,
    *,
    sampling: dict[str, Any],
    known: list[int],
    alive: Callable[[], None] = lambda: None,
) -> Iterator[Answer]:
    sampled, before = Sampling(**sampling).chooser(), frozenset(known)

    def wanted(index: int, seconds: float, small: Callable[[], NDArray[np.uint8]]) -> bool:
        alive()
        # Known frames are asked for, too: the choice of the next depends on them.
        return sampled(index, seconds, small) and index not in before

    for index, seconds, pixels in video.play(path, wanted, file=file):
        yield {"index": index, "seconds": seconds}, pixels


def _clip(path: Path, file: BinaryIO, **part: Any) -> Iterator[Answer]:
    for seconds, pixels in video.play_part(path, **part, file=file):
        yield {"seconds": seconds}, pixels


OPERATIONS: dict[str, Callable[..., Iterator[Answer]]] = {
    "photo": _photo,
    "frame": _frame,
    "counted": _counted,
    "video": _video,
    "clip": _clip,
}
"""Called with the path, for messages, the open file, and the arguments of the request."""


def send(to: socket.socket, message: dict[str, Any], descriptors: list[int]) -> None:
    """Send a message, with open files."""
    text = json.dumps(message).encode()
    data = _LENGTH.pack(len(text)) + text
    sent = socket.send_fds(to, [data], descriptors) if descriptors else 0
    to.sendall(data[sent:])


def receive(sender: socket.socket, longest: int, start: bytes = b"") -> dict[str, Any]:
    """Receive a message, of which `start` was received already.

    Raises:
        EOFError: the other side has ended.
        ValueError: it is longer than `longest` bytes, or no JSON object.
    """
    size = _LENGTH.unpack(start + _exactly(sender, _LENGTH.size - len(start)))[0]
    if size > longest:
        raise ValueError(f"a message of {size:,} bytes, expected at most {longest:,}")
    message = json.loads(_exactly(sender, size))
    if not isinstance(message, dict):
        raise ValueError("a message that is no object")
    return message


def _exactly(sender: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = sender.recv(size - len(data))
        if not part:
            raise EOFError("the other process has ended")
        data += part
    return bytes(data)


def serve(control: int, memory: int) -> None:
    """Answer requests until the other side ends."""
    _end_with_parent()
    _limit()
    with socket.socket(fileno=control) as parent, mmap.mmap(memory, SLOTS * SLOT) as pictures:
        os.close(memory)
        send(parent, {"ready": True}, [])
        with suppress(EOFError, ConnectionError):
            while True:
                start, descriptors, _, _ = socket.recv_fds(parent, _LENGTH.size, 1)
                request = receive(parent, 1 << 30, start)
                with open(descriptors[0], "rb") as file:  # noqa: PTH123
                    _answer(parent, pictures, file, **request)


def _end_with_parent() -> None:
    """End at once when the other process does: it holds the other end of the standard input."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)  # these are for the other process
    import fcntl

    # SIGIO ends a process even within a decoder that hangs.
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # decoders print what they like
    os.close(quiet)


def _limit() -> None:
    import resource

    for kind, most in (
        (resource.RLIMIT_AS, MEMORY + SLOTS * SLOT),
        (resource.RLIMIT_NOFILE, _DESCRIPTORS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def _answer(
    parent: socket.socket,
    memory: mmap.mmap,
    file: BinaryIO,
    operation: str,
    path: str,
    arguments: dict[str, Any],
) -> None:
    last = time.monotonic()

    def alive() -> None:
        nonlocal last
        if time.monotonic() - last > _SIGN:
            send(parent, {"alive": True}, [])
            last = time.monotonic()

    if operation == "video":
        arguments["alive"] = alive
    waiting = slot = 0  # pictures that were not copied out yet; the next one's slot
    try:
        for facts, pixels in OPERATIONS[operation](Path(path), file, **arguments):
            if waiting == SLOTS:
                _exactly(parent, 1)
                waiting -= 1
            stored = np.frombuffer(memory, np.uint8, pixels.size, slot * SLOT)
            stored.reshape(pixels.shape)[:] = pixels
            send(parent, {**facts, "shape": pixels.shape[:2], "slot": slot}, [])
            waiting, slot = waiting + 1, (slot + 1) % SLOTS
        ending: dict[str, Any] = {"end": True}
    except (EOFError, ConnectionError):
        raise
    except PictureError as error:
        ending = {"error": str(error)}
    except MemoryError:
        ending = {"error": f"{path}: needs more than {MEMORY >> 30} GB of memory to be decoded"}
    except Exception as error:
        ending = {"error": f"{path}: is damaged ({cause(error)}); replace or remove it"}
        # Such as a bad place of the disk; the number of open files is this process's own limit.
        if is_of_machine(error) and getattr(error, "errno", 0) != errno.EMFILE:
            ending = {"error": f"{path}: cannot be read ({cause(error)})", "later": True}
    send(parent, ending, [])
    _exactly(parent, waiting)
