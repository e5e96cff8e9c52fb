"""dominus.ddl: recorded migrations."""

from __future__ import annotations

from collections.abc import Sequence

from dominus.contract import ddl as contract
from dominus.contract.request import Empty
from dominus.namespaces.base import Namespace, as_list

__all__ = ["Migrations"]


class Migrations(Namespace):
    """The recorded migrations of a schema."""

    async def list_migrations(
        self, schema: str = "public", *, timeout: float | None = None
    ) -> list[contract.Migration]:
        """List the migrations of a schema, oldest first, and whether each is applied.

        Of a tenant's schema also those of its category that it lacks.

        Args:
            schema: which schema.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such schema.

        Example:
            ```python
            for migration in await dominus.ddl.list_migrations("public"):
                print(migration["version"], migration["name"], migration["is_applied"])
            ```
        """
        request = contract.OfSchema(schema_=schema)
        return await self._call(contract.LIST_MIGRATIONS, request, timeout=timeout)

    async def get_current_version(
        self, schema: str = "public", *, timeout: float | None = None
    ) -> contract.SchemaVersion:
        """Say which migration of a schema was applied last: `version` is None when there is none.

        Args:
            schema: which schema.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such schema.

        Example:
            ```python
            print((await dominus.ddl.get_current_version("public"))["version"])
            ```
        """
        request = contract.OfSchema(schema_=schema)
        return await self._call(contract.GET_CURRENT_VERSION, request, timeout=timeout)

    async def get_migration_file(
        self, schema: str, version: str, *, timeout: float | None = None
    ) -> contract.MigrationFile:
        """Read a migration: `up` and `down` are its statements, `content` is both as one text.

        Args:
            schema: which schema.
            version: of which migration.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such migration.

        Example:
            ```python
            last = await dominus.ddl.get_current_version("public")
            file = await dominus.ddl.get_migration_file("public", last["version"])
            print(file["content"])
            ```
        """
        request = contract.SchemaMigration(schema_=schema, version=version)
        return await self._call(contract.GET_MIGRATION_FILE, request, timeout=timeout)

    async def migration_history(
        self, schema: str = "public", *, timeout: float | None = None
    ) -> contract.SchemaHistory:
        """List every step of a schema, up and down, with who did it and when.

        Args:
            schema: which schema.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such schema.

        Example:
            ```python
            for step in (await dominus.ddl.migration_history("public"))["migrations"]:
                print(step["at"], step["author"], step["direction"], step["name"])
            ```
        """
        request = contract.OfSchema(schema_=schema)
        return await self._call(contract.MIGRATION_HISTORY, request, timeout=timeout)

    async def apply_migration(
        self, schema: str, migration_id: str, *, timeout: float | None = None
    ) -> contract.MigrationRun:
        """Apply a migration that was rolled back, or that a tenant does not have of its category.

        Args:
            schema: which schema.
            migration_id: its version or id.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such migration.
            ConflictError: it is applied, or earlier ones of its category are not.

        Example:
            ```python
            last = await dominus.ddl.get_current_version("public")
            await dominus.ddl.rollback_migration("public", last["version"])
            await dominus.ddl.apply_migration("public", last["version"])
            ```
        """
        request = contract.ApplyMigration(schema_=schema, migration_id=migration_id)
        return await self._call(contract.APPLY_MIGRATION, request, timeout=timeout)

    async def rollback_migration(
        self, schema: str, version: str, *, timeout: float | None = None
    ) -> contract.MigrationRun:
        """Undo the migration that was applied last, by its recorded SQL. Rows that it deleted do not come back.

        Args:
            schema: which schema.
            version: of which migration.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such migration.
            ConflictError: others were applied after it, or it cannot be rolled back.

        Example:
            ```python
            last = await dominus.ddl.get_current_version("public")
            await dominus.ddl.rollback_migration("public", last["version"])
            ```
        """
        request = contract.RollbackMigration(schema_=schema, version=version)
        return await self._call(contract.ROLLBACK_MIGRATION, request, timeout=timeout)

    async def compare_versions(
        self, schemas: Sequence[str], *, timeout: float | None = None
    ) -> contract.Comparison:
        """Compare schemas: their versions, and every table, column, constraint and index that differs.

        Args:
            schemas: 2 to 50 names.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such schema.

        Example:
            ```python
            found = await dominus.ddl.compare_versions(["public", "tenant_hill"])
            print(found["identical"], found["differences"])
            ```
        """
        request = contract.Schemas(schemas=as_list(schemas, "schemas"))
        return await self._call(contract.COMPARE_VERSIONS, request, timeout=timeout)

    async def list_category_migrations(
        self, category_slug: str, *, timeout: float | None = None
    ) -> contract.MigrationList:
        """List the migrations of a category, oldest first.

        Args:
            category_slug: of which category.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such category.

        Example:
            ```python
            found = await dominus.ddl.list_category_migrations("schools")
            print(found["current_version"], len(found["migrations"]))
            ```
        """
        request = contract.OfCategory(category_slug=category_slug)
        return await self._call(contract.LIST_CATEGORY_MIGRATIONS, request, timeout=timeout)

    async def get_category_migration_file(
        self, category_slug: str, version: str, *, timeout: float | None = None
    ) -> contract.MigrationFile:
        """Read a migration of a category; in its SQL `"{schema}"` stands for the schema of a tenant.

        Args:
            category_slug: of which category.
            version: of which migration.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such migration.

        Example:
            ```python
            found = await dominus.ddl.list_category_migrations("schools")
            version = found["migrations"][0]["version"]
            print((await dominus.ddl.get_category_migration_file("schools", version))["content"])
            ```
        """
        request = contract.CategoryMigration(category_slug=category_slug, version=version)
        return await self._call(contract.GET_CATEGORY_MIGRATION_FILE, request, timeout=timeout)

    async def category_sync_status(
        self, category_slug: str, *, timeout: float | None = None
    ) -> contract.SyncStatus:
        """Say of each tenant of a category whether it is `synced`, `pending` or `failed`, and why.

        Args:
            category_slug: of which category.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such category.

        Example:
            ```python
            status = await dominus.ddl.category_sync_status("schools")
            print([tenant["tenant_slug"] for tenant in status["tenants"] if tenant["status"] != "synced"])
            ```
        """
        request = contract.OfCategory(category_slug=category_slug)
        return await self._call(contract.CATEGORY_SYNC_STATUS, request, timeout=timeout)

    async def list_public_migrations(self, *, timeout: float | None = None) -> contract.MigrationList:
        """List the migrations of the schema `public`.

        Args:
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            print((await dominus.ddl.list_public_migrations())["total"])
            ```
        """
        return await self._call(contract.LIST_PUBLIC_MIGRATIONS, Empty(), timeout=timeout)
