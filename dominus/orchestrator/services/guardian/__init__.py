"""auth: the records of who may do what, all answered by the same few handlers."""

from __future__ import annotations

from dominus.contract import guardian as contract
from dominus.contract.guardian.entities import SECURE_TABLES, TENANT_CATEGORIES, TENANTS
from dominus.orchestrator.handlers.registry import Handlers
from dominus.orchestrator.services.guardian.entities import entity_handlers
from dominus.orchestrator.services.guardian.links import link_handlers
from dominus.orchestrator.services.guardian.secure_tables import SecureTables
from dominus.orchestrator.services.guardian.tenancy import Categories, Tenants

__all__ = ["handlers"]

handlers = Handlers(contract.guardian)
_MORE = ((SECURE_TABLES, SecureTables), (TENANTS, Tenants), (TENANT_CATEGORIES, Categories))
"""What does more than keep records."""
for calls in contract.ENTITIES:
    its = next((made() for known, made in _MORE if known is calls), None)
    entity_handlers(handlers, calls, its)
for link in contract.LINKS:
    link_handlers(handlers, link)
