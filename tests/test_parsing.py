"""Text that may hold anything: every fault is a `ValueError`."""

import tomllib

import pytest

from personsearch.parsing import parse_json, parse_toml

DEEP = 100_000


def test_what_is_right_is_parsed() -> None:
    assert parse_json('{"a": [1, null]}') == {"a": [1, None]}
    assert parse_toml("a = 1\n[b]\nc = [2]") == {"a": 1, "b": {"c": [2]}}


@pytest.mark.parametrize(
    "text", ["[" * DEEP, '{"a":' * DEEP, "1" * 5000, "{", b"\xff\xfe\x00", b'"\xe9"'], ids=range(6)
)
def test_whatever_json_holds_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * DEEP, "a = " + "{b = " * DEEP, "a = " + "1" * 5000, "a = 1979-13-40", "a"],
    ids=range(5),
)
def test_whatever_toml_holds_is_its_own_error(text: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        parse_toml(text)
