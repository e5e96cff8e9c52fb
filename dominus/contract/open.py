"""open: SQL of the caller's own, and logins for other programs."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, NotRequired

from pydantic import AfterValidator, Field, StringConstraints
from typing_extensions import TypedDict

from dominus.contract.codes import STORED
from dominus.contract.db import MAX_LIMIT, Row
from dominus.contract.kinds import Retry
from dominus.contract.operation import Service
from dominus.contract.request import Example, Omit, Request, plain_text

__all__ = [
    "DSN",
    "EXECUTE",
    "MAX_LOGIN_SECONDS",
    "MAX_PARAMETERS",
    "REVOKE",
    "STREAM",
    "ColumnType",
    "Dsn",
    "DsnRequest",
    "ExecuteRequest",
    "Executed",
    "RevokeRequest",
    "Revoked",
    "SqlRequest",
    "Streamed",
    "open_sql",
]

MAX_SQL = 1_000_000
MAX_PARAMETERS = 1000
MAX_LOGIN_SECONDS = 86_400


def sql_text(value: str) -> str:
    """Refuse what PostgreSQL has no text for."""
    if "\0" in value:
        raise ValueError("must not contain NUL")
    return value


class ColumnType(TypedDict):
    """A column of an answer; `type` as SQL writes it."""

    name: str
    type: str


class Executed(TypedDict):
    """What a statement gave. `row_count`: rows that it returned or, of a write, that it touched."""

    items: list[Row]
    row_count: int
    columns: NotRequired[list[ColumnType]]
    command: NotRequired[str]


class Streamed(TypedDict):
    """The rows, for who does not accept JSON lines."""

    items: list[Row]


class Dsn(TypedDict):
    """A login of PostgreSQL that ends by itself."""

    dsn: str
    username: NotRequired[str]
    expires_in: NotRequired[int]


class Revoked(TypedDict):
    """True when there was such a login of this caller."""

    revoked: bool


class SqlRequest(Request):
    """One statement. Its parameters by number (`{"1": 5}` for `$1`, or a list) or by name (`{"id": 5}` for `:id`).

    `naive` names the parameters whose values hold datetimes without a time zone, which a `timestamptz` refuses.
    """

    example: ClassVar[Example] = {
        "sql": "SELECT n, n * 1.5 AS price FROM generate_series(1, $1::int) AS n",
        "params": {"1": 2},
    }

    sql: Annotated[str, StringConstraints(min_length=1, max_length=MAX_SQL), AfterValidator(sql_text)]
    params: Omit[
        Annotated[dict[str, Any], Field(max_length=MAX_PARAMETERS)]
        | Annotated[list[Any], Field(max_length=MAX_PARAMETERS)]
    ]
    naive: Omit[Annotated[list[str], Field(max_length=MAX_PARAMETERS)]]
    statement_timeout: Omit[Annotated[float, Field(gt=0, le=3600)]]


class ExecuteRequest(SqlRequest):
    """One statement, and how many rows may come back; more than 10,000 without `limit` are an error."""

    limit: Omit[Annotated[int, Field(ge=1, le=MAX_LIMIT)]]


class DsnRequest(Request):
    """For how many seconds it opens connections."""

    expires_in: Annotated[int, Field(ge=60, le=MAX_LOGIN_SECONDS)] = 3600


class RevokeRequest(Request):
    """Which login is no longer needed: the user in its DSN."""

    example: ClassVar[Example] = {"username": "dominus_s_5f0c"}

    username: Annotated[
        str,
        StringConstraints(min_length=1, max_length=128),
        AfterValidator(plain_text),
        Field(title="dsn"),
    ]


_SQL = (
    "sql_refused",
    "invalid_parameters",
    "duplicate_column",
    "invalid_statement",
    "invalid_value",
    "invalid_text",
    "unknown_table",
    "unknown_schema",
    "unknown_column",
    "unknown_type",
    "insufficient_privilege",
    "statement_timeout",
    "lock_timeout",
    "transaction_conflict",
    "raised_by_trigger",
    "wrong_state",
    "not_supported",
    "cardinality",
    "answer_too_large",
)

open_sql = Service("open", "/api/scribe")
DSN = open_sql.read(
    "dsn",
    DsnRequest,
    Dsn,
    "Make a login for another program.",
    path="open/dsn",
    method="GET",
    scope="open:write",
    retry=Retry.NEVER,
    errors=("too_many_logins", "credentials_unavailable"),
)
REVOKE = open_sql.write("revoke", RevokeRequest, Revoked, "End a login made by open.dsn.", path="open/revoke")
EXECUTE = open_sql.write(
    "execute",
    ExecuteRequest,
    Executed,
    "Run one SQL statement.",
    path="open/execute",
    errors=tuple(
        dict.fromkeys(
            (
                *_SQL,
                *STORED,
                "too_many_rows",
                "table_exists",
                "object_exists",
                "column_exists",
                "schema_exists",
                "dependent_objects",
                "no_unique_index",
                "too_many_columns",
            )
        )
    ),
)
STREAM = open_sql.read(
    "stream",
    SqlRequest,
    Streamed,
    "Read the rows of a query of any size, through a cursor.",
    path="open/stream",
    is_lines=True,
    errors=(*_SQL, "read_only"),
)
