"""ddl: the shape of tables."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, NotRequired

from pydantic import Field, StringConstraints
from typing_extensions import TypedDict

from dominus.contract.codes import SHAPED, TABLE
from dominus.contract.operation import Service
from dominus.contract.request import Example, Identifier, Omit, Request

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

    example: ClassVar[Example] = {
        "schema": "public",
        "table": "orders",
        "columns": [
            {"name": "id", "type": "bigint", "primary_key": True},
            {"name": "customer", "type": "text", "nullable": False},
        ],
    }

    columns: Annotated[list[Column], Field(min_length=1, max_length=1600)]


class DropTable(TableName):
    """Drop a table with its rows."""

    example: ClassVar[Example] = {"schema": "public", "table": "orders"}


class AddColumn(TableName):
    """A new column."""

    example: ClassVar[Example] = {
        "schema": "public",
        "table": "orders",
        "column": "state",
        "type": "VARCHAR(9)",
        "default": "'new'",
    }

    column: Identifier
    type: SqlType
    nullable: bool = True
    default: Omit[SqlText]


ddl = Service("ddl", "/api/smith")
CREATE_TABLE = ddl.write(
    "create_table",
    CreateTable,
    TableChanged,
    "Create a table.",
    path="schema/create-table",
    errors=(*SHAPED, "table_exists", "object_exists"),
)
DROP_TABLE = ddl.write(
    "drop_table",
    DropTable,
    TableChanged,
    "Drop a table with its rows.",
    path="schema/drop-table",
    method="DELETE",
    errors=(*TABLE, "dependent_objects"),
)
ADD_COLUMN = ddl.write(
    "add_column",
    AddColumn,
    TableChanged,
    "Add a column to a table.",
    path="schema/add-column",
    errors=(*SHAPED, "unknown_table", "column_exists", "not_null_violation"),
)
