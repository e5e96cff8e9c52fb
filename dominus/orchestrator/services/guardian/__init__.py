"""auth: the records of who may do what, all answered by the same few handlers."""

from __future__ import annotations

from dominus.contract import guardian as contract
from dominus.contract.guardian.entities import SECURE_TABLES
from dominus.orchestrator.handlers.registry import Handlers
from dominus.orchestrator.services.guardian.entities import entity_handlers
from dominus.orchestrator.services.guardian.links import link_handlers
from dominus.orchestrator.services.guardian.secure_tables import SecureTables

__all__ = ["handlers"]

handlers = Handlers(contract.guardian)
for calls in contract.ENTITIES:
    entity_handlers(handlers, calls, SecureTables() if calls is SECURE_TABLES else None)
for link in contract.LINKS:
    link_handlers(handlers, link)
