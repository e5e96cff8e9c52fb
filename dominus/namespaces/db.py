"""dominus.db: rows of tables."""
# Over 350 lines for its overloads and documentation: each method is a request and a call.

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Generic, Literal, TypedDict, TypeVar, overload

import pydantic

from dominus.contract import db as contract
from dominus.contract.db import Row
from dominus.contract.request import Empty
from dominus.errors import ValidationError
from dominus.hints import iterator
from dominus.namespaces.base import Namespace, as_list
from dominus.namespaces.rows import (
    Filters,
    RowLike,
    RowSource,
    as_models,
    check_model,
    filters_of,
    lines_of,
    row_of,
)

__all__ = ["Db", "QueryRows"]

M = TypeVar("M", bound=pydantic.BaseModel)
T = TypeVar("T")
SortOrder = str | Sequence[str]


class QueryRows(TypedDict, Generic[T]):
    """`total` counts all matches, whatever the page; None with `total=False`."""

    rows: list[T]
    total: int | None


class Db(Namespace):
    """Rows of tables: each call is a transaction of its own.

    Filters are a dict, and all its entries must hold: `{"column": value}`. A value is a scalar (equal), None
    (IS NULL), a list (any of), or a dict of operators: `eq`, `ne`, `gt`, `gte`, `lt`, `lte`, `like`, `ilike`,
    `contains` (part of a text, element of an array, part of a jsonb), `is_null` (bool), `between` ([low, high],
    both included), `in`, `not_in`. Groups are `{"or": [{...}, {...}]}`, `{"and": [...]}` and `{"not": {...}}`.
    `ne`, `not_in` and `not` also find rows with NULL. At most 500 terms, 8 levels deep. A pydantic model is a filter
    too: its fields that were set.

    For joins, transactions over several statements and any other SQL there are native sessions:
    `dominus.sessions.postgres()`.

    Every method raises NotFoundError (`unknown_table`, `unknown_schema`) and ValidationError (`unknown_column`,
    with the nearest name as its hint), and takes `reason=` and `actor=`: they are for secure tables, others
    take no notice of them.
    """

    async def schemas(self, *, timeout: float | None = None) -> list[str]:
        """List the schemas, without the system's own.

        Args:
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            assert "public" in await dominus.db.schemas()
            ```
        """
        return (await self._call(contract.SCHEMAS, Empty(), timeout=timeout))["schemas"]

    async def tables(
        self, schema: str = "public", *, timeout: float | None = None
    ) -> list[contract.TableInfo]:
        """List the tables and views of a schema: dicts with `table_name`, `schema_name`, `type`.

        Args:
            schema: which schema.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such schema.

        Example:
            ```python
            for table in await dominus.db.tables():
                print(table["table_name"], table["type"])
            ```
        """
        return (await self._call(contract.TABLES, contract.TablesRequest(schema_=schema), timeout=timeout))[
            "tables"
        ]

    async def columns(
        self, table: str, schema: str = "public", *, timeout: float | None = None
    ) -> list[contract.ColumnInfo]:
        """List the columns of a table.

        Each is a dict with `column_name`, `data_type`, `is_nullable`, `is_primary_key` and `default` (SQL text).

        Args:
            table: a table or view.
            schema: where it is.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such table or schema.

        Example:
            ```python
            names = [column["column_name"] for column in await dominus.db.columns("people")]
            ```
        """
        request = contract.TableRequest(schema_=schema, table=table)
        return (await self._call(contract.COLUMNS, request, timeout=timeout))["columns"]

    @overload
    async def query(
        self,
        table: str,
        schema: str = "public",
        filters: Filters | None = None,
        sort_by: str | Sequence[str] | None = None,
        sort_order: SortOrder = "ASC",
        limit: int = 100,
        offset: int = 0,
        reason: str | None = None,
        actor: str | None = None,
        *,
        columns: Sequence[str] | None = None,
        total: bool = True,
        model: None = None,
        timeout: float | None = None,
    ) -> QueryRows[Row]: ...
    @overload
    async def query(
        self,
        table: str,
        schema: str = "public",
        filters: Filters | None = None,
        sort_by: str | Sequence[str] | None = None,
        sort_order: SortOrder = "ASC",
        limit: int = 100,
        offset: int = 0,
        reason: str | None = None,
        actor: str | None = None,
        *,
        columns: Sequence[str] | None = None,
        total: bool = True,
        model: type[M],
        timeout: float | None = None,
    ) -> QueryRows[M]: ...
    async def query(
        self,
        table: str,
        schema: str = "public",
        filters: Filters | None = None,
        sort_by: str | Sequence[str] | None = None,
        sort_order: SortOrder = "ASC",
        limit: int = 100,
        offset: int = 0,
        reason: str | None = None,
        actor: str | None = None,
        *,
        columns: Sequence[str] | None = None,
        total: bool = True,
        model: type[pydantic.BaseModel] | None = None,
        timeout: float | None = None,
    ) -> QueryRows[Any]:
        """Read one page of rows: `{"rows": [...], "total": n}`.

        Args:
            table: a table or view.
            schema: where it is.
            filters: `{column: value}`; a list means any of, a dict holds operators; all of them: `help(dominus.db)`.
            sort_by: one column or several; ties are broken by the primary key, so that pages do not overlap.
            sort_order: `asc` or `desc`, one for all columns or one for each.
            limit: rows of this page, 1 to 10,000.
            offset: rows to leave out first; `iterate` is faster for whole tables.
            reason: why, for secure tables.
            actor: who, for secure tables.
            columns: only these.
            total: count all matches; turn it off where the number is not needed.
            model: a pydantic model that the rows become.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such table or schema.
            ValidationError: there is no such column, or a value does not fit its type.

        Example:
            ```python
            found = await dominus.db.query(
                "people",
                filters={"age": {"gte": 18}, "city": ["Oslo", "Bergen"]},
                sort_by="name",
                limit=50,
            )
            print(found["total"], [row["name"] for row in found["rows"]])
            ```
        """
        check_model(model)
        naive: set[str] = set()
        request = contract.QueryRequest(
            schema_=_schema(schema),
            table=table,
            filters=filters_of(filters, naive),
            sort_by=_names(sort_by, "sort_by"),
            sort_order=sort_order if isinstance(sort_order, str) else as_list(sort_order, "sort_order"),
            limit=limit,
            offset=offset,
            reason=reason or None,
            actor=actor,
            columns=None if columns is None else as_list(columns, "columns"),
            count=total,
            naive=sorted(naive) or None,
        )
        found = await self._call(contract.QUERY, request, timeout=timeout)
        rows = found["items"]
        return {
            "rows": rows if model is None else as_models(rows, model, contract.QUERY.name),
            "total": found.get("total"),
        }

    async def page(
        self,
        table: str,
        schema: str = "public",
        filters: Filters | None = None,
        *,
        by: str | Sequence[str] | None = None,
        descending: bool = False,
        columns: Sequence[str] | None = None,
        page_size: int = 500,
        cursor: str | None = None,
        reason: str | None = None,
        actor: str | None = None,
        timeout: float | None = None,
    ) -> contract.RowPage:
        """Read the rows after `cursor` in key order: `{"items", "cursor"}`; a None cursor ends the walk.

        What `iterate` is made of; for endpoints that hand a cursor to their own callers.

        Args:
            table: a table.
            schema: where it is.
            filters: `{column: value}`, as for `query`.
            by: the columns that order the walk; the primary key without it.
            descending: walk from the greatest key.
            columns: only these.
            page_size: rows of this page, 1 to 10,000.
            cursor: that of the page before, with the same table, filters and order; the first page without it.
            reason: why, for secure tables.
            actor: who, for secure tables.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ValidationError: the cursor is not one of this walk, or the table has no key to order by.

        Example:
            ```python
            page = await dominus.db.page("people", page_size=2)
            while page["cursor"] is not None:
                page = await dominus.db.page("people", page_size=2, cursor=page["cursor"])
            ```
        """
        names = _names(by, "by")
        naive: set[str] = set()
        request = contract.PageRequest(
            schema_=_schema(schema),
            table=table,
            filters=filters_of(filters, naive),
            by=[names] if isinstance(names, str) else names,
            descending=descending,
            columns=None if columns is None else as_list(columns, "columns"),
            page_size=page_size,
            cursor=cursor,
            naive=sorted(naive) or None,
            reason=reason or None,
            actor=actor,
        )
        return await self._call(contract.PAGE, request, timeout=timeout)

    @overload
    def iterate(
        self,
        table: str,
        schema: str = "public",
        filters: Filters | None = None,
        *,
        by: str | Sequence[str] | None = None,
        descending: bool = False,
        columns: Sequence[str] | None = None,
        page_size: int = 500,
        reason: str | None = None,
        actor: str | None = None,
        model: None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[Row]: ...
    @overload
    def iterate(
        self,
        table: str,
        schema: str = "public",
        filters: Filters | None = None,
        *,
        by: str | Sequence[str] | None = None,
        descending: bool = False,
        columns: Sequence[str] | None = None,
        page_size: int = 500,
        reason: str | None = None,
        actor: str | None = None,
        model: type[M],
        timeout: float | None = None,
    ) -> AsyncIterator[M]: ...
    @iterator
    async def iterate(
        self,
        table: str,
        schema: str = "public",
        filters: Filters | None = None,
        *,
        by: str | Sequence[str] | None = None,
        descending: bool = False,
        columns: Sequence[str] | None = None,
        page_size: int = 500,
        reason: str | None = None,
        actor: str | None = None,
        model: type[pydantic.BaseModel] | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[Any]:
        """Iterate over all matching rows in key order, a page at a time, in constant memory.

        Args:
            table: a table.
            schema: where it is.
            filters: see the class.
            by: the columns that order the walk; the primary key without it.
            descending: walk from the greatest key.
            columns: only these.
            page_size: rows of a request, 1 to 10,000.
            reason: why, for secure tables.
            actor: who, for secure tables.
            model: a pydantic model that the rows become.
            timeout: seconds for each page; the client's without it.

        Raises:
            ValidationError: the table has no primary key and `by` is not given.

        Example:
            ```python
            async for person in dominus.db.iterate("people", filters={"city": "Oslo"}, page_size=1000):
                print(person["name"])
            ```
        """
        check_model(model)
        cursor: str | None = None
        while True:
            page = await self.page(
                table,
                schema,
                filters,
                by=by,
                descending=descending,
                columns=columns,
                page_size=page_size,
                cursor=cursor,
                reason=reason,
                actor=actor,
                timeout=timeout,
            )
            for row in (
                page["items"] if model is None else as_models(page["items"], model, contract.PAGE.name)
            ):
                yield row
            cursor = page["cursor"]
            if cursor is None:
                return

    async def insert(
        self,
        table: str,
        data: RowLike,
        schema: str = "public",
        reason: str | None = None,
        actor: str | None = None,
        *,
        on_conflict: Literal["ignore", "update"] | None = None,
        conflict_columns: str | Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> Row:
        """Store one row and return it, defaults included.

        Args:
            table: a table.
            data: column to value; or a pydantic model, of which the fields that were set are sent, so that the others
                get their columns' defaults; or a dataclass, all of it. Decimal, UUID and bytes survive the round
                trip. A `timestamptz` column takes datetimes with a time zone only, a `timestamp` takes both and
                gives datetimes without one.
            schema: where the table is.
            reason: why, for secure tables.
            actor: who, for secure tables.
            on_conflict: `ignore` keeps and returns the row that is there, `update` overwrites the given columns.
            conflict_columns: whose uniqueness counts; the primary key without it.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: a unique column has this value already, or a referenced row is missing.
            ValidationError: there is no such column, or a value does not fit its type.

        Example:
            ```python
            person = await dominus.db.insert("people", {"name": "Edda", "city": "Oslo"})
            print(person["id"])
            await dominus.db.insert("people", {"id": person["id"], "city": "Bergen"}, on_conflict="update")
            ```
        """
        names = _names(conflict_columns, "conflict_columns")
        naive: set[str] = set()
        request = contract.InsertRequest(
            schema_=schema,
            table=table,
            data=row_of(data, "data", naive),
            on_conflict=on_conflict,
            conflict_columns=[names] if isinstance(names, str) else names,
            naive=sorted(naive) or None,
            reason=reason or None,
            actor=actor,
        )
        return await self._call(contract.INSERT, request, timeout=timeout)

    async def update(
        self,
        table: str,
        data: RowLike,
        filters: Filters | None = None,
        schema: str = "public",
        reason: str | None = None,
        actor: str | None = None,
        *,
        all_rows: bool = False,
        timeout: float | None = None,
    ) -> contract.Affected:
        """Change the rows that match: `{"affected_rows": n}`.

        Args:
            table: a table.
            data: column to new value, at least one; of a pydantic model the fields that were set, of a dataclass all
                (see `insert`).
            filters: `{column: value}`, as for `query`.
            schema: where the table is.
            reason: why, for secure tables.
            actor: who, for secure tables.
            all_rows: change every row; only without filters.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ValidationError: no filters, and not `all_rows=True`; or a column or value does not fit.
            ConflictError: a unique column has this value already, or a referenced row is missing.

        Example:
            ```python
            done = await dominus.db.update("orders", {"status": "paid"}, filters={"customer": "ada"})
            print(done["affected_rows"])
            ```
        """
        naive: set[str] = set()
        chosen = filters_of(filters, naive)
        _refuse_all(chosen, all_rows, contract.UPDATE.name)
        request = contract.UpdateRequest(
            schema_=schema,
            table=table,
            data=row_of(data, "data", naive),
            filters=chosen,
            all_rows=all_rows,
            naive=sorted(naive) or None,
            reason=reason or None,
            actor=actor,
        )
        return await self._call(contract.UPDATE, request, timeout=timeout)

    async def delete(
        self,
        table: str,
        filters: Filters | None = None,
        schema: str = "public",
        reason: str | None = None,
        actor: str | None = None,
        *,
        all_rows: bool = False,
        timeout: float | None = None,
    ) -> contract.Affected:
        """Delete the rows that match: `{"affected_rows": n}`.

        Args:
            table: a table.
            filters: `{column: value}`, as for `query`.
            schema: where the table is.
            reason: why, for secure tables.
            actor: who, for secure tables.
            all_rows: delete every row; only without filters.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ValidationError: no filters, and not `all_rows=True`.
            ConflictError: other rows refer to them.

        Example:
            ```python
            await dominus.db.delete("orders", filters={"status": "cancelled"})
            ```
        """
        naive: set[str] = set()
        chosen = filters_of(filters, naive)
        _refuse_all(chosen, all_rows, contract.DELETE.name)
        request = contract.DeleteRequest(
            schema_=schema,
            table=table,
            filters=chosen,
            all_rows=all_rows,
            naive=sorted(naive) or None,
            reason=reason or None,
            actor=actor,
        )
        return await self._call(contract.DELETE, request, timeout=timeout)

    async def bulk_insert(
        self,
        table: str,
        rows: RowSource,
        schema: str = "public",
        reason: str | None = None,
        actor: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.Inserted:
        """Store any number of rows in one call, all or nothing: `{"inserted_count": n}`.

        Args:
            table: a table.
            rows: dicts, pydantic models or dataclasses, as for `insert`; a list, any iterable or an asynchronous
                iterator, which is streamed. Rows may name different columns: what a row leaves out gets its default.
                A list is sent again after a lost connection, an iterator is not.
            schema: where the table is.
            reason: why, for secure tables.
            actor: who, for secure tables.
            timeout: seconds for the whole call; 300 without it, since it may carry millions of rows.

        Raises:
            ValidationError: a row is wrong; `details` has its `line`, from 1, and its `column`. Nothing was stored.
            ConflictError: a unique value is there already, or a referenced row is missing; `details` as above.
                Nothing was stored.

        Example:
            ```python
            rows = ({"name": f"guest {number}", "city": "Oslo"} for number in range(1000))
            done = await dominus.db.bulk_insert("people", rows)
            assert done["inserted_count"] == 1000
            ```
        """
        request = contract.BulkInsertRequest(schema_=schema, table=table, reason=reason or None, actor=actor)
        return await self._call(
            contract.BULK_INSERT,
            request,
            timeout=BULK_TIMEOUT if timeout is None else timeout,
            lines=lines_of(rows),
        )


BULK_TIMEOUT = 300.0


def _schema(schema: object) -> Any:
    if isinstance(schema, Mapping):
        raise ValidationError("schema: a name, not a dict", hint="filters are named: filters={...}")
    return schema


def _names(value: str | Sequence[str] | None, parameter: str) -> str | list[str] | None:
    return value if value is None or isinstance(value, str) else as_list(value, parameter)


def _refuse_all(filters: Row | None, all_rows: bool, endpoint: str) -> None:
    if not filters and not all_rows:
        raise ValidationError(
            "filters: without any, all rows would be meant",
            code="filters_missing",
            endpoint=endpoint,
            hint="give filters, or all_rows=True",
        )
