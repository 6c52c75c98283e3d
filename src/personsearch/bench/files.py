"""Small JSON files of runs, replaced atomically."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from personsearch.durable import replace_file
from personsearch.parsing import parse_json


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write values; make the folder if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None if the file is missing or damaged."""
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def read_metrics(folder: Path) -> dict[str, Any] | None:
    """Read ``metrics.json`` of a run; None if it is missing or damaged: the run is not finished."""
    known = read_json(folder / "metrics.json") or {}
    figures = known.get("figures")
    if not isinstance(figures, dict) or not isinstance(known.get("checkpoint"), str):
        return None
    numbers = all(isinstance(value, int | float) for value in figures.values())
    return known if figures and numbers else None
