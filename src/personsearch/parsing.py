"""Parse TOML and JSON that may hold anything: whatever is wrong with it is a `ValueError`.

The parsers of the standard library raise `RecursionError` on deeply nested text, and tomllib
another `ValueError` than its own on a number of thousands of digits.
"""

import json
import tomllib
from typing import Any

_NESTED = "nested too deeply"


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; `ValueError` if it is none, of another encoding than Unicode, or too nested."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(_NESTED) from None


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML; `tomllib.TOMLDecodeError`, a `ValueError`, if it is none, or too nested."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise tomllib.TOMLDecodeError(_NESTED) from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:
        raise tomllib.TOMLDecodeError(str(error)) from None
