"""The metrics that papers report, to print beside our own."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class PublishedResult:
    """One row of a paper's table, metrics in 0..1; `system` names our implementation, if any."""

    method: str
    data: str
    protocol: str
    mean_ap: float
    top_1: float
    system: str | None = None


@cache
def _table() -> tuple[PublishedResult, ...]:
    text = files("personsearch.evaluation").joinpath("published.toml").read_text(encoding="utf-8")
    return tuple(
        PublishedResult(
            **{key: value / 100 if key in ("mean_ap", "top_1") else value for key, value in row}
        )
        for row in (result.items() for result in tomllib.loads(text)["result"])
    )


def published_results(
    data: str | None = None, protocol: str | None = None, system: str | None = None
) -> list[PublishedResult]:
    """Return the published results, of one data set, protocol or system where given."""
    return [
        result
        for result in _table()
        if data in (None, result.data)
        and protocol in (None, result.protocol)
        and system in (None, result.system)
    ]
