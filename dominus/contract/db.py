"""db: rows of tables."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NotRequired

from pydantic import Field, StringConstraints
from typing_extensions import TypedDict

from dominus.contract.codes import FILTERED, STORED, TABLE
from dominus.contract.operation import Service
from dominus.contract.request import Empty, Example, Identifier, Omit, Request, is_none

MAX_LIMIT = 10_000
"""Rows of one page: about 10 MB at 1 kB a row. `db.iterate` reads any number."""

NAIVE_KEY = "dominus:naive"
"""In a row of a stream, what `naive` is in a request: no column is called so."""

Row = dict[str, Any]
Text = Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00]*$")]
Filters = dict[str, Any]


class SchemaList(TypedDict):
    """Names, without the system's own schemas."""

    schemas: list[str]


class TableInfo(TypedDict):
    """A table or view."""

    table_name: str
    schema_name: NotRequired[str]
    type: NotRequired[str]
    estimated_rows: NotRequired[int]


class TableList(TypedDict):
    """In the order of their names."""

    tables: list[TableInfo]


class ColumnInfo(TypedDict):
    """A column; `default` is SQL text."""

    column_name: str
    data_type: NotRequired[str]
    is_nullable: NotRequired[bool]
    is_primary_key: NotRequired[bool]
    default: NotRequired[str | None]


class ColumnList(TypedDict):
    """In the order of the table."""

    columns: list[ColumnInfo]


class QueryResult(TypedDict):
    """`total` counts all matches, whatever the page; null when it was not asked for."""

    items: list[Row]
    total: NotRequired[int | None]
    limit: NotRequired[int]
    offset: NotRequired[int]


class RowPage(TypedDict):
    """One step of a walk in key order; a null `cursor` ends it."""

    items: list[Row]
    cursor: str | None


class Affected(TypedDict):
    """How many rows were changed."""

    affected_rows: int


class Inserted(TypedDict):
    """How many rows were stored."""

    inserted_count: int


class TableRequest(Request):
    """Names a table."""

    example: ClassVar[Example] = {"schema": "public", "table": "orders"}

    schema_: Annotated[Identifier, Field(alias="schema")] = "public"
    table: Identifier


class Access(TableRequest):
    """Why and by whom rows are touched; secure tables ask for it."""

    reason: Omit[Text]
    actor: Omit[Text]


class Values(Access):
    """Holds values for columns, or to compare columns with.

    `naive` names the columns whose values were datetimes without a time zone. They travel as text without an offset,
    which a `timestamptz` column would take for UTC: it refuses the columns that are named here.
    """

    naive: Omit[Annotated[list[Identifier], Field(max_length=1600)]]


class TablesRequest(Request):
    """Names a schema."""

    example: ClassVar[Example] = {"schema": "public"}

    schema_: Annotated[Identifier, Field(alias="schema")] = "public"


class QueryRequest(Values):
    """Which rows, in which order."""

    example: ClassVar[Example] = {
        **TableRequest.example,
        "filters": {"id": [1, 2]},
        "sort_by": "id",
        "sort_order": "desc",
        "limit": 1,
    }

    filters: Filters | None = None
    sort_by: str | list[str] | None = None
    sort_order: str | list[str] = "ASC"
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 100
    offset: Annotated[int, Field(ge=0, le=2**53)] = 0
    columns: Omit[Annotated[list[Identifier], Field(min_length=1, max_length=1600)]]
    count: Annotated[bool, Field(exclude_if=lambda count: count is True)] = True


class PageRequest(Values):
    """The rows after `cursor`, in the order of the key."""

    example: ClassVar[Example] = {**TableRequest.example, "page_size": 500}

    filters: Filters | None = None
    by: Omit[Annotated[list[Identifier], Field(min_length=1, max_length=32)]]
    columns: Omit[Annotated[list[Identifier], Field(min_length=1, max_length=1600)]]
    page_size: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 500
    descending: bool = False
    cursor: Omit[Annotated[str, StringConstraints(max_length=8192)]]


