"""dominus.ddl: changes of one schema."""
# Over 350 lines: most of them are the documentation of seventeen methods.

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, cast, overload

from dominus.contract import ddl as contract
from dominus.errors import ValidationError
from dominus.namespaces.base import Namespace, as_list

__all__ = ["Columns", "TableChanges", "column_fields"]

Columns = Sequence[contract.ColumnSpec | Mapping[str, Any]]
"""A mapping is what a type checker makes of the dicts of a list that stands in a variable."""


class TableChanges(Namespace):
    """Changes of one schema. Each is a recorded migration."""

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
        request = contract.CreateTable(schema_=schema, table=table, columns=column_fields(columns))
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

    async def truncate_table(
        self, schema: str, table: str, *, timeout: float | None = None
    ) -> contract.TableChanged:
        """Delete all rows of a table. Rolling it back brings no row back.

        Args:
            schema: where it is.
            table: which table.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such table.
            ValidationError: other tables refer to it.

        Example:
            ```python
            await dominus.ddl.truncate_table("public", "orders")
            ```
        """
        request = contract.TruncateTable(schema_=schema, table=table)
        return await self._call(contract.TRUNCATE_TABLE, request, timeout=timeout)

    async def drop_column(
        self, schema: str, table: str, column: str, *, timeout: float | None = None
    ) -> contract.TableChanged:
        """Drop a column with its values. Rolling it back makes an empty one again.

        Args:
            schema: where the table is.
            table: which table.
            column: which column.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ValidationError: there is no such column.
            ConflictError: a view or another table stands on it.

        Example:
            ```python
            await dominus.ddl.drop_column("public", "orders", "status")
            ```
        """
        request = contract.DropColumn(schema_=schema, table=table, column=column)
        return await self._call(contract.DROP_COLUMN, request, timeout=timeout)

    async def alter_column(
        self,
        schema: str,
        table: str,
        column: str,
        new_type: str | None = None,
        nullable: bool | None = None,
        default: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.TableChanged:
        """Change a column's type, default, or whether it may be NULL; what is not given stays.

        Args:
            schema: where the table is.
            table: which table.
            column: which column.
            new_type: SQL text; the values are cast to it.
            nullable: whether it may be NULL.
            default: SQL text; `"DROP"` removes the default.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ValidationError: a value does not fit the type, or is NULL; or there is no such column.

        Example:
            ```python
            await dominus.ddl.alter_column("public", "orders", "status", "VARCHAR(20)", default="'new'")
            ```
        """
        request = contract.AlterColumn(
            schema_=schema, table=table, column=column, type=new_type, nullable=nullable, default=default
        )
        return await self._call(contract.ALTER_COLUMN, request, timeout=timeout)

    async def rename_column(
        self, schema: str, table: str, old_name: str, new_name: str, *, timeout: float | None = None
    ) -> contract.TableChanged:
        """Give a column another name.

        Args:
            schema: where the table is.
            table: which table.
            old_name: what it is called.
            new_name: what it is to be called, 1 to 63 bytes.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: there is a column of that name.

        Example:
            ```python
            await dominus.ddl.rename_column("public", "orders", "customer", "buyer")
            ```
        """
        request = contract.RenameColumn(schema_=schema, table=table, old_name=old_name, new_name=new_name)
        return await self._call(contract.RENAME_COLUMN, request, timeout=timeout)

    async def create_index(
        self,
        schema: str,
        table: str,
        index_name: str,
        columns: Sequence[str],
        unique: bool = False,
        *,
        timeout: float | None = None,
    ) -> contract.TableChanged:
        """Create an index. The table takes no writes meanwhile.

        Args:
            schema: where the table is.
            table: which table.
            index_name: its name, 1 to 63 bytes.
            columns: 1 to 32 of the table's columns.
            unique: no two rows may have the same values.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: there is such an index, or two rows have the same values.

        Example:
            ```python
            await dominus.ddl.create_index("public", "orders", "orders_customer", ["customer"])
            ```
        """
        request = contract.CreateIndex(
            schema_=schema,
            table=table,
            index_name=index_name,
            columns=as_list(columns, "columns"),
            unique=unique,
        )
        return await self._call(contract.CREATE_INDEX, request, timeout=timeout)

    async def drop_index(
        self, schema: str, index_name: str, *, timeout: float | None = None
    ) -> contract.TableChanged:
        """Drop an index. That of a constraint goes with its constraint.

        Args:
            schema: where it is.
            index_name: which index.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such index.

        Example:
            ```python
            await dominus.ddl.create_index("public", "orders", "orders_status", ["status"])
            await dominus.ddl.drop_index("public", "orders_status")
            ```
        """
        request = contract.DropIndex(schema_=schema, index_name=index_name)
        return await self._call(contract.DROP_INDEX, request, timeout=timeout)

    async def add_constraint(
        self,
        schema: str,
        table: str,
        constraint_name: str,
        constraint_type: str,
        definition: str,
        *,
        timeout: float | None = None,
    ) -> contract.TableChanged:
        """Add a constraint, which every row must meet.

        Args:
            schema: where the table is.
            table: which table.
            constraint_name: its name, 1 to 63 bytes.
            constraint_type: `CHECK`, `UNIQUE`, `PRIMARY KEY` or `FOREIGN KEY`.
            definition: what follows: `total >= 0`, `(email)`, `(customer_id) REFERENCES people (id)`.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ValidationError: it is not understood, or a row does not meet it.

        Example:
            ```python
            await dominus.ddl.add_constraint("public", "orders", "named", "CHECK", "length(customer) > 0")
            ```
        """
        request = contract.AddConstraint(
            schema_=schema,
            table=table,
            constraint_name=constraint_name,
            constraint_type=constraint_type,
            definition=definition,
        )
        return await self._call(contract.ADD_CONSTRAINT, request, timeout=timeout)

    async def drop_constraint(
        self, schema: str, table: str, constraint_name: str, *, timeout: float | None = None
    ) -> contract.TableChanged:
        """Drop a constraint.

        Args:
            schema: where the table is.
            table: which table.
            constraint_name: which constraint.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: the table has no such constraint.

        Example:
            ```python
            await dominus.ddl.add_constraint("public", "orders", "one_each", "UNIQUE", "(customer)")
            await dominus.ddl.drop_constraint("public", "orders", "one_each")
            ```
        """
        request = contract.DropConstraint(schema_=schema, table=table, constraint_name=constraint_name)
        return await self._call(contract.DROP_CONSTRAINT, request, timeout=timeout)

    async def execute_raw(
        self, schema: str, sql: str, *, down: str | None = None, timeout: float | None = None
    ) -> contract.TableChanged:
        """Run SQL of your own that changes a schema, in one transaction. Needs the scope `ddl:admin`.

        CREATE, ALTER, DROP and COMMENT of what is in a schema, GRANT, REVOKE and TRUNCATE; several statements with
        `;` between. It runs with the rights of the data role.

        Args:
            schema: what names without a schema stand for.
            sql: the statements.
            down: what undoes them; without it they cannot be rolled back.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ValidationError: a statement is of another kind, or PostgreSQL refuses it.

        Example:
            ```python
            await dominus.ddl.execute_raw(
                "public",
                "CREATE VIEW open_orders AS SELECT * FROM orders WHERE status = 'open'",
                down="DROP VIEW open_orders",
            )
            await dominus.ddl.execute_raw("public", "DROP VIEW open_orders")
            ```
        """
        request = contract.ExecuteRaw(
            schema_=schema, sql=_encoded(sql, "sql"), down=None if down is None else _encoded(down, "down")
        )
        return await self._call(contract.EXECUTE_RAW, request, timeout=timeout)

    async def describe(
        self, schema: str = "public", table: str | None = None, *, timeout: float | None = None
    ) -> contract.SchemaStructure:
        """Describe the tables of a schema: the columns, constraints and indexes of each.

        Args:
            schema: which schema.
            table: only this table.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such schema or table.

        Example:
            ```python
            found = await dominus.ddl.describe(table="orders")
            print([column["name"] for column in found["tables"][0]["columns"]])
            ```
        """
        request = contract.Describe(schema_=schema, table=table)
        return await self._call(contract.DESCRIBE, request, timeout=timeout)

    async def preview_change(
        self,
        operation: contract.OperationName,
        params: Mapping[str, Any],
        schema: str = "public",
        *,
        timeout: float | None = None,
    ) -> contract.ChangePreview:
        """Show the SQL of a change of a table, both ways. It is read, and not run: no table is locked for it.

        What only PostgreSQL finds out as it runs the SQL, such as rows that break a constraint, is not found here.

        Args:
            operation: `create_table`, `add_column` and the other changes of a table.
            params: the fields of the operation, such as `table` and `columns`.
            schema: which schema.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such schema, or not what is to be changed.
            ValidationError: the change is not understood.

        Example:
            ```python
            column = {"table": "orders", "column": "room", "type": "TEXT"}
            print((await dominus.ddl.preview_change("add_column", column))["content"])
            ```
        """
        request = contract.PreviewChange(schema_=schema, operation=operation, params=dict(params))
        return await self._call(contract.PREVIEW_CHANGE, request, timeout=timeout)


def _encoded(sql: str, name: str) -> str:
    if not isinstance(sql, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValidationError(f"{name}: must be text, not {type(sql).__name__}")
    try:
        return base64.b64encode(sql.encode()).decode()
    except UnicodeEncodeError:
        raise ValidationError(f"{name}: holds half of a surrogate pair, which is no text") from None


def column_fields(columns: Columns) -> Any:
    """Return the columns of a request as dicts, not models: errors then say which column they mean."""
    return [_fields(index, column) for index, column in enumerate(as_list(columns, "columns"))]


def _fields(index: int, column: Any) -> dict[str, Any]:
    fields = cast("dict[Any, Any]", column) if isinstance(column, dict) else {}
    if not fields or not all(isinstance(name, str) for name in fields):
        raise ValidationError(
            f'columns.{index}: must be a dict such as {{"name": "id", "type": "BIGSERIAL"}}'
        )
    return fields
