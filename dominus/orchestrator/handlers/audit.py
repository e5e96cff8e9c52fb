"""The audit trail of secure tables: one chain of entries for each project and environment.

An entry's hash covers the hash before it and its own fields; its MAC, and that of the chain's head, are under keys that
are made of the vault's for this entry alone. PostgreSQL is given them with the entry, which it writes in the statement
that reads the rows, and keeps none: who has the database afterwards can neither change an entry nor take the last ones
away without being seen.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection, Record
    from dominus.orchestrator.handlers.context import Context

__all__ = ["OK", "Access", "Chain", "append", "noted"]

_NOTE = "SELECT dominus_secure.note($1, $2, $3, $4, $5)"
OK = "ok"
MAX_FILTERS_BYTES = 64 * 1024
"""A longer text of filters, a list of thousands of values, is an entry's by its hash and length."""
_HASHED = (
    *("project", "environment", "number", "at", "subject", "actor", "reason", "operation"),
    *("schema_name", "table_name", "filters", "row_count", "ids", "request_id", "outcome", "nonce"),
)


@dataclass(frozen=True, slots=True)
class Access:
    """What an entry says of one access."""

    operation: str
    schema: str
    table: str
    reason: str
    actor: str | None
    filters: Mapping[str, Any] | None = None
    row_count: int = 0
    ids: str | None = None
    """A JSON list."""
    outcome: str = OK
    """Or the code of the error that it ended with."""


class Chain:
    """Hashes and MACs of one project's and environment's trail."""

    def __init__(self, ctx: Context) -> None:
        self._vault = ctx.resources.vault
        self.place = (ctx.principal.project, ctx.principal.environment)

    @staticmethod
    def hash_of(before: bytes, entry: Mapping[str, Any] | Record) -> bytes:
        """Return the hash of an entry that follows the one of the hash `before`; dominus_secure.note makes the same."""
        sized = ("-" if entry[name] is None else _sized(str(entry[name])) for name in _HASHED)
        return hashlib.sha256(before + "".join(sized).encode()).digest()

    def key_of(self, nonce: str, *, is_head: bool = False) -> bytes:
        """Return the key of the MAC of one entry, or of the head that points to it."""
        purpose = b"audit head" if is_head else b"audit entry"
        project, environment = (part.encode() for part in self.place)
        return bytes.fromhex(self._vault.fingerprint(purpose, project, environment, nonce.encode()))

    def is_genuine(self, row: Record, *, is_head: bool = False) -> bool:
        """Tell whether the MAC of an entry, or of the head, is ours."""
        key = self.key_of(row["nonce"], is_head=is_head)
        inner = hashlib.sha256(key + f"{row['number']} ".encode() + row["hash"]).digest()
        return hmac.compare_digest(row["mac"].encode(), hashlib.sha256(key + inner).hexdigest().encode())


def noted(ctx: Context, sql: str, args: Sequence[Any], access: Access) -> tuple[str, list[Any]]:
    """Return a query of one row, with the columns `touched_count` and `touched`, that writes its entry, too.

    The entry, and with it the lock on the head, comes when the row is there: others' entries do not wait for the query.
    """
    entry, *keys = _arguments(ctx, access)
    first = len(args) + 1
    note = f"dominus_secure.note(${first}, s.touched_count, s.touched, ${first + 1}, ${first + 2})"
    return f"WITH s AS MATERIALIZED ({sql}) SELECT s.*, {note} FROM s", [*args, entry, *keys]


async def append(ctx: Context, connection: Connection, access: Access) -> None:
    """Write an entry in the transaction of the access, as its last statement: the others' entries wait for its end."""
    entry, *keys = _arguments(ctx, access)
    await connection.fetchval(_NOTE, entry, access.row_count, access.ids, *keys)


def _arguments(ctx: Context, access: Access) -> tuple[str, bytes, bytes]:
    chain, subject = Chain(ctx), ctx.principal.subject
    nonce = secrets.token_hex(16)
    entry = {
        "project": chain.place[0],
        "environment": chain.place[1],
        "subject": subject,
        "actor": (access.actor or "").strip() or subject,
        "reason": access.reason,
        "operation": access.operation,
        "schema_name": access.schema,
        "table_name": access.table,
        "filters": _written(access.filters),
        "request_id": ctx.request_id,
        "outcome": access.outcome,
        "nonce": nonce,
    }
    return to_json(entry).decode(), chain.key_of(nonce), chain.key_of(nonce, is_head=True)


def _sized(text: str) -> str:
    return f"{len(text)}:{text}"


def _written(filters: Mapping[str, Any] | None) -> str | None:
    if not filters:
        return None
    text = to_json(filters)
    if len(text) > MAX_FILTERS_BYTES:
        text = to_json({"$sha256": hashlib.sha256(text).hexdigest(), "$bytes": len(text)})
    return text.decode()
