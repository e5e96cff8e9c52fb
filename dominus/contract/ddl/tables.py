"""Changes of one schema."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints
from typing_extensions import TypedDict

from dominus.contract.codes import SHAPED, TABLE
from dominus.contract.ddl.shapes import (
    CREATE_EXAMPLE,
    AddColumnShape,
    AddConstraintShape,
    AlterColumnShape,
    CreateIndexShape,
    CreateTableShape,
    DropColumnShape,
    DropConstraintShape,
    DropIndexShape,
    DropTableShape,
    InSchema,
    OperationName,
    RenameColumnShape,
    SchemaStructure,
    Shape,
    TableChanged,
    ddl,
)
from dominus.contract.request import Example, Omit

__all__ = [
    "ADD_COLUMN",
    "ADD_CONSTRAINT",
    "ALTER_COLUMN",
    "CREATE_INDEX",
    "CREATE_TABLE",
    "DESCRIBE",
    "DROP_COLUMN",
    "DROP_CONSTRAINT",
    "DROP_INDEX",
    "DROP_TABLE",
    "EXECUTE_RAW",
    "PREVIEW_CHANGE",
    "RENAME_COLUMN",
    "TRUNCATE_TABLE",
    "AddColumn",
    "AddConstraint",
    "AlterColumn",
    "ChangePreview",
    "CreateIndex",
    "CreateTable",
    "Describe",
    "DropColumn",
    "DropConstraint",
    "DropIndex",
    "DropTable",
    "ExecuteRaw",
    "PreviewChange",
    "RenameColumn",
    "TruncateTable",
]

_ORDERS = {"schema": "public", "table": "orders"}


class CreateTable(InSchema, CreateTableShape):
    """A new table."""

    example: ClassVar[Example] = {"schema": "public", **CREATE_EXAMPLE}


class DropTable(InSchema, DropTableShape):
    """Drop a table with its rows."""

    example: ClassVar[Example] = _ORDERS


class TruncateTable(InSchema, Shape):
    """Delete all rows of a table."""

    example: ClassVar[Example] = _ORDERS


class AddColumn(InSchema, AddColumnShape):
    """A new column."""

    example: ClassVar[Example] = {**_ORDERS, "column": "state", "type": "VARCHAR(9)", "default": "'new'"}


class DropColumn(InSchema, DropColumnShape):
    """Drop a column with its values."""

    example: ClassVar[Example] = {**_ORDERS, "column": "customer"}


class AlterColumn(InSchema, AlterColumnShape):
    """Another type, default, or whether a column may be NULL."""

    example: ClassVar[Example] = {**_ORDERS, "column": "customer", "type": "VARCHAR(80)", "nullable": True}


class RenameColumn(InSchema, RenameColumnShape):
    """Another name for a column."""

    example: ClassVar[Example] = {**_ORDERS, "old_name": "customer", "new_name": "buyer"}


class CreateIndex(InSchema, CreateIndexShape):
    """A new index."""

    example: ClassVar[Example] = {**_ORDERS, "index_name": "orders_customer", "columns": ["customer"]}


class DropIndex(InSchema, DropIndexShape):
    """Drop an index."""

    example: ClassVar[Example] = {"schema": "public", "index_name": "orders_customer"}


class AddConstraint(InSchema, AddConstraintShape):
    """A new constraint."""

    example: ClassVar[Example] = {
        **_ORDERS,
        "constraint_name": "named",
        "constraint_type": "CHECK",
        "definition": "length(customer) > 0",
    }


class DropConstraint(InSchema, DropConstraintShape):
    """Drop a constraint."""

    example: ClassVar[Example] = {**_ORDERS, "constraint_name": "named"}


class ExecuteRaw(InSchema):
    """SQL that changes the shape of a schema, as base64 of UTF-8."""

    example: ClassVar[Example] = {
        "schema": "public",
        "sql": "Q1JFQVRFIFZJRVcgcmF3X3ZpZXcgQVMgU0VMRUNUIDEgQVMgYQ==",
        "down": "RFJPUCBWSUVXIHJhd192aWV3",
    }

    sql: Annotated[str, StringConstraints(min_length=1, max_length=1_500_000)]
    down: Omit[Annotated[str, StringConstraints(max_length=1_500_000)]]


class Describe(InSchema):
    """Names a schema."""

    example: ClassVar[Example] = {"schema": "public"}

    table: Annotated[Omit[str], Field(max_length=128)]


class PreviewChange(InSchema):
    """A change of a schema, as data: the fields of `params` are those of the operation."""

    example: ClassVar[Example] = {"schema": "public", "operation": "create_table", "params": CREATE_EXAMPLE}

    operation: OperationName
    params: dict[str, Any]


class ChangePreview(TypedDict):
    """What a change would run; nothing is changed. `content` holds both ways, for people."""

    schema: str
    operation: str
    name: str
    up: list[str]
    down: list[str] | None
    checksum: str
    is_reversible: bool
    content: str


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
    errors=(*TABLE, "table_is_secure", "dependent_objects"),
)
TRUNCATE_TABLE = ddl.write(
    "truncate_table",
    TruncateTable,
    TableChanged,
    "Delete all rows of a table.",
    path="schema/truncate-table",
    errors=(*TABLE, "table_is_secure", "not_supported"),
)
ADD_COLUMN = ddl.write(
    "add_column",
    AddColumn,
    TableChanged,
    "Add a column to a table.",
    path="schema/add-column",
    errors=(*SHAPED, "unknown_table", "column_exists", "not_null_violation"),
)
DROP_COLUMN = ddl.write(
    "drop_column",
    DropColumn,
    TableChanged,
    "Drop a column with its values.",
    path="schema/drop-column",
    method="DELETE",
    errors=(*TABLE, "table_is_secure", "unknown_column", "dependent_objects"),
)
ALTER_COLUMN = ddl.write(
    "alter_column",
    AlterColumn,
    TableChanged,
    "Change a column's type, default, or whether it may be NULL.",
    path="schema/alter-column",
    method="PUT",
    errors=(*SHAPED, "unknown_table", "unknown_column", "not_null_violation"),
)
RENAME_COLUMN = ddl.write(
    "rename_column",
    RenameColumn,
    TableChanged,
    "Rename a column.",
    path="schema/rename-column",
    errors=(*TABLE, "table_is_secure", "invalid_name", "unknown_column", "column_exists"),
)
CREATE_INDEX = ddl.write(
    "create_index",
    CreateIndex,
    TableChanged,
    "Create an index.",
    path="schema/create-index",
    errors=(*TABLE, "table_is_secure", "invalid_name", "unknown_column", "table_exists", "unique_violation"),
)
DROP_INDEX = ddl.write(
    "drop_index",
    DropIndex,
    TableChanged,
    "Drop an index.",
    path="schema/drop-index",
    method="DELETE",
    errors=("unknown_schema", "unknown_index", "dependent_objects"),
)
ADD_CONSTRAINT = ddl.write(
    "add_constraint",
    AddConstraint,
    TableChanged,
    "Add a constraint to a table.",
    path="schema/add-constraint",
    errors=(*SHAPED, "unknown_table", "unknown_column", "object_exists", "check_violation"),
)
DROP_CONSTRAINT = ddl.write(
    "drop_constraint",
    DropConstraint,
    TableChanged,
    "Drop a constraint.",
    path="schema/drop-constraint",
    method="DELETE",
    errors=(*TABLE, "table_is_secure", "unknown_constraint", "dependent_objects"),
)
EXECUTE_RAW = ddl.write(
    "execute_raw",
    ExecuteRaw,
    TableChanged,
    "Run SQL of your own that changes a schema.",
    path="schema/execute-raw-ddl",
    scope="ddl:admin",
    errors=(*SHAPED, "raw_refused"),
)
DESCRIBE = ddl.read(
    "describe",
    Describe,
    SchemaStructure,
    "Describe the tables of a schema: columns, constraints, indexes.",
    path="schema/describe",
    errors=("unknown_schema", "unknown_table"),
)
PREVIEW_CHANGE = ddl.read(
    "preview_change",
    PreviewChange,
    ChangePreview,
    "Show the SQL of a change of a schema, both ways; nothing is run.",
    path="schema/preview-change",
    errors=(*SHAPED, "unknown_table", "unknown_column", "unknown_index", "unknown_constraint"),
)
