"""Made inputs, and the loop that gives them to a reader: only our own errors may come out of it.

Each target is given its corpus (tests/fuzz/corpus/TARGET/*), then made inputs: the same ones in
every run of the tests. With PERSONSEARCH_FUZZ_MINUTES, as by ``make fuzz``, the seeds are random
and each target takes its share of the time; what escapes is added to the corpus.
"""

import hashlib
import json
import os
import random
import time
import traceback
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from personsearch.errors import PersonSearchError

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
MINUTES = float(os.environ.get("PERSONSEARCH_FUZZ_MINUTES", "0"))
SLOW = 60.0  # seconds of one input, on a machine that does other work, too

tried: dict[str, int] = {}
escaped: dict[str, dict[str, str]] = {}  # by target, where, and the last line of the traceback
targets: list[str] = []  # of this run, among which the time is shared

ODD_NUMBERS = (
    *(0, -1, 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**400),
    *(0.5, -0.0, 1e-320, 1e300, -1e300, float("inf"), float("-inf"), float("nan")),
)
ODD_TEXTS = (
    *(
        "",
        " ",
        "\0",
        "\n",
        "..",
        "/",
        "../../etc/passwd",
        "/dev/zero",
        "file:x",
        "\ud800",
        "\u202e",
    ),
    *("ü" * 300, "a" * 5000, "nan", "1e999", "-1", "{camera}", "[red]", "\x1b[2J", "null"),
)
ODD_BYTES = (b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0")
ODD_VALUES = (*ODD_NUMBERS, *ODD_TEXTS, None, True, False, [], {}, [[]], {"": None})


def _bytes(draw: Any, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(changed) - 1, 0)))
        kind = draw(st.integers(0, 5))
        if kind == 0:
            changed[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == 1:
            odd = draw(
                st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0"])
            )
            changed[at : at + len(odd)] = odd
        elif kind == 2:
            del changed[at : at + draw(st.sampled_from([1, 2, 16, 256, 1 << 20]))]
        elif kind == 3:
            changed[at:at] = draw(st.binary(max_size=32))
        elif kind == 4:
            end = at + draw(st.integers(1, 64))
            changed[at:at] = changed[at:end] * draw(st.sampled_from([1, 2, 50]))
        elif changed:
            changed[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


def changed_bytes(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Files of which a few bytes, or whole parts, are changed, removed or repeated."""

    @st.composite
    def made(draw: Any) -> bytes:
        return _bytes(draw, draw(st.sampled_from(seeds)))

    return made()


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside: list[tuple[Any, ...]] = [at]
    if isinstance(value, dict):
        return inside + [place for key, one in value.items() for place in _places(one, (*at, key))]
    if isinstance(value, list):
        return inside + [p for k, one in enumerate(value) for p in _places(one, (*at, k))]
    return inside


def _value(draw: Any, value: Any) -> Any:
    whole = [json.loads(json.dumps(value))]
    for _ in range(draw(st.integers(1, 4))):
        *above, last = (0, *draw(st.sampled_from(_places(whole[0]))))
        parent: Any = whole
        for key in above:
            parent = parent[key]
        kind = draw(st.integers(0, 4))
        if kind <= 2:
            parent[last] = deepcopy(draw(st.sampled_from(ODD_VALUES)))
        elif kind == 3 and above:
            del parent[last]
        elif isinstance(parent, dict):
            parent[draw(st.sampled_from(ODD_TEXTS))] = parent[last]
        else:
            parent.append(parent[last])
    return whole[0]


def changed_values(seeds: list[Any]) -> st.SearchStrategy[Any]:
    """Plain values of which some parts are odd, missing, repeated or of other types."""

    @st.composite
    def made(draw: Any) -> Any:
        return _value(draw, draw(st.sampled_from(seeds)))

    return made()


def changed_json(seeds: list[Any]) -> st.SearchStrategy[bytes]:
    """JSON of such values, or of changed bytes."""
    texts = [json.dumps(one).encode() for one in seeds]
    values = changed_values(seeds).map(lambda value: json.dumps(value).encode())
    return values | changed_bytes(texts)


def fuzz(
    target: str,
    check: Callable[[bytes], object],
    inputs: st.SearchStrategy[bytes],
    examples: int,
    allowed: tuple[type[BaseException], ...] = (),
) -> None:
    """Give the corpus and made inputs to `check`; raise `AssertionError` if anything escapes.

    Args:
        check: reads one input; may raise our own errors and those `allowed`.
        examples: number of made inputs in a run of the tests.
    """
    tried[target], escaped[target] = 0, {}
    for path in sorted((CORPUS / target).glob("*")):
        _try(target, check, path.read_bytes(), allowed)

    def one(content: bytes) -> None:
        _try(target, check, content, allowed)

    quiet = {"database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}
    phases = [Phase.generate]
    if not MINUTES:
        made = settings(max_examples=examples, derandomize=True, phases=phases, **quiet)
        made(given(inputs)(one))()
    until = time.monotonic() + MINUTES * 60 / max(len(targets), 1)
    while time.monotonic() < until:
        some = settings(max_examples=200, phases=phases, **quiet)
        seed(random.SystemRandom().getrandbits(64))(some(given(inputs)(one)))()
    assert not escaped[target], "\n".join(escaped[target].values())


def _try(
    target: str,
    check: Callable[[bytes], object],
    content: bytes,
    allowed: tuple[type[BaseException], ...],
) -> None:
    tried[target] += 1
    began = time.monotonic()
    try:
        check(content)
    except (PersonSearchError, *allowed):
        pass
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        frames = [one for one in frames if "fuzz" not in one.filename] or frames[-1:]
        where = f"{type(error).__name__} at {frames[-1].filename}:{frames[-1].lineno}"
        _keep(target, content, where, f"{where}: {str(error)[:300]}")
    if (seconds := time.monotonic() - began) > SLOW:
        _keep(target, content, "slow", f"took {seconds:.0f} s")


def _keep(target: str, content: bytes, where: str, text: str) -> None:
    """Note an escape; with random seeds the first of each kind goes to the corpus."""
    name = hashlib.sha256(content).hexdigest()[:16]
    if where not in escaped[target] and MINUTES:
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
        (CORPUS / target / name).write_bytes(content)
    escaped[target].setdefault(where, f"{target} ({name}): {text}")
