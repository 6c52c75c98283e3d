"""The figures that papers report, to print beside our own."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class PublishedResult:
    """One row of a paper's table.

    Attributes:
        method: as the paper calls it.
        data: ``"cuhk-sysu"`` or ``"prw"``.
        protocol: ``"gallery-100"``, ``"regular"`` or ``"multi-view"``.
        mean_ap: 0..1.
        top_1: 0..1.
        system: our implementation of it, if there is one.
    """

    method: str
    data: str
    protocol: str
    mean_ap: float
    top_1: float
    system: str | None = None


@cache
def all_published() -> tuple[PublishedResult, ...]:
    """Every result in ``published.toml``."""
    text = files("personsearch.evaluation").joinpath("published.toml").read_text(encoding="utf-8")
    return tuple(
        PublishedResult(
            method=row["method"],
            data=row["data"],
            protocol=row["protocol"],
            mean_ap=row["mean_ap"] / 100,
            top_1=row["top_1"] / 100,
            system=row.get("system"),
        )
        for row in tomllib.loads(text)["result"]
    )


def published_results(
    data: str | None = None, protocol: str | None = None, system: str | None = None
) -> list[PublishedResult]:
    """Published results of one data set, protocol or system; of all where none is named."""
    return [
        result
        for result in all_published()
        if data in (None, result.data)
        and protocol in (None, result.protocol)
        and system in (None, result.system)
    ]
