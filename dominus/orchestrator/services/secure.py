"""secure: the audit trail of secure tables, read and proved."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from dominus.contract import secure as contract
from dominus.contract.request import Empty
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.engines.postgres.typing import Connection, Record
from dominus.orchestrator.handlers.audit import Chain
from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.handlers.registry import Handlers

__all__ = ["handlers"]

handlers = Handlers(contract.secure)

_BATCH = 500
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
_HEAD = "SELECT number, hash, mac FROM dominus.audit_heads WHERE project = $1 AND environment = $2"
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
    query = (
        f"SELECT * FROM dominus.audit WHERE {' AND '.join(where)} ORDER BY number DESC LIMIT ${len(values)}"
    )
    try:
        rows = await ctx.resources.postgres.system.fetch(query, *values)
    except FAILURES as error:
        raise from_postgres(error) from error
    is_full = len(rows) == request.limit
    return {
        "items": [_entry(row) for row in rows],
        "cursor": str(rows[-1]["number"]) if is_full and rows[-1]["number"] > 1 else None,
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
async def verify(ctx: Context, request: Empty) -> contract.Verified:
    """From the first entry to the head, in one snapshot."""
    del request
    try:
        async with (
            ctx.resources.postgres.system.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            return await _verified(Chain(ctx), connection)
    except FAILURES as error:
        raise from_postgres(error) from error


async def _verified(chain: Chain, connection: Connection) -> contract.Verified:
    number, digest = 0, b""
    while rows := await connection.fetch(_ENTRIES, *chain.place, number, _BATCH):
        for row in rows:
            reason = _fault(chain, number, digest, row)
            if reason is not None:
                return _verdict(number, digest, number + 1, reason)
            number, digest = row["number"], row["hash"]
    head = await connection.fetchrow(_HEAD, *chain.place)
    if head is None:
        is_due = number > 0 or await connection.fetchval(_HAS_TABLES, *chain.place)
        return _verdict(number, digest, number + 1 if is_due else None, "the head is missing")
    if head["number"] > number:
        return _verdict(number, digest, number + 1, "the last entries are missing")
    if head["number"] < number or head["hash"] != digest:
        return _verdict(number, digest, number, "the head is about another entry")
    if number and not chain.is_genuine(head["mac"], number, digest, is_head=True):
        return _verdict(number, digest, number, "the head was not written by an orchestrator")
    return _verdict(number, digest, None, "")


def _fault(chain: Chain, number: int, digest: bytes, row: Record) -> str | None:
    if row["number"] != number + 1:
        return "the entry is missing"
    entry = dict(row.items()) | {"at": contract.moment(row["at"])}
    if Chain.hash_of(digest, entry) != row["hash"]:
        return "the entry was changed"
    if not chain.is_genuine(row["mac"], row["number"], row["hash"]):
        return "the entry was not written by an orchestrator"
    return None


def _verdict(number: int, digest: bytes, broken_at: int | None, reason: str) -> contract.Verified:
    is_valid = broken_at is None
    return {
        "valid": is_valid,
        "count": number,
        "hash": digest.hex(),
        "broken_at": broken_at,
        "reason": None if is_valid else reason,
    }
