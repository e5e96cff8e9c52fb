"""dominus.auth.secure_tables: the tables whose rows are touched with a reason only."""

from __future__ import annotations

from functools import cached_property

from dominus.contract.guardian import entities as contract
from dominus.namespaces.base import Namespace
from dominus.namespaces.entity import EntityNamespace
from dominus.namespaces.link import LinkNamespace

__all__ = ["SecureTables"]


class SecureTables(EntityNamespace[contract.SecureTable]):
    """The tables whose rows are touched with a reason only, each access written down: `dominus.secure`."""

    _calls = contract.SECURE_TABLES

    @cached_property
    def scopes(self) -> LinkNamespace[contract.Scope]:
        """The scopes of which a caller needs one; without any, whoever may use `db` may."""
        return LinkNamespace(self._caller, contract.SECURE_TABLE_SCOPES)

    async def create(
        self: Namespace, table_name: str, schema_name: str = "public", *, timeout: float | None = None
    ) -> contract.SecureTable:
        """Make a table secure: from now on nobody touches its rows without a reason, native sessions not at all.

        Args:
            table_name: a plain table without triggers, and without functions or types that users made.
            schema_name: where it is.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such table.
            ConflictError: it is secure already (`already_exists`), or cannot be (`cannot_be_secure`).

        Example:
            ```python
            await dominus.ddl.add_table("patients", [{"name": "id", "type": "bigint", "primary_key": True}])
            await dominus.auth.secure_tables.create("patients")
            found = await dominus.secure.query("patients", reason="ward round")
            await dominus.ddl.add_table("letters", [{"name": "id", "type": "bigint", "primary_key": True}])
            await dominus.auth.create_secure_table("letters")  # its flat name
            ```
        """
        fields = {"table_name": table_name, "schema_name": schema_name}
        return await self._ask(contract.SECURE_TABLES.create, timeout, **fields)
