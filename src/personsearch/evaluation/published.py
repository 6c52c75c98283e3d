"""The metrics that papers report, to print beside our own; docs/systems.md says which."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

PROTOCOLS = {
    "cuhk-sysu": (
        *(f"gallery-{size}" for size in (50, 100, 500, 1000, 2000, 4000)),
        *("occlusion", "resolution"),
    ),
    "prw": ("regular", "regular-labelled", "multi-view"),
    "webtattoo": ("with-detection", "without-detection"),
}
"""Protocols of each data set that somebody published results for; see docs/protocols.md."""

_STRICT = ConfigDict(frozen=True, extra="forbid")
_Text = Annotated[str, Field(min_length=1)]
_Share = Annotated[
    float, BeforeValidator(lambda percent: round(percent / 100, 6)), Field(gt=0, lt=1)
]


class PublishedResult(BaseModel):
    """One row of a paper's table. The file has percent; here metrics are 0..1, or None where the
    source does not print them.
    """

    model_config = _STRICT

    method: _Text  # as the field calls it
    data: Literal["cuhk-sysu", "prw", "webtattoo"]
    protocol: str  # one of `PROTOCOLS`
    boxes: Literal["detected", "ground truth"] = "detected"  # that were searched
    mean_ap: _Share | None = None
    top_1: _Share | None = None
    top_5: _Share | None = None
    top_10: _Share | None = None
    # each: a name of the file's list of sources, and where in it the row is
    sources: Annotated[tuple[_Text, ...], Field(min_length=1)]
    system: _Text | None = None  # the name of our implementation, if any
    pretraining: str = ""  # data that the networks saw before or beside `data`, if stated
    market_1501: bool = False  # trained on Market-1501, which shows the videos of PRW
    checked: bool = True  # found in its source
    note: str = ""  # what sources disagree in, or what differs from the protocol

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.protocol not in PROTOCOLS[self.data]:
            expected = ", ".join(PROTOCOLS[self.data])
            raise ValueError(f"{self.data} has no protocol {self.protocol!r}, expected {expected}")
        if self.mean_ap is None and self.top_1 is None:
            raise ValueError(f"{self.method} has neither mean_ap nor top_1")
        ranks = [rank for rank in (self.top_1, self.top_5, self.top_10) if rank is not None]
        if ranks != sorted(ranks):
            raise ValueError(f"{self.method}: top_1, top_5 and top_10 do not ascend: {ranks}")
        return self


class _Group(BaseModel):
    """Rows of one data set and protocol."""

    model_config = _STRICT

    data: str
    protocol: str
    rows: list[dict[str, Any]]


class PublishedFile(BaseModel):
    """The contents of ``published.toml``: sources by short name, and rows in groups."""

    model_config = _STRICT

    sources: dict[str, _Text]
    group: list[_Group]

    @property
    def results(self) -> list[PublishedResult]:
        """Every row, in the order of the file."""
        return [
            PublishedResult.model_validate({"data": group.data, "protocol": group.protocol} | row)
            for group in self.group
            for row in group.rows
        ]

    @model_validator(mode="after")
    def _rows_differ_and_name_their_sources(self) -> Self:
        seen = set()
        for row in self.results:
            key = (row.method, row.data, row.protocol, row.boxes)
            if key in seen:
                raise ValueError(f"{key} is listed twice")
            seen.add(key)
            for source in row.sources:
                if source.partition(", ")[0] not in self.sources:
                    raise ValueError(f"{row.method}: no source is called {source!r}")
        return self


@cache
def _table() -> tuple[PublishedResult, ...]:
    text = files("personsearch.evaluation").joinpath("published.toml").read_text(encoding="utf-8")
    return tuple(PublishedFile.model_validate(tomllib.loads(text)).results)


def published_results(
    data: str | None = None,
    protocol: str | None = None,
    system: str | None = None,
    source: str | None = None,
) -> list[PublishedResult]:
    """Return the published results, of one data set, protocol, system or source where given.

    A `source` such as ``"Han 2021, table 3"`` gives the rows of that table, which may be under
    several protocols.
    """
    return [
        result
        for result in _table()
        if data in (None, result.data)
        and protocol in (None, result.protocol)
        and system in (None, result.system)
        and (source is None or source in result.sources)
    ]
