"""dominus.secure: rows of secure tables, each access with a reason and an entry of the audit trail."""
# Over 350 lines for its documentation: each method is a call of db.

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Generator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dominus.contract import db as rows
from dominus.contract import secure as contract
from dominus.contract.db import Row
from dominus.contract.secure_context import SecureAccessContext
from dominus.errors import ValidationError
from dominus.namespaces.base import Namespace
from dominus.namespaces.db import Db, QueryRows
from dominus.namespaces.rows import Filters, RowLike, RowSource

if TYPE_CHECKING:
    from dominus.caller import Caller

__all__ = ["Secure", "SecureAccessContext"]


class Secure(Namespace):
    """Rows of secure tables (`auth.secure_tables`), and the trail of who touched them and why.

    Each call takes its reason from `context=`, else from `reason=` and `actor=`, else from the block that
    `access` opened. Without any, a secure table answers with SecureTableError before a row is read.
    All other parameters are those of `dominus.db`.
    """

    def __init__(self, caller: Caller, context: SecureAccessContext | None = None) -> None:
        super().__init__(caller)
        self._context = context

    @cached_property
    def _db(self) -> Db:
        return Db(self._caller)

    @contextlib.contextmanager
    def access(self, reason: str, actor: str | None = None) -> Generator[Secure]:
        """Give one reason to all calls of a block.

        Args:
            reason: why; up to 1,000 characters.
            actor: who, where that is not the token's subject.

        Example:
            ```python
            await dominus.ddl.add_table("visits", [{"name": "id", "type": "bigint", "primary_key": True}])
            await dominus.auth.secure_tables.create("visits")
            with dominus.secure.access(reason="billing run", actor="dr.ada") as secure:
                await secure.insert("visits", {"id": 1})
                print((await secure.query("visits"))["rows"])
            ```
        """
        yield Secure(self._caller, SecureAccessContext(reason, actor))

    def _why(
        self, context: SecureAccessContext | None, reason: str | None, actor: str | None
    ) -> dict[str, Any]:
        if context is not None and not isinstance(context, SecureAccessContext):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(
                f"context: must be a SecureAccessContext, not {type(context).__name__}",
                hint="SecureAccessContext(reason=..., actor=...); filters= is a keyword",
            )
        if context is not None and (reason is not None or actor is not None):
            raise ValidationError("context and reason or actor contradict each other")
        if context is None and reason is None and actor is None:
            context = self._context
        if context is not None:
            return {"reason": context.reason, "actor": context.actor}
        return {"reason": reason, "actor": actor}

    async def tables(self, schema: str = "public", *, timeout: float | None = None) -> list[rows.TableInfo]:
        """List the tables of a schema: `db.tables`.

        Args:
            schema: which schema.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            names = [table["table_name"] for table in await dominus.secure.tables()]
            ```
        """
        return await self._db.tables(schema, timeout=timeout)

    async def columns(
        self, table: str, schema: str = "public", *, timeout: float | None = None
    ) -> list[rows.ColumnInfo]:
        """List the columns of a table, which needs no reason: `db.columns`.

        Args:
            table: a table or view.
            schema: where it is.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such table or schema.

        Example:
            ```python
            names = [column["column_name"] for column in await dominus.secure.columns("people")]
            ```
        """
        return await self._db.columns(table, schema, timeout=timeout)

    async def query(
        self,
        table: str,
        context: SecureAccessContext | None = None,
        schema: str = "public",
        filters: Filters | None = None,
        sort_by: str | Sequence[str] | None = None,
        sort_order: str | Sequence[str] = "ASC",
        limit: int = 100,
        offset: int = 0,
        *,
        reason: str | None = None,
        actor: str | None = None,
        columns: Sequence[str] | None = None,
        total: bool = True,
        timeout: float | None = None,
    ) -> QueryRows[Row]:
        """Read one page of rows: `db.query`.

        Args:
            table: a secure table.
            context: reason and actor in one.
            schema: where it is.
            filters: `{column: value}`, as for `db.query`.
            sort_by: one column or several.
            sort_order: `asc` or `desc`.
            limit: rows of this page, 1 to 10,000.
            offset: rows to leave out first.
            reason: why; up to 1,000 characters, not empty.
            actor: who, where that is not the token's subject.
            columns: only these.
            total: count all matches.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            SecureTableError: there is no reason.
            AuthorizationError: the table has scopes, and the token none of them.

        Example:
            ```python
            from dominus import SecureAccessContext

            await dominus.ddl.add_table("cases", [{"name": "id", "type": "bigint", "primary_key": True}])
            await dominus.auth.secure_tables.create("cases")
            why = SecureAccessContext(reason="ward round", actor="dr.ada")
            found = await dominus.secure.query("cases", why, filters={"id": 1})
            ```
        """
        why = self._why(context, reason, actor)
        return await self._db.query(
            table,
            schema,
            filters,
            sort_by,
            sort_order,
            limit,
            offset,
            columns=columns,
            total=total,
            timeout=timeout,
            **why,
        )

    async def iterate(
        self,
        table: str,
        context: SecureAccessContext | None = None,
        schema: str = "public",
        filters: Filters | None = None,
        *,
        reason: str | None = None,
        actor: str | None = None,
        by: str | Sequence[str] | None = None,
        descending: bool = False,
        columns: Sequence[str] | None = None,
        page_size: int = 500,
        timeout: float | None = None,
    ) -> AsyncIterator[Row]:
        """Walk over rows in key order, each page an entry of the trail: `db.iterate`.

        Args:
            table: a secure table.
            context: reason and actor in one.
            schema: where it is.
            filters: `{column: value}`, as for `db.query`.
            reason: why; up to 1,000 characters, not empty.
            actor: who, where that is not the token's subject.
            by: the columns that order the walk.
            descending: walk from the greatest key.
            columns: only these.
            page_size: rows of a page, 1 to 10,000.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            SecureTableError: there is no reason.
            AuthorizationError: the table has scopes, and the token none of them.

        Example:
            ```python
            await dominus.ddl.add_table("scans", [{"name": "id", "type": "bigint", "primary_key": True}])
            await dominus.auth.secure_tables.create("scans")
            async for row in dominus.secure.iterate("scans", reason="yearly report"):
                print(row["id"])
            ```
        """
        why = self._why(context, reason, actor)
        walk = self._db.iterate(
            table,
            schema,
            filters,
            by=by,
            descending=descending,
            columns=columns,
            page_size=page_size,
            timeout=timeout,
            **why,
        )
        async for row in walk:
            yield row

    async def insert(
        self,
        table: str,
        data: RowLike,
        context: SecureAccessContext | None = None,
        schema: str = "public",
        *,
        reason: str | None = None,
        actor: str | None = None,
        timeout: float | None = None,
    ) -> Row:
        """Store a row and return it: `db.insert`.

        Args:
            table: a secure table.
            data: column to value.
            context: reason and actor in one.
            schema: where it is.
            reason: why; up to 1,000 characters, not empty.
            actor: who, where that is not the token's subject.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            SecureTableError: there is no reason.
            AuthorizationError: the table has scopes, and the token none of them.

        Example:
            ```python
            await dominus.ddl.add_table("charts", [{"name": "id", "type": "bigint", "primary_key": True}])
            await dominus.auth.secure_tables.create("charts")
            await dominus.secure.insert("charts", {"id": 1}, reason="admission", actor="dr.ada")
            ```
        """
        why = self._why(context, reason, actor)
        return await self._db.insert(table, data, schema, timeout=timeout, **why)

    async def update(
        self,
        table: str,
        data: RowLike,
        filters: Filters | None = None,
        context: SecureAccessContext | None = None,
        schema: str = "public",
        *,
        reason: str | None = None,
        actor: str | None = None,
        all_rows: bool = False,
        timeout: float | None = None,
    ) -> rows.Affected:
        """Change the rows that match: `db.update`.

        Args:
            table: a secure table.
            data: column to new value.
            filters: `{column: value}`, as for `db.query`.
            context: reason and actor in one.
            schema: where it is.
            reason: why; up to 1,000 characters, not empty.
            actor: who, where that is not the token's subject.
            all_rows: change every row.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            SecureTableError: there is no reason.
            AuthorizationError: the table has scopes, and the token none of them.

        Example:
            ```python
            await dominus.ddl.add_table("notes", [{"name": "id", "type": "bigint", "primary_key": True}])
            await dominus.auth.secure_tables.create("notes")
            await dominus.secure.update("notes", {"id": 2}, {"id": 1}, reason="correction")
            ```
        """
        why = self._why(context, reason, actor)
        return await self._db.update(table, data, filters, schema, all_rows=all_rows, timeout=timeout, **why)

    async def delete(
        self,
        table: str,
        filters: Filters | None = None,
        context: SecureAccessContext | None = None,
        schema: str = "public",
        *,
        reason: str | None = None,
        actor: str | None = None,
        all_rows: bool = False,
        timeout: float | None = None,
    ) -> rows.Affected:
        """Delete the rows that match: `db.delete`.

        Args:
            table: a secure table.
            filters: `{column: value}`, as for `db.query`.
            context: reason and actor in one.
            schema: where it is.
            reason: why; up to 1,000 characters, not empty.
            actor: who, where that is not the token's subject.
            all_rows: delete every row.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            SecureTableError: there is no reason.
            AuthorizationError: the table has scopes, and the token none of them.

        Example:
            ```python
            await dominus.ddl.add_table("withdrawals", [{"name": "id", "type": "bigint", "primary_key": True}])
            await dominus.auth.secure_tables.create("withdrawals")
            await dominus.secure.delete("withdrawals", {"id": 1}, reason="asked by the patient")
            ```
        """
        why = self._why(context, reason, actor)
        return await self._db.delete(table, filters, schema, all_rows=all_rows, timeout=timeout, **why)

    async def bulk_insert(
        self,
        table: str,
        rows: RowSource,
        context: SecureAccessContext | None = None,
        schema: str = "public",
        *,
        reason: str | None = None,
        actor: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Store any number of rows, all or nothing: `db.bulk_insert`.

        Args:
            table: a secure table.
            rows: dicts, models or dataclasses; also from an asynchronous iterator.
            context: reason and actor in one.
            schema: where it is.
            reason: why; up to 1,000 characters, not empty.
            actor: who, where that is not the token's subject.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            SecureTableError: there is no reason.
            AuthorizationError: the table has scopes, and the token none of them.

        Example:
            ```python
            await dominus.ddl.add_table("imports", [{"name": "id", "type": "bigint", "primary_key": True}])
            await dominus.auth.secure_tables.create("imports")
            await dominus.secure.bulk_insert("imports", [{"id": 1}, {"id": 2}], reason="migration")
            ```
        """
        why = self._why(context, reason, actor)
        return await self._db.bulk_insert(table, rows, schema, timeout=timeout, **why)

    async def audit(
        self,
        table: str | None = None,
        schema: str | None = None,
        *,
        actor: str | None = None,
        subject: str | None = None,
        operation: str | None = None,
        outcome: str | None = None,
        since: dt.datetime | None = None,
        until: dt.datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
        timeout: float | None = None,
    ) -> contract.AuditPage:
        """Return who touched secure tables, or tried to, and why, newest first: `{"items", "cursor"}`.

        It needs `secure:read`. A page ends before its limit where its entries are long (4 MB): go on while there is a
        `cursor`.

        Args:
            table: only accesses to this table.
            schema: only to tables of this schema.
            actor: only by this actor.
            subject: only with tokens of this subject.
            operation: `query`, `page`, `insert`, `update`, `delete`, `bulk_insert`, `create_secure_table` or
                `delete_secure_table`.
            outcome: `ok`, or the code of the error that the access ended with, such as `secure_table`.
            since: at this time or later, with a time zone.
            until: before this time, with a time zone.
            limit: 1 to 1,000 entries.
            cursor: that of the page before.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthorizationError: the token lacks `secure:read`.

        Example:
            ```python
            page = await dominus.secure.audit(operation="query", limit=20)
            for entry in page["items"]:
                print(entry["at"], entry["actor"], entry["reason"], entry["ids"])
            ```
        """
        request = contract.AuditRequest(
            table=table,
            schema_=schema,
            actor=actor,
            subject=subject,
            operation=operation,
            outcome=outcome,
            since=since,
            until=until,
            limit=limit,
            cursor=cursor,
        )
        return await self._call(contract.AUDIT, request, timeout=timeout)

    async def verify(
        self, since: contract.Verified | None = None, *, timeout: float | None = None
    ) -> contract.Verified:
        """Prove that the audit trail is whole: `{"valid", "count", "hash", "broken_at", "reason"}`.

        Args:
            since: what an earlier call gave, with `valid` true: that its last entry is still the same, and all after
                it are whole. The entries before it are not looked at again. Without it from the first entry on.
            timeout: seconds for the whole call; the client's without it. A million entries take some 15 s.

        Raises:
            ValidationError: `since` is no proof, or one that failed.

        Example:
            ```python
            proof = await dominus.secure.verify()
            assert proof["valid"], f"entry {proof['broken_at']}: {proof['reason']}"
            later = await dominus.secure.verify(since=proof)
            ```
        """
        known: Any = {}
        if since is not None:
            if not isinstance(since, dict) or not since.get("valid"):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ValidationError("since: must be what a call of verify gave that found the trail whole")
            known = {name: since.get(name) for name in ("count", "hash")}
        return await self._call(contract.VERIFY, contract.VerifyRequest(**known), timeout=timeout)
