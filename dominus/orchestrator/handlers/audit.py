"""The audit trail of secure tables: one chain of entries for each project and environment.

An entry's hash covers the hash before it and its own fields; its MAC, and that of the chain's head, are of the vault's
keys. Who has the database alone can neither change an entry nor take the last ones away without being seen.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from dominus.contract.secure import moment

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection, Record
    from dominus.orchestrator.handlers.context import Context

__all__ = ["OK", "Access", "Chain", "append", "with_head"]

_HEAD = "SELECT number, hash, at FROM dominus_secure.head($1, $2)"
_APPEND = "SELECT dominus_secure.append($1, $2)"
OK = "ok"
MAX_FILTERS_BYTES = 64 * 1024
"""A longer text of filters, a list of thousands of values, is an entry's by its hash and length."""
_HASHED = (
    *("project", "environment", "number", "at", "subject", "actor", "reason", "operation"),
    *("schema_name", "table_name", "filters", "row_count", "ids", "request_id", "outcome"),
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
        """Return the hash of an entry that follows the one of the hash `before`."""
        fields = [entry[name] for name in _HASHED]
        return hashlib.sha256(before + to_json(fields)).digest()

    def mac_of(self, number: int, digest: bytes, *, is_head: bool = False) -> str:
        """Return the MAC of an entry, or of the head that points to it."""
        purpose = b"audit head" if is_head else b"audit entry"
        project, environment = (part.encode() for part in self.place)
        return self._vault.fingerprint(purpose, project, environment, str(number).encode(), digest)

    def is_genuine(self, mac: str, number: int, digest: bytes, *, is_head: bool = False) -> bool:
        """Tell whether a MAC is ours."""
        return hmac.compare_digest(mac.encode(), self.mac_of(number, digest, is_head=is_head).encode())


def with_head(ctx: Context, sql: str, args: Sequence[Any]) -> tuple[str, list[Any]]:
    """Return a query of one row, with a column `touched_count`, whose last three columns are the head of the chain.

    The head is locked when the row is there: others' entries do not wait for the query.
    """
    project, environment = f"${len(args) + 1}::text", f"${len(args) + 2}::text"
    depending = f"CASE WHEN s.touched_count >= 0 THEN {project} END"
    both = (
        "SELECT s.*, h.number AS head_number, h.hash AS head_hash, h.at AS head_at"
        f" FROM ({sql}) AS s, LATERAL dominus_secure.head({depending}, {environment}) AS h"
    )
    return both, [*args, *Chain(ctx).place]


async def append(ctx: Context, connection: Connection, access: Access, head: Record | None = None) -> None:
    """Write an entry in the transaction of the access, as its last statement: the others' entries wait for its end.

    `head` ends with the head of the chain, where that was read with the access (`with_head`).
    """
    chain, subject = Chain(ctx), ctx.principal.subject
    actor = (access.actor or "").strip()
    if head is None:
        head = await connection.fetchrow(_HEAD, *chain.place)
    if head is None:
        raise RuntimeError("dominus_secure.head gave no row")
    number, before, at = head[-3] + 1, head[-2], head[-1]
    entry: dict[str, Any] = {
        "project": chain.place[0],
        "environment": chain.place[1],
        "number": number,
        "at": moment(at),
        "subject": subject,
        "actor": actor or subject,
        "reason": access.reason,
        "operation": access.operation,
        "schema_name": access.schema,
        "table_name": access.table,
        "filters": _written(access.filters),
        "row_count": access.row_count,
        "ids": access.ids,
        "request_id": ctx.request_id,
        "outcome": access.outcome,
    }
    digest = Chain.hash_of(before, entry)
    stored = entry | {"hash": "\\x" + digest.hex(), "mac": chain.mac_of(number, digest)}
    await connection.execute(_APPEND, to_json(stored).decode(), chain.mac_of(number, digest, is_head=True))


def _written(filters: Mapping[str, Any] | None) -> str | None:
    if not filters:
        return None
    text = to_json(filters)
    if len(text) > MAX_FILTERS_BYTES:
        text = to_json({"$sha256": hashlib.sha256(text).hexdigest(), "$bytes": len(text)})
    return text.decode()
