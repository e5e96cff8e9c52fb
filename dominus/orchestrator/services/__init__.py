"""The handlers of the operations, one module per service."""

from __future__ import annotations

from dominus.contract import services
from dominus.orchestrator.handlers.registry import Handler
from dominus.orchestrator.services import (
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
from dominus.orchestrator.services import open as open_sql

__all__ = ["handlers_by_operation"]

_SERVICES = (
    auth,
    guardian,
    secrets,
    db,
    open_sql,
    secure,
    ddl,
    redis,
    files,
    sessions,
    courier,
    health,
    logs,
    portal,
    admin,
)


def handlers_by_operation() -> dict[str, Handler]:
    """Return the handler of every operation of the contract.

    Raises:
        RuntimeError: an operation has none.
    """
    known = {module.handlers.service.name for module in _SERVICES}
    if missing := {service.name for service in services()} - known:
        raise RuntimeError(f"services without handlers: {', '.join(sorted(missing))}")
    return {name: handler for module in _SERVICES for name, handler in module.handlers.all().items()}
