"""What the client and the orchestrator agree on: one module per service."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dominus.contract.operation import Operation, Service

__all__ = ["operations", "services"]


@cache
def services() -> tuple[Service, ...]:
    """Return every service: the one list that client, server, documents and tests read."""
    from dominus.contract import (
        admin,
        auth,
        courier,
        db,
        ddl,
        files,
        guardian,
        health,
        logs,
        portal,
        redis,
        secrets,
        secure,
        sessions,
    )
    from dominus.contract import open as open_sql

    return (
        auth.auth,
        guardian.guardian,
        secrets.secrets,
        db.db,
        open_sql.open_sql,
        secure.secure,
        ddl.ddl,
        redis.redis,
        files.files,
        sessions.sessions,
        courier.courier,
        health.health,
        logs.logs,
        portal.portal,
        admin.admin,
    )


@cache
def operations() -> dict[str, Operation[Any, Any]]:
    """Return every operation by its name, in the order of the services."""
    found: dict[str, Operation[Any, Any]] = {}
    for service in services():
        for operation in service.operations:
            if operation.name in found:
                raise RuntimeError(f"operation {operation.name} is declared twice")
            found[operation.name] = operation
    return found
