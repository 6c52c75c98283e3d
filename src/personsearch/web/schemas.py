"""Requests and responses of the API: every field, with its unit and bounds."""

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
from starlette.responses import Response

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
            "description": "Id in the archive.",
        }
    ),
]
PersonText = Annotated[
    str, Field(description="Digits; JavaScript numbers cannot hold every id exactly.")
]
Score = Annotated[float, Field(description="Detection score, 0 to 1.")]
Time = Annotated[float, Field(description="Seconds since 1970.")]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Text = Annotated[str, StringConstraints(max_length=4096)]
Names = Annotated[
    list[Text] | None, Field(max_length=1000, description="An empty list selects nobody.")
]
_OLD: dict[str, Any] = {"deprecated": True}
Token = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
Box = Annotated[
    list[Number],
    Field(min_length=4, max_length=4, description="x1, y1, x2, y2 in pixels of the picture."),
]


def file_answer(*kinds: str) -> dict[str, Any]:
    """Return the arguments of a route that answers with a file of one of some media types."""
    text = {"schema": {"type": "string"}}
    content = {kind: text if kind.startswith("text/") else BINARY for kind in kinds}
    return {"response_class": Response, "responses": {200: {"content": content}}}


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """An error in one line."""

    detail: str


class FoundPerson(BaseModel):
    """A person who was detected in a query picture."""

    box: list[float]
    score: Score


class QueryPicture(BaseModel):
    """A query picture, kept in memory for a short time."""

    id: str
    width: int
    height: int
    sha256: str
    people: list[FoundPerson] = Field(description="By descending score.")
    seconds_kept: float = Field(description="Seconds after its last use.")


class Example(_Request):
    """A person in a query picture."""

    query: Token = Field(description="Id of a query picture.")
    box: Box


class FiltersGiven(_Request):
    """Which people are searched. A field that is null or missing restricts nothing."""

    cameras: Names = None
    sources: Names = None
    since: Number | None = Field(default=None, description="Seconds since 1970.")
    until: Number | None = Field(default=None, description="Seconds since 1970, excluded.")
    min_score: Number | None = Field(default=None, description="Lowest detection score, 0 to 1.")
    min_height: Number | None = Field(
        default=None, description="Lowest height of the box, in pixels."
    )


class SearchBody(_Request):
    """A search: at least one example, or one person in the archive."""

    examples: list[Example] = Field([], max_length=64)
    people: list[PersonId] = Field([], max_length=256)
    unlike: list[PersonId] = Field([], max_length=256)
    filters: FiltersGiven = FiltersGiven()
    top: Annotated[int, Field(ge=1, le=500, strict=True)] = 24


class Span(BaseModel):
    """Time span of a track in a video."""

    id: int
    first: float = Field(description="Seconds from the video's start.")
    last: float
    views: int = Field(description="Frames that show the person.")


class Person(BaseModel):
    """A person in the archive."""

    id: PersonText
    source: str
    name: str = Field(description="File inside the source.")
    camera: str | None
    time: Time | None
    frame: int | None
    position: float | None = Field(description="Seconds from the video's start.")
    width: int
    height: int
    box: list[float]
    score: Score
    track: Span | None
    video: bool
    thumbnail: str = Field(description="Path of the thumbnail.")
    picture: str = Field(description="Path of the whole picture.")
    clip: str | None = Field(description="Path of a clip, for a video.")


class Hit(BaseModel):
    """A match of the query."""

    rank: int
    similarity: float = Field(description="Cosine to the query, -1 to 1; not a probability.")
    rank_score: float = Field(description="The score that ranks the hits.")
    probability: float | None = Field(
        description="Of being the same person; null without calibration."
    )
    person: Person


class Sighting(BaseModel):
    """Time span of a hit."""

    person: PersonText
    rank: int
    since: Time
    until: float
    similarity: float


class CameraLine(BaseModel):
    """The hits of one camera, by time."""

    camera: str | None
    sightings: list[Sighting]


class SearchAnswer(BaseModel):
    """The result of a search, best first."""

    result: str = Field(description="Id for a report.")
    hits: list[Hit]
    timeline: list[CameraLine]
    reason: str = Field(description="Why there are no hits; empty where there are some.")
    seconds: float


class ReportRequest(_Request):
    """Format, title and marks of a report."""

    format: Literal["html", "csv"] = "html"
    title: Annotated[str, StringConstraints(max_length=200)] = ""
    right: list[PersonId] = Field([], max_length=500)
    wrong: list[PersonId] = Field([], max_length=500)


class Indexed(BaseModel):
    """The people of a picture that was added to the archive."""

    people: list[PersonText] = Field(description="Ids of the people in it.")
    skipped: bool = Field(description="Whether the same picture was there already.")


class EraseRequest(_Request):
    """People to erase for good, each with every view of the track."""

    people: list[PersonId] = Field(min_length=1, max_length=1000)


class Erased(BaseModel):
    """The number of erased views."""

    views: int


class Group(BaseModel):
    """A camera or an indexed folder, file or stream, with the number of views of people."""

    name: str
    people: int


class StoreInfo(BaseModel):
    """Contents of the archive, and permissions of the caller."""

    uri: str = Field(description="Where the people are kept.")
    place: str = Field(description="Deprecated: the same as uri.", json_schema_extra=_OLD)
    people: int
    scrubbed: bool = Field(
        description="Whether no copy of an erased person is left in the store's folder; Milvus "
        "does not say."
    )
    cameras: list[Group]
    sources: list[Group]
    model: str
    network: Literal["loading", "ready", "failed"]
    problem: str = Field(description="Why the network failed to load.")
    who: str = Field(description="Name of the key, or local.")
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
    """Lines of the audit log, latest first."""

    count: int
    lines: list[AuditLine]


class AuditState(BaseModel):
    """Whether the audit log is intact."""

    whole: bool
    problem: str
    count: int
    head: str


class Health(BaseModel):
    """Whether the server can answer."""

    status: Literal["ok", "failing"]
    network: Literal["loading", "ready", "failed"]
