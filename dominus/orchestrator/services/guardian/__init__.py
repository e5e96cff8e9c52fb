"""auth: the records of who may do what, all answered by the same few handlers."""

from __future__ import annotations

from dominus.contract import guardian as contract
from dominus.orchestrator.handlers.registry import Handlers
from dominus.orchestrator.services.guardian.entities import entity_handlers
from dominus.orchestrator.services.guardian.links import link_handlers

__all__ = ["handlers"]

handlers = Handlers(contract.guardian)
for entity in contract.ENTITIES:
    entity_handlers(handlers, entity)
for link in contract.LINKS:
    link_handlers(handlers, link)