class InsertRequest(Values):
    """One row. On a conflict in `conflict_columns` (default: the primary key): keep or overwrite."""

    example: ClassVar[Example] = {
        **TableRequest.example,
        "data": {"id": 3, "customer": "carl", "total": "12.5000", "tags": ["new"]},
    }

    data: Row
    on_conflict: Omit[Literal["ignore", "update"]]
    conflict_columns: Omit[Annotated[list[Identifier], Field(min_length=1, max_length=32)]]


class UpdateRequest(Values):
    """New values for the rows that match; all rows only when said so."""

    example: ClassVar[Example] = {**TableRequest.example, "data": {"customer": "anne"}, "filters": {"id": 1}}

    data: Annotated[Row, Field(min_length=1)]
    filters: Filters | None = None
    all_rows: Annotated[bool, Field(exclude_if=lambda everything: not everything)] = False


class DeleteRequest(Values):
    """The rows that match; all rows only when said so."""

    example: ClassVar[Example] = {**TableRequest.example, "filters": {"id": {"gt": 1}}}

    filters: Filters | None = None
    all_rows: Annotated[bool, Field(exclude_if=lambda everything: not everything)] = False


class BulkInsertRequest(Access):
    """Rows, here or, in a streamed request, as the JSON lines after this header."""

    example: ClassVar[Example] = {
        **TableRequest.example,
        "rows": [{"id": 3, "customer": "carl"}, {"id": 4, "customer": "dora", "total": "9.90"}],
    }

    rows: Annotated[list[Row] | None, Field(exclude_if=is_none)] = None


db = Service("db", "/api/scribe")
SCHEMAS = db.read(
    "schemas", Empty, SchemaList, "List schemas.", path="schema/list", method="GET", list_key="schemas"
)
TABLES = db.read(
    "tables",
    TablesRequest,
    TableList,
    "List the tables of a schema.",
    path="data/{schema}/tables",
    method="GET",
    list_key="tables",
    errors=("unknown_schema",),
)
COLUMNS = db.read(
    "columns",
    TableRequest,
    ColumnList,
    "List the columns of a table.",
    path="data/{schema}/{table}/columns",
    method="GET",
    list_key="columns",
    errors=TABLE,
)
QUERY = db.read(
    "query",
    QueryRequest,
    QueryResult,
    "Read rows.",
    path="data/{schema}/{table}/query",
    errors=(*TABLE, *FILTERED, "invalid_sort", "answer_too_large"),
)
PAGE = db.read(
    "page",
    PageRequest,
    RowPage,
    "Read the rows after a cursor, in key order.",
    path="data/{schema}/{table}/page",
    errors=(*TABLE, *FILTERED, "invalid_cursor", "no_key", "nullable_key", "answer_too_large"),
)
INSERT = db.write(
    "insert",
    InsertRequest,
    Row,
    "Store a row.",
    path="data/{schema}/{table}/insert",
    errors=(*TABLE, *STORED, "invalid_conflict", "no_unique_index", "answer_too_large"),
)
UPDATE = db.write(
    "update",
    UpdateRequest,
    Affected,
    "Change rows.",
    path="data/{schema}/{table}/update",
    errors=(*TABLE, *FILTERED, *STORED, "all_rows"),
)
DELETE = db.write(
    "delete",
    DeleteRequest,
    Affected,
    "Delete rows.",
    path="data/{schema}/{table}/delete",
    errors=(*TABLE, *FILTERED, "all_rows", "foreign_key_violation"),
)
BULK_INSERT = db.write(
    "bulk_insert",
    BulkInsertRequest,
    Inserted,
    "Store any number of rows, all or nothing.",
    path="data/{schema}/{table}/bulk-insert",
    is_streamed=True,
    errors=(*TABLE, *STORED, "invalid_line"),
)
