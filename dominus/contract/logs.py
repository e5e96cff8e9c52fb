"""logs: lines of programs, kept by day, searched and followed."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, ClassVar, Literal, NotRequired
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, create_model
from typing_extensions import TypedDict

from dominus.contract.operation import Operation, Service
from dominus.contract.request import Example, Omit, Request, plain_text

LEVELS = ("debug", "info", "notice", "warn", "error", "critical")
"""From the least to the most severe."""
DEFAULT_CATEGORY = "general"
MAX_MESSAGE = 32_768
"""Characters."""
MAX_CONTEXT_BYTES = 65_536
"""Of the JSON of a line's context."""
MAX_EVENTS = 1000
"""Lines of one batch; the published client sends at most 100."""
MAX_QUERY = 1000
MAX_WAIT_SECONDS = 10.0
MAX_CATEGORY = 128
MAX_PLACE = 512
"""Characters of a file or a function."""
_OTHER_NAMES = {"warning": "warn", "fatal": "critical"}

Level = Literal["debug", "info", "notice", "warn", "error", "critical"]
Message = Annotated[str, StringConstraints(max_length=MAX_MESSAGE)]
Category = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_CATEGORY), AfterValidator(plain_text)
]
Place = Annotated[str, StringConstraints(max_length=MAX_PLACE)]
Context = dict[str, Any]


def _level(value: object) -> object:
    if not isinstance(value, str):
        return value
    name = value.lower()
    return _OTHER_NAMES.get(name, name)


def _with_zone(value: dt.datetime) -> dt.datetime:
    if value.tzinfo is None:
        return value.replace(tzinfo=dt.UTC)
    try:
        return value.astimezone(dt.UTC)
    except OverflowError:
        raise ValueError("must be of the years 1 to 9999 in UTC, too") from None


def _is_time_ordered(value: UUID) -> UUID:
    if value.version != 7:
        raise ValueError("is no uuid7")
    return value


AnyLevel = Annotated[Level, BeforeValidator(_level)]
LineId = Annotated[UUID, AfterValidator(_is_time_ordered)]
Moment = Annotated[dt.datetime, AfterValidator(_with_zone)]


class Kept(TypedDict):
    """The line is stored."""

    stored: bool


class Refused(TypedDict):
    """Why a line of a batch is not stored; `index` counts from 0."""

    index: int
    message: str


class BatchKept(TypedDict):
    """How many lines there were, are stored, and are not; `errors` tells of the first ten that are not."""

    total: int
    stored: int
    failed: int
    errors: NotRequired[list[Refused]]


class LogEntry(TypedDict):
    """A stored line; `time` is when it was written, and `id`, a uuid7, sorts by it."""

    id: str
    time: str
    level: str
    message: str
    category: str
    context: dict[str, Any] | None
    file: str | None
    function: str | None
    line: int | None


class Entries(TypedDict):
    """The newest first."""

    logs: list[LogEntry]


class Arrivals(TypedDict):
    """Lines that arrived since the cursor, in the order of their times; `cursor` is for the next call."""

    logs: list[LogEntry]
    cursor: str


class Line(Request):
    """One line, without its level."""

    message: Message
    context: Omit[Context]
    category: Omit[Category]
    file: Omit[Place]
    function: Omit[Place]
    line: Omit[Annotated[int, Field(ge=0, le=2**31 - 1)]]


class LineRequest(Line):
    """Store one line."""

    level: Level


class Event(Line):
    """A line of a batch. With an `id` it is stored once, however often it is sent; `data` is `context`."""

    level: AnyLevel = "info"
    id: Omit[LineId]
    data: Omit[Context]


class BatchRequest(Request):
    """Store several lines; those that are wrong are counted, and keep no other from being stored."""

    example: ClassVar[Example] = {
        "events": [
            {"level": "info", "message": "order placed", "context": {"order": 42}},
            {"level": "warn", "message": "stock is low", "category": "stock"},
        ]
    }

    events: Annotated[list[Any], Field(max_length=MAX_EVENTS)]


class LinesWanted(Request):
    """Which lines; all conditions hold together."""

    level: Omit[AnyLevel]
    min_level: Omit[AnyLevel]
    category: Omit[Category]
    file: Omit[Place]
    function: Omit[Place]
    search: Omit[Annotated[str, StringConstraints(max_length=1000)]]
    project: Omit[Annotated[str, StringConstraints(max_length=64)]]
    environment: Omit[Annotated[str, StringConstraints(max_length=64)]]


class QueryRequest(LinesWanted):
    """Find lines, the newest first."""

    example: ClassVar[Example] = {"level": "error", "search": "payment refused", "limit": 50}

    limit: Annotated[int, Field(ge=1, le=MAX_QUERY)] = 100
    start_time: Omit[Moment]
    end_time: Omit[Moment]


class TailRequest(LinesWanted):
    """Wait for lines that arrive after the cursor; without one, learn where the stream stands."""

    example: ClassVar[Example] = {"min_level": "warn", "limit": 100}

    cursor: Omit[Annotated[str, StringConstraints(max_length=20_000)]]
    limit: Annotated[int, Field(ge=1, le=MAX_QUERY)] = 500
    wait_seconds: Annotated[float, Field(ge=0, le=MAX_WAIT_SECONDS)] = 0.0


def _one(level: str) -> type[LineRequest]:
    example: Example = {"level": level, "message": "order placed", "context": {"order": 42}}
    # The literal is known only here, and not to a type checker.
    make: Any = create_model
    made: type[LineRequest] = make(
        f"{level.title()}Request",
        __base__=LineRequest,
        __doc__=LineRequest.__doc__,
        level=(Literal[level], ...),
    )
    made.example = example
    return made


logs = Service("logs", "/api/herald")
LINE: dict[str, Operation[LineRequest, Kept]] = {
    level: logs.write(
        level,
        _one(level),
        Kept,
        f"Store a line of the level {level}.",
        path="log",
        select=("level", (level,)),
    )
    for level in LEVELS
}
BATCH = logs.write("batch", BatchRequest, BatchKept, "Store up to 1,000 lines.")
QUERY = logs.read(
    "query",
    QueryRequest,
    Entries,
    "Find lines by level, category, time, place and text.",
    list_key="logs",
    errors=("answer_too_large",),
)
TAIL = logs.read(
    "arrivals",
    TailRequest,
    Arrivals,
    "Wait for lines that arrive.",
    path="tail",
    errors=("answer_too_large", "invalid_value"),
)
