"""secure: the audit trail of secure tables, read and proved."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json

from dominus.contract import secure as contract
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.engines.postgres.typing import Connection, Executor, Record
from dominus.orchestrator.handlers.audit import Chain
from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.handlers.registry import Handlers

__all__ = ["handlers"]

handlers = Handlers(contract.secure)

_BATCH = 100
"""An entry has up to 330 KB."""
_PAGE_BYTES = 4 << 20
_FIRST = -(1 << 63)
_FILTERS = {
    "table": "table_name = ${}",
    "schema_": "schema_name = ${}",
    "actor": "actor = ${}",
    "subject": "subject = ${}",
    "operation": "operation = ${}",
    "outcome": "outcome = ${}",
    "since": "at >= ${}",
    "until": "at < ${}",
}
# As many entries as the limit says, or as the bytes allow.
_PAGE = """
SELECT *
FROM (
  SELECT
    a.*,
    count(*) OVER () AS found,
    sum(octet_length(concat(a.filters, a.ids))) OVER (
      ORDER BY a.number DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS bytes_before
  FROM (SELECT * FROM dominus.audit WHERE {where} ORDER BY number DESC LIMIT ${limit}) AS a
) AS p
WHERE coalesce(p.bytes_before, 0) < {bytes}
ORDER BY p.number DESC
"""
_HEAD = "SELECT number, nonce, hash, mac FROM dominus.audit_heads WHERE project = $1 AND environment = $2"
_ENTRIES = """
SELECT *
FROM dominus.audit
WHERE project = $1 AND environment = $2 AND number > $3
ORDER BY number
LIMIT $4
"""
_HAS_TABLES = "SELECT EXISTS (SELECT FROM dominus.secure_tables WHERE project = $1 AND environment = $2)"


@handlers(contract.AUDIT)
async def audit(ctx: Context, request: contract.AuditRequest) -> contract.AuditPage:
    """Newest first, by the number of an entry."""
    where, values = ["project = $1", "environment = $2"], list[Any](Chain(ctx).place)
    given: list[tuple[str, Any]] = [(sql, getattr(request, name)) for name, sql in _FILTERS.items()]
    if request.cursor is not None:
        given.append(("number < ${}", int(request.cursor)))
    for sql, value in given:
        if value is not None:
            values.append(value)
            where.append(sql.format(len(values)))
    values.append(request.limit)
    query = _PAGE.format(where=" AND ".join(where), limit=len(values), bytes=_PAGE_BYTES)
    try:
        rows = await ctx.resources.postgres.system.fetch(query, *values)
    except FAILURES as error:
        raise from_postgres(error) from error
    is_cut = bool(rows) and rows[0]["found"] > len(rows)
    has_more = rows[-1]["number"] > 1 if is_cut or len(rows) == request.limit else False
    return {
        "items": [_entry(row) for row in rows],
        "cursor": str(rows[-1]["number"]) if has_more else None,
    }


def _entry(row: Record) -> contract.AuditEntry:
    return {
        "number": row["number"],
        "at": contract.moment(row["at"]),
        "subject": row["subject"],
        "actor": row["actor"],
        "reason": row["reason"],
        "operation": row["operation"],
        "schema": row["schema_name"],
        "table": row["table_name"],
        "filters": from_json(row["filters"]) if row["filters"] is not None else None,
        "row_count": row["row_count"],
        "ids": from_json(row["ids"]) if row["ids"] is not None else None,
        "request_id": row["request_id"],
        "outcome": row["outcome"],
    }


@handlers(contract.VERIFY)
async def verify(ctx: Context, request: contract.VerifyRequest) -> contract.Verified:
    """Most of the trail in short reads, what was written meanwhile and the head in one snapshot."""
    walk = _Walk(Chain(ctx), request.count, bytes.fromhex(request.hash))
    system = ctx.resources.postgres.system
    try:
        fault = await _walked(walk, system)
        if fault is None:
            async with (
                system.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                fault = await _walked(walk, connection) or await _fault_of_head(walk, connection)
    except FAILURES as error:
        raise from_postgres(error) from error
    broken_at, reason = fault or (None, None)
    return {
        "valid": fault is None,
        "count": walk.number,
        "hash": walk.digest.hex(),
        "broken_at": broken_at,
        "reason": reason,
    }


_Fault = tuple[int, str]
"""Where it is broken, and how."""


class _Walk:
    """The entries up to `number` are as they were written."""

    def __init__(self, chain: Chain, number: int, digest: bytes) -> None:
        self.chain = chain
        self.number, self.digest = number, digest
        self.after = number - 1 if number else _FIRST
        self._is_known_ahead = number > 0

    def fault(self, rows: Sequence[Record]) -> _Fault | None:
        """Go over entries that follow; return what is wrong with the first that is."""
        for row in rows:
            fault = self._fault_of_known(row) if self._is_known_ahead else self._fault(row)
            if fault is not None:
                return fault
            self._is_known_ahead = False
            self.number, self.digest, self.after = row["number"], row["hash"], row["number"]
        return None

    def fault_of_end(self) -> _Fault | None:
        """Return what is wrong when there is no further entry."""
        return (self.number, "the entries are fewer than they were") if self._is_known_ahead else None

    def _fault_of_known(self, row: Record) -> _Fault | None:
        if row["number"] == self.number and row["hash"] == self.digest:
            return None
        return self.number, "the entry is not the one that was verified before"

    def _fault(self, row: Record) -> _Fault | None:
        number = self.number + 1
        if row["number"] < number:
            return row["number"], "the entry was not written by an orchestrator"
        if row["number"] > number:
            return number, "the entry is missing"
        entry = dict(row.items()) | {"at": contract.moment(row["at"])}
        if Chain.hash_of(self.digest, entry) != row["hash"]:
            return number, "the entry was changed"
        if not self.chain.is_genuine(row):
            return number, "the entry was not written by an orchestrator"
        return None


async def _walked(walk: _Walk, executor: Executor) -> _Fault | None:
    is_full = True
    # Not until nothing is left: a trail that grows as fast as it is read would never be done.
    while is_full:
        rows = await executor.fetch(_ENTRIES, *walk.chain.place, walk.after, _BATCH)
        # A thread: entries may be long, and the trail is.
        fault = await asyncio.to_thread(walk.fault, rows)
        if fault is not None:
            return fault
        is_full = len(rows) == _BATCH
    return walk.fault_of_end()


async def _fault_of_head(walk: _Walk, connection: Connection) -> _Fault | None:
    number = walk.number
    head = await connection.fetchrow(_HEAD, *walk.chain.place)
    if head is None:
        is_due = number > 0 or await connection.fetchval(_HAS_TABLES, *walk.chain.place)
        return (number + 1, "the head is missing") if is_due else None
    if head["number"] > number:
        return number + 1, "the last entries are missing"
    if head["number"] < number or head["hash"] != walk.digest:
        return number, "the head is about another entry"
    if number and not walk.chain.is_genuine(head, is_head=True):
        return number, "the head was not written by an orchestrator"
    return None
