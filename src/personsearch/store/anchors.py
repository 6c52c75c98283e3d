"""Anchors: heads of an audit log that are noted where nobody who writes to the store can write."""

import json
import re
import shlex
import subprocess
import urllib.error
import urllib.request
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from personsearch.durable import sync
from personsearch.errors import StoreError
from personsearch.parsing import parse_json
from personsearch.store.audit import Anchor

TIMEOUT = 30.0  # seconds that a server or a command may take

_HASH = re.compile("[0-9a-f]{64}")
_LOCAL = ("localhost", "127.0.0.1", "::1")


def is_hash(text: str) -> bool:
    """Whether a text is the hash of a line, and not the name of a file."""
    return _HASH.fullmatch(text) is not None


def read_anchors(path: Path) -> list[Anchor]:
    """Read the anchors in a file, oldest first; `StoreError` if it has none, or other lines."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from None
    found = [_parsed(line) for line in lines]
    for number, one in enumerate(found, start=1):
        if one is None:
            raise StoreError(f"{path}: line {number} is no anchor; expected lines of: audit anchor")
    if not found:
        raise StoreError(f"{path}: is empty, expected lines of: audit anchor")
    return [one for one in found if one is not None]


def _parsed(line: bytes) -> Anchor | None:
    try:
        anchor = Anchor(**parse_json(line))
    except (ValueError, TypeError):
        return None
    fits = isinstance(anchor.lines, int) and isinstance(anchor.head, str)
    return anchor if fits and anchor.lines >= 0 and is_hash(anchor.head) else None


def write_to_file(anchor: Anchor, path: Path) -> None:
    """Append an anchor to a file, as one JSON object a line."""
    try:
        with path.open("ab") as file:
            file.write(_line(anchor))
        sync(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror})") from None


def post(anchor: Anchor, url: str) -> None:
    """Send an anchor to a server, as JSON.

    Raises:
        StoreError: the address is neither HTTPS nor this machine's, or the server does not accept
            it; redirects are not followed.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
        raise StoreError(
            f"{url}: expected an address that starts with https:// or http://localhost"
        )
    request = urllib.request.Request(
        url, _line(anchor), {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=TIMEOUT):
            pass
    except urllib.error.HTTPError as error:
        error.close()
        raise StoreError(f"{url}: the server says {error.code} {error.reason}") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{url}: cannot be reached ({error})") from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def pipe(anchor: Anchor, command: str) -> None:
    """Start a program, without a shell, and write an anchor to its input, as JSON.

    Raises:
        StoreError: the program cannot be started, fails, or takes too long.
    """
    try:
        arguments = shlex.split(command)
        done = subprocess.run(arguments, input=_line(anchor), timeout=TIMEOUT, check=False)
    except (OSError, ValueError, IndexError) as error:
        raise StoreError(f"{command!r}: cannot be started ({error})") from None
    except subprocess.TimeoutExpired:
        raise StoreError(f"{command!r}: took more than {TIMEOUT:g} s and was ended") from None
    if done.returncode:
        raise StoreError(f"{command!r}: failed with exit status {done.returncode}")


def _line(anchor: Anchor) -> bytes:
    return json.dumps(asdict(anchor)).encode() + b"\n"
