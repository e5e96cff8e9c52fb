"""smith: the shape of tables."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import Field, StringConstraints
from typing_extensions import TypedDict

from dominus.contract.operation import Identifier, Omit, Operation, Request, Retry

WRITE = "ddl:write"

SqlType = Annotated[str, StringConstraints(min_length=1, max_length=128)]
SqlText = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class TableChanged(TypedDict, total=False):
    """What was done to which table. `migration_version` is its time (UTC, to the microsecond), so versions sort."""

    schema: str
    table: str
    column: str
    created: bool
    dropped: bool
    migration_version: str
    columns: list[dict[str, Any]]


class ColumnSpec(TypedDict):
    """A column as users write it; `default` and the constraints are SQL text."""

    name: str
    type: str
    nullable: NotRequired[bool]
    primary_key: NotRequired[bool]
    unique: NotRequired[bool]
    default: NotRequired[str]
    constraints: NotRequired[list[str]]


class Column(Request):
    """A column of a new table."""

    name: Identifier
    type: SqlType
    nullable: Omit[bool]
    primary_key: Omit[bool]
    unique: Omit[bool]
    default: Omit[SqlText]
    constraints: Omit[list[SqlText]]


class TableName(Request):
    """Names a table."""

    schema_: Annotated[Identifier, Field(alias="schema")] = "public"
    table: Identifier


class CreateTable(TableName):
    """A new table."""

    columns: Annotated[list[Column], Field(min_length=1, max_length=1600)]


class DropTable(TableName):
    """Drop a table with its rows."""


class AddColumn(TableName):
    """A new column."""

    column: Identifier
    type: SqlType
    nullable: bool = True
    default: Omit[SqlText]


CREATE_TABLE = Operation(
    name="ddl.create_table",
    method="POST",
    path="/api/smith/schema/create-table",
    request=CreateTable,
    result=TableChanged,
    scope=WRITE,
    retry=Retry.KEYED,
    summary="Create a table.",
)
DROP_TABLE = Operation(
    name="ddl.drop_table",
    method="DELETE",
    path="/api/smith/schema/drop-table",
    request=DropTable,
    result=TableChanged,
    scope=WRITE,
    retry=Retry.KEYED,
    summary="Drop a table with its rows.",
)
ADD_COLUMN = Operation(
    name="ddl.add_column",
    method="POST",
    path="/api/smith/schema/add-column",
    request=AddColumn,
    result=TableChanged,
    scope=WRITE,
    retry=Retry.KEYED,
    summary="Add a column to a table.",
)
