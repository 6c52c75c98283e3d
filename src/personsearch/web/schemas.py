"""What the API takes and gives: every field, with its unit and its bounds."""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

BINARY = {"schema": {"type": "string", "format": "binary"}}
"""A file, as OpenAPI describes it."""
LAST_PERSON = 2**63 - 1
_PERSON = r"^[1-9][0-9]{0,18}$"


def _number_of(given: object) -> object:
    if isinstance(given, str) and re.fullmatch(_PERSON, given):
        return int(given)
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    raise ValueError("expected a person's id: digits, as text or as a number")


PersonId = Annotated[
    int,
    BeforeValidator(_number_of),
    Field(ge=1, le=LAST_PERSON),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": _PERSON},
                {"type": "integer", "minimum": 1, "maximum": 2**53 - 1},
            ],
            "description": "Of the archive.",
        }
    ),
]
PersonText = Annotated[
    str, Field(description="Digits. A number of JavaScript would not hold every one exactly.")
]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Text = Annotated[str, StringConstraints(max_length=4096)]
Token = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
Box = Annotated[
    list[Number],
    Field(min_length=4, max_length=4, description="x1, y1, x2, y2 in pixels of the picture."),
]


def binary_answer(kind: str) -> dict[int | str, dict[str, Any]]:
    """How a route that gives a file of some kind describes its answer."""
    return {200: {"content": {kind: BINARY}}}


class _Taken(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """What went wrong, in one line."""

    detail: str


class FoundPerson(BaseModel):
    """Someone who was found in a query picture."""

    box: list[float]
    score: float = Field(description="The detector's, 0 to 1.")


class QueryPicture(BaseModel):
    """A query picture, kept in memory for a short while."""

    id: str
    width: int
    height: int
    sha256: str
    people: list[FoundPerson] = Field(description="The surest first.")
    seconds_kept: float = Field(description="After it was last used.")


class Example(_Taken):
    """A person in a query picture."""

    query: Token = Field(description="id of a query picture.")
    box: Box


class FiltersGiven(_Taken):
    """Who is searched; what is left out leaves everyone."""

    cameras: list[Text] = Field(default=[], max_length=1000)
    sources: list[Text] = Field(default=[], max_length=1000)
    since: Number | None = Field(default=None, description="Seconds since 1970.")
    until: Number | None = Field(default=None, description="Seconds since 1970, excluded.")
    min_score: Number | None = Field(default=None, description="Of the detection, 0 to 1.")
    min_height: Number | None = Field(default=None, description="Of the box, in pixels.")


class SearchRequest(_Taken):
    """Who is looked for: at least one example, or one person in the archive."""

    examples: list[Example] = Field(default=[], max_length=64)
    people: list[PersonId] = Field(default=[], max_length=256)
    unlike: list[PersonId] = Field(default=[], max_length=256)
    filters: FiltersGiven = FiltersGiven()
    top: Annotated[int, Field(ge=1, le=500, strict=True)] = 24


class Span(BaseModel):
    """Over which time someone was seen in a video."""

    id: int
    first: float = Field(description="Seconds from the video's start.")
    last: float
    views: int = Field(description="Frames in which they were seen.")


class Person(BaseModel):
    """Someone in the archive."""

    id: PersonText
    source: str
    name: str = Field(description="The file inside of the source.")
    camera: str | None
    time: float | None = Field(description="Seconds since 1970.")
    frame: int | None
    position: float | None = Field(description="Seconds from the video's start.")
    width: int
    height: int
    box: list[float]
    score: float = Field(description="The detector's, 0 to 1.")
    track: Span | None
    video: bool
    thumbnail: str = Field(description="Address of a small picture of them.")
    picture: str = Field(description="Address of the whole picture.")
    clip: str | None = Field(description="Address of a clip, for a video.")


class Hit(BaseModel):
    """Someone who is like the query."""

    rank: int
    similarity: float = Field(description="Cosine to the query, -1 to 1; not a probability.")
    rank_score: float = Field(description="What hits are ranked by.")
    probability: float | None = Field(description="Only where the archive was calibrated.")
    person: Person


class Sighting(BaseModel):
    """When a hit was seen."""

    person: PersonText
    rank: int
    since: float = Field(description="Seconds since 1970.")
    until: float
    similarity: float


class CameraLine(BaseModel):
    """The hits of one camera in the order of time."""

    camera: str | None
    sightings: list[Sighting]


class SearchAnswer(BaseModel):
    """What a search found, best first."""

    result: str = Field(description="By which a report can be had.")
    hits: list[Hit]
    timeline: list[CameraLine]
    seconds: float


class ReportRequest(_Taken):
    """What a report says besides the hits."""

    format: Literal["html", "csv"] = "html"
    title: Annotated[str, StringConstraints(max_length=200)] = ""
    right: list[PersonId] = Field(default=[], max_length=500)
    wrong: list[PersonId] = Field(default=[], max_length=500)


class Indexed(BaseModel):
    """What became of a picture that was sent for keeping."""

    people: list[PersonText] = Field(description="Who was found in it, by id.")
    skipped: bool = Field(description="The same picture of that name was there already.")


class EraseRequest(_Taken):
    """Who is erased, for good; a person in a video goes with the whole track."""

    people: list[PersonId] = Field(min_length=1, max_length=1000)


class Erased(BaseModel):
    """What was erased."""

    views: int


class Camera(BaseModel):
    """A camera, and how many views of people it has."""

    name: str
    people: int


class Source(BaseModel):
    """A folder, file or live camera that was indexed, and how many views of people it has."""

    name: str
    people: int


class StoreInfo(BaseModel):
    """What is in the archive, and what the caller may do."""

    place: str
    people: int
    cameras: list[Camera]
    sources: list[Source]
    model: str
    network: Literal["loading", "ready", "failed"]
    problem: str = Field(description="Why the network is not there.")
    who: str
    scopes: list[str]
    version: str


class AuditLine(BaseModel):
    """A line of the audit log."""

    number: int
    time: float
    who: str
    action: str
    details: dict[str, object]
    hash: str


class AuditPage(BaseModel):
    """Lines of the audit log, the latest first."""

    count: int
    lines: list[AuditLine]


class AuditState(BaseModel):
    """Whether the audit log is whole."""

    whole: bool
    problem: str
    count: int
    head: str


class Health(BaseModel):
    """Whether the server can answer."""

    status: Literal["ok", "failing"]
    network: Literal["loading", "ready", "failed"]
