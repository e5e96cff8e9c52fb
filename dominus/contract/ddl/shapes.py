"""What a change of tables says, wherever it is made: in one schema, or in those of a category."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, Field, StringConstraints
from typing_extensions import TypedDict

from dominus.contract.operation import Service
from dominus.contract.request import Example, Identifier, Omit, Request, plain_text

__all__ = [
    "CREATE_EXAMPLE",
    "SHAPES",
    "AddColumnShape",
    "AddConstraintShape",
    "AlterColumnShape",
    "CategorySlug",
    "Column",
    "ColumnSpec",
    "CreateIndexShape",
    "CreateTableShape",
    "DropColumnShape",
    "DropConstraintShape",
    "DropIndexShape",
    "DropTableShape",
    "InSchema",
    "MigrationName",
    "OperationName",
    "RenameColumnShape",
    "SchemaStructure",
    "Shape",
    "TableChanged",
    "TenantSlug",
    "Version",
    "ddl",
]

ddl = Service("ddl", "/api/smith")

SqlType = Annotated[str, StringConstraints(min_length=1, max_length=128)]
SqlText = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Definition = Annotated[str, StringConstraints(min_length=1, max_length=4000)]
Names = Annotated[list[Identifier], Field(min_length=1, max_length=32)]
TenantSlug = Annotated[str, StringConstraints(max_length=50, pattern=r"^[a-z0-9]+([_-][a-z0-9]+)*$")]
CategorySlug = TenantSlug
Version = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(plain_text)]
MigrationName = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(plain_text)]
OperationName = Literal[
    "create_table",
    "drop_table",
    "add_column",
    "drop_column",
    "alter_column",
    "rename_column",
    "create_index",
    "drop_index",
    "add_constraint",
    "drop_constraint",
]


class TableChanged(TypedDict, total=False):
    """What was done to which table. `migration_version` is its time (UTC, to the microsecond), so versions sort."""

    schema: str
    table: str
    column: str
    index: str
    constraint: str
    created: bool
    dropped: bool
    altered: bool
    renamed: bool
    truncated: bool
    executed: bool
    migration_version: str
    columns: list[dict[str, Any]]


class SchemaStructure(TypedDict):
    """The tables of a schema: columns, constraints and indexes of each."""

    schema: str
    tables: list[dict[str, Any]]


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


class InSchema(Request):
    """Names a schema."""

    schema_: Annotated[Identifier, Field(alias="schema")] = "public"


class Shape(Request):
    """A change of a table."""

    table: Identifier


class CreateTableShape(Shape):
    """A new table."""

    columns: Annotated[list[Column], Field(min_length=1, max_length=1600)]


class DropTableShape(Shape):
    """Drop a table with its rows."""


class AddColumnShape(Shape):
    """A new column."""

    column: Identifier
    type: Annotated[SqlType, Field(title="column_type")]
    nullable: bool = True
    default: Omit[SqlText]


class DropColumnShape(Shape):
    """Drop a column with its values."""

    column: Identifier


class AlterColumnShape(Shape):
    """Another type, default, or whether a column may be NULL; what is left out stays. `DROP` drops the default."""

    column: Identifier
    type: Annotated[Omit[SqlType], Field(title="new_type")]
    nullable: Omit[bool]
    default: Omit[SqlText]


class RenameColumnShape(Shape):
    """Another name for a column."""

    old_name: Identifier
    new_name: Identifier


class CreateIndexShape(Shape):
    """A new index over columns."""

    index_name: Identifier
    columns: Names
    unique: bool = False


class DropIndexShape(Request):
    """Drop an index that stands for no constraint."""

    index_name: Identifier


class AddConstraintShape(Shape):
    """A new constraint: CHECK, UNIQUE, PRIMARY KEY or FOREIGN KEY, and what follows these words."""

    constraint_name: Identifier
    constraint_type: Annotated[str, StringConstraints(min_length=1, max_length=32)]
    definition: Definition


class DropConstraintShape(Shape):
    """Drop a constraint."""

    constraint_name: Identifier


SHAPES: dict[OperationName, type[Request]] = {
    "create_table": CreateTableShape,
    "drop_table": DropTableShape,
    "add_column": AddColumnShape,
    "drop_column": DropColumnShape,
    "alter_column": AlterColumnShape,
    "rename_column": RenameColumnShape,
    "create_index": CreateIndexShape,
    "drop_index": DropIndexShape,
    "add_constraint": AddConstraintShape,
    "drop_constraint": DropConstraintShape,
}
"""What a builder's `operation` takes as `params`."""
CREATE_EXAMPLE: Example = {
    "table": "orders",
    "columns": [
        {"name": "id", "type": "bigint", "primary_key": True},
        {"name": "customer", "type": "text", "nullable": False},
    ],
}
