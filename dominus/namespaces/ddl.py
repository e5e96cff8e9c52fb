"""dominus.ddl: the shape of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast, overload

from dominus.contract import ddl as contract
from dominus.errors import ValidationError
from dominus.namespaces.base import Namespace, as_list

__all__ = ["Ddl"]

Columns = Sequence[contract.ColumnSpec | Mapping[str, Any]]
"""A mapping is what a type checker makes of the dicts of a list that stands in a variable."""


class Ddl(Namespace):
    """The shape of tables.

    Types, defaults and constraints are SQL text, which the server parses and never pastes: a text default needs
    its own quotes, `"'open'"`. Constraints are `PRIMARY KEY`, `NOT NULL`, `UNIQUE`, `CHECK (age > 0)`,
    `REFERENCES users(id) ON DELETE CASCADE`. Errors: ConflictError (`table_exists`, `column_exists`),
    ValidationError (`unknown_type`, `invalid_sql`, `invalid_name`), NotFoundError (`unknown_schema`,
    `unknown_table`). There is no `if_not_exists`: catch the ConflictError.
    """

    async def add_table(
        self,
        table: str,
        columns: Columns,
        schema: str = "public",
        *,
        timeout: float | None = None,
    ) -> contract.TableChanged:
        """Create a table: the short form of `create_table`.

        Args:
            table: its name, 1 to 63 bytes.
            columns: `{"name", "type"}` and optionally `"nullable"`, `"primary_key"`, `"unique"`, `"default"` (SQL
                text such as `NOW()` or `'pending'`) and `"constraints"`, such as `["REFERENCES users(id)"]`.
            schema: where.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: there is such a table.
            ValidationError: a type, default or constraint is not understood.

        Example:
            ```python
            await dominus.ddl.add_table(
                "invoices",
                [
                    {"name": "id", "type": "BIGSERIAL", "primary_key": True},
                    {"name": "customer", "type": "TEXT", "nullable": False},
                    {"name": "total", "type": "NUMERIC(10,2)", "constraints": ["CHECK (total >= 0)"]},
                    {"name": "status", "type": "TEXT", "default": "'open'"},
                    {"name": "placed", "type": "TIMESTAMPTZ", "default": "NOW()"},
                ],
            )
            ```
        """
        return await self.create_table(schema, table, columns, timeout=timeout)

    async def create_table(
        self,
        schema: str,
        table: str,
        columns: Columns,
        *,
        timeout: float | None = None,
    ) -> contract.TableChanged:
        """Create a table. `add_table(table, columns)` is the short form; errors and columns as there.

        Args:
            schema: where; it exists already.
            table: its name, 1 to 63 bytes.
            columns: as for `add_table`.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            columns = [{"name": "code", "type": "CHAR(2)", "primary_key": True}]
            await dominus.ddl.create_table("public", "countries", columns)
            ```
        """
        # Dicts, not models: errors then say which column they mean.
        fields: Any = [_fields(index, column) for index, column in enumerate(as_list(columns, "columns"))]
        request = contract.CreateTable(schema_=schema, table=table, columns=fields)
        return await self._call(contract.CREATE_TABLE, request, timeout=timeout)

    @overload
    async def drop_table(self, table: str, /, *, timeout: float | None = None) -> contract.TableChanged: ...
    @overload
    async def drop_table(
        self, schema: str, table: str, *, timeout: float | None = None
    ) -> contract.TableChanged: ...
    async def drop_table(
        self, schema: str, table: str | None = None, *, timeout: float | None = None
    ) -> contract.TableChanged:
        """Drop a table with all its rows: `drop_table("orders")` or `drop_table("sales", "orders")`.

        Args:
            schema: where it is, or the table itself where it stands alone.
            table: which table.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such table.
            ConflictError: other tables refer to it.

        Example:
            ```python
            await dominus.ddl.add_table("drafts", [{"name": "id", "type": "BIGINT"}])
            await dominus.ddl.drop_table("drafts")
            ```
        """
        if table is None:
            schema, table = "public", schema
        return await self._call(
            contract.DROP_TABLE, contract.DropTable(schema_=schema, table=table), timeout=timeout
        )

    async def add_column(
        self,
        *names: str,
        schema: str = "public",
        table: str | None = None,
        column: str | None = None,
        column_type: str | None = None,
        nullable: bool = True,
        default: str | None = None,
        timeout: float | None = None,
    ) -> contract.TableChanged:
        """Add a column: `add_column("orders", "status", "VARCHAR(50)", default="'pending'")`.

        Args:
            *names: table, column and type; or schema, table, column and type. All may be keywords instead.
            schema: where the table is.
            table: which table.
            column: its name, 1 to 63 bytes.
            column_type: SQL text.
            nullable: false needs a default when the table has rows.
            default: SQL text; a text needs its own quotes.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such table.
            ConflictError: there is such a column.

        Example:
            ```python
            await dominus.ddl.add_column("orders", "note", "TEXT")
            await dominus.ddl.add_column("orders", "priority", "INT", nullable=False, default="0")
            ```
        """
        if len(names) > 4:
            raise ValidationError(f"add_column: takes 4 names at most, {len(names)} are given")
        if len(names) == 4:
            schema, *rest = names
        else:
            rest = list(names)
        given = dict(zip(("table", "column", "column_type"), rest, strict=False))
        named = {"table": table, "column": column, "column_type": column_type}
        named = {name: value for name, value in named.items() if value is not None}
        if twice := given.keys() & named.keys():
            raise ValidationError(f"add_column: {', '.join(sorted(twice))} is given twice")
        given |= named
        if missing := {"table", "column", "column_type"} - given.keys():
            raise ValidationError(f"add_column: {', '.join(sorted(missing))} is missing")
        request = contract.AddColumn(
            schema_=schema,
            table=given["table"],
            column=given["column"],
            type=given["column_type"],
            nullable=nullable,
            default=default,
        )
        return await self._call(contract.ADD_COLUMN, request, timeout=timeout)


def _fields(index: int, column: Any) -> dict[str, Any]:
    fields = cast("dict[Any, Any]", column) if isinstance(column, dict) else {}
    if not fields or not all(isinstance(name, str) for name in fields):
        raise ValidationError(
            f'columns.{index}: must be a dict such as {{"name": "id", "type": "BIGSERIAL"}}'
        )
    return fields
