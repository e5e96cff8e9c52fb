"""dominus.ddl: changes of categories."""
# Over 350 lines: most of them are the documentation of eleven methods.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from dominus.contract import ddl as contract
from dominus.namespaces.base import Namespace, as_list
from dominus.namespaces.ddl.tables import Columns, column_fields

__all__ = ["Categories"]

Target = Literal["category", "public"]


class Categories(Namespace):
    """Categories as templates: a change of one is a migration for all of its tenants.

    It is tried before it is recorded, and then applied to the tenants, each in a transaction of its own. A tenant for
    which it fails stays as it was, and the answer's `results` say why; `sync_tenants_to_latest` tries again.
    """

    async def category_create_table(
        self,
        category_slug: str,
        table: str,
        columns: Columns,
        target: Target = "category",
        *,
        timeout: float | None = None,
    ) -> contract.CategoryChanged:
        """Create a table for all tenants of a category.

        Args:
            category_slug: of which category.
            table: which table.
            columns: as for `add_table`.
            target: `category`, or `public` to change that schema instead.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such category.
            ConflictError: its tenants have such a table.
            ValidationError: a type, default or constraint is not understood.

        Example:
            ```python
            await dominus.ddl.category_create_table("schools", "pupils", [{"name": "id", "type": "BIGINT"}])
            ```
        """
        request = contract.CategoryCreateTable(
            category_slug=category_slug, table=table, columns=column_fields(columns), target=target
        )
        return await self._call(contract.CATEGORY_CREATE_TABLE, request, timeout=timeout)

    async def category_add_column(
        self,
        category_slug: str,
        table: str,
        column: str,
        column_type: str,
        nullable: bool = True,
        target: Target = "category",
        default: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.CategoryChanged:
        """Add a column for all tenants of a category.

        Args:
            category_slug: of which category.
            table: which table.
            column: its name, 1 to 63 bytes.
            column_type: SQL text.
            nullable: false needs a default when a tenant has rows.
            target: `category`, or `public` to change that schema instead.
            default: SQL text; a text needs its own quotes.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such category.
            ConflictError: the table has such a column.

        Example:
            ```python
            await dominus.ddl.category_add_column("schools", "classes", "room", "TEXT")
            ```
        """
        request = contract.CategoryAddColumn(
            category_slug=category_slug,
            table=table,
            column=column,
            type=column_type,
            nullable=nullable,
            default=default,
            target=target,
        )
        return await self._call(contract.CATEGORY_ADD_COLUMN, request, timeout=timeout)

    async def category_drop_table(
        self, category_slug: str, table: str, target: Target = "category", *, timeout: float | None = None
    ) -> contract.CategoryChanged:
        """Drop a table with its rows, of all tenants of a category.

        Args:
            category_slug: of which category.
            table: which table.
            target: `category`, or `public` to change that schema instead.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such category or table.

        Example:
            ```python
            await dominus.ddl.category_drop_table("schools", "classes")
            ```
        """
        request = contract.CategoryDropTable(category_slug=category_slug, table=table, target=target)
        return await self._call(contract.CATEGORY_DROP_TABLE, request, timeout=timeout)

    async def category_drop_column(
        self,
        category_slug: str,
        table: str,
        column: str,
        target: Target = "category",
        *,
        timeout: float | None = None,
    ) -> contract.CategoryChanged:
        """Drop a column with its values, of all tenants of a category.

        Args:
            category_slug: of which category.
            table: which table.
            column: which column.
            target: `category`, or `public` to change that schema instead.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such category or table.

        Example:
            ```python
            await dominus.ddl.category_drop_column("schools", "classes", "title")
            ```
        """
        request = contract.CategoryDropColumn(
            category_slug=category_slug, table=table, column=column, target=target
        )
        return await self._call(contract.CATEGORY_DROP_COLUMN, request, timeout=timeout)

    async def category_create_index(
        self,
        category_slug: str,
        table: str,
        index_name: str,
        columns: Sequence[str],
        unique: bool = False,
        target: Target = "category",
        *,
        timeout: float | None = None,
    ) -> contract.CategoryChanged:
        """Create an index for all tenants of a category.

        Args:
            category_slug: of which category.
            table: which table.
            index_name: its name, 1 to 63 bytes.
            columns: 1 to 32 of the table's columns.
            unique: no two rows may have the same values.
            target: `category`, or `public` to change that schema instead.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such category or table.

        Example:
            ```python
            await dominus.ddl.category_create_index("schools", "classes", "classes_title", ["title"])
            ```
        """
        request = contract.CategoryCreateIndex(
            category_slug=category_slug,
            table=table,
            index_name=index_name,
            columns=as_list(columns, "columns"),
            unique=unique,
            target=target,
        )
        return await self._call(contract.CATEGORY_CREATE_INDEX, request, timeout=timeout)

    async def get_category_structure(
        self, category_slug: str, *, timeout: float | None = None
    ) -> contract.CategoryStructure:
        """Describe the tables that the migrations of a category make.

        Args:
            category_slug: of which category.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such category.

        Example:
            ```python
            structure = await dominus.ddl.get_category_structure("schools")
            print([table["table"] for table in structure["tables"]], structure["tenant_count"])
            ```
        """
        request = contract.OfCategory(category_slug=category_slug)
        return await self._call(contract.GET_CATEGORY_STRUCTURE, request, timeout=timeout)

    async def get_category_migration_history(
        self, category_slug: str, *, timeout: float | None = None
    ) -> contract.CategoryHistory:
        """List the migrations of a category; `stored_versions` leaves out those that were deleted.

        Args:
            category_slug: of which category.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such category.

        Example:
            ```python
            print((await dominus.ddl.get_category_migration_history("schools"))["stored_versions"])
            ```
        """
        request = contract.OfCategory(category_slug=category_slug)
        return await self._call(contract.GET_CATEGORY_MIGRATION_HISTORY, request, timeout=timeout)

    async def preview_migration(
        self,
        category_slug: str,
        operation: contract.OperationName,
        params: Mapping[str, Any],
        migration_name: str,
        *,
        timeout: float | None = None,
    ) -> contract.Preview:
        """Show the SQL of a change of a category, and whom it reaches. It is tried, and nothing is changed.

        Args:
            category_slug: of which category.
            operation: `create_table`, `add_column` and the other changes of a table.
            params: the fields of the operation, such as `table` and `columns`.
            migration_name: what it is called in lists.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such category.
            ValidationError: the change is not understood, or PostgreSQL refuses it.

        Example:
            ```python
            column = {"table": "classes", "column": "room", "type": "TEXT"}
            seen = await dominus.ddl.preview_migration("schools", "add_column", column, "rooms")
            print(seen["sql_preview"], seen["affected_tenants"])
            ```
        """
        request = contract.BuilderMigration(
            category_slug=category_slug,
            operation=operation,
            params=dict(params),
            migration_name=migration_name,
        )
        return await self._call(contract.PREVIEW_MIGRATION, request, timeout=timeout)

    async def apply_builder_migration(
        self,
        category_slug: str,
        operation: contract.OperationName,
        params: Mapping[str, Any],
        migration_name: str,
        *,
        timeout: float | None = None,
    ) -> contract.BuilderApplied:
        """Make a change of a category that comes as data: any change of a table that there is.

        Args:
            category_slug: of which category.
            operation: `create_table`, `add_column` and the other changes of a table.
            params: the fields of the operation, such as `table` and `columns`.
            migration_name: what it is called in lists.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such category.
            ValidationError: the change is not understood, or PostgreSQL refuses it.

        Example:
            ```python
            check = {"table": "classes", "constraint_name": "titled", "constraint_type": "CHECK"}
            check["definition"] = "length(title) > 0"
            await dominus.ddl.apply_builder_migration("schools", "add_constraint", check, "titles")
            ```
        """
        request = contract.BuilderMigration(
            category_slug=category_slug,
            operation=operation,
            params=dict(params),
            migration_name=migration_name,
        )
        return await self._call(contract.APPLY_BUILDER_MIGRATION, request, timeout=timeout)

    async def get_builder_migration_file(
        self, category_slug: str, version_id: str, *, timeout: float | None = None
    ) -> contract.BuilderFile:
        """Read a migration of a category, a deleted one too.

        Args:
            category_slug: of which category.
            version_id: its version or id.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such migration.

        Example:
            ```python
            found = await dominus.ddl.list_category_migrations("schools")
            version = found["migrations"][0]["version"]
            print((await dominus.ddl.get_builder_migration_file("schools", version))["content"])
            ```
        """
        request = contract.CategoryVersion(category_slug=category_slug, version_id=version_id)
        return await self._call(contract.GET_BUILDER_MIGRATION_FILE, request, timeout=timeout)

    async def delete_migration(
        self, category_slug: str, version_id: str, *, timeout: float | None = None
    ) -> contract.MigrationDeleted:
        """Delete a migration of a category: new tenants do not get it, those that have it keep it.

        Needs the scope `ddl:admin`.

        Args:
            category_slug: of which category.
            version_id: its version or id.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such migration.
            ConflictError: later migrations need it.

        Example:
            ```python
            found = await dominus.ddl.list_category_migrations("schools")
            await dominus.ddl.delete_migration("schools", found["migrations"][-1]["version"])
            ```
        """
        request = contract.CategoryVersion(category_slug=category_slug, version_id=version_id)
        return await self._call(contract.DELETE_MIGRATION, request, timeout=timeout)
